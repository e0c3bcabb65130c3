"""The causes of a game day fit the system: services that exist, runbooks that answer exactly what they break."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.health.incidents import BACKUPS
from flows.health.targets import PUBLIC
from flows.runbook.catalogue import entries
from railway.stack import SERVICES
from shared.gameday.__main__ import main
from shared.gameday.catalogue import CAUSES, chosen
from shared.gameday.causes.cause import Cause
from shared.gameday.score import INCIDENTS


@pytest.mark.parametrize("cause", CAUSES, ids=lambda one: one.key)
def test_the_runbook_that_is_expected_is_the_one_that_the_catalogue_has_for_the_incident(cause: type[Cause]) -> None:
    assert cause.service in (*SERVICES, BACKUPS, PUBLIC)
    assert set(cause.numbers) <= set(INCIDENTS)
    assert cause.aspects
    for aspect in cause.aspects:
        answers = [one.name for one in entries() if one.answers(cause.service, aspect) and one.kind != "manual"]
        assert answers[:1] == [cause.runbook] if cause.runbook else not answers, f"{cause.service}/{aspect}"


def test_every_incident_of_the_list_is_caused() -> None:
    assert {number for cause in CAUSES for number in cause.numbers} == set(INCIDENTS)


def test_each_cause_has_a_key_of_its_own() -> None:
    assert len({one.key for one in CAUSES}) == len(CAUSES)


def test_causes_are_chosen_by_key_and_a_key_that_does_not_exist_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [one.key for one in chosen("postgres-down, redis-policy")] == ["postgres-down", "redis-policy"]
    assert list(chosen("")) == list(CAUSES)
    assert main(["--only", "redis-polices", "--report", str(tmp_path / "report.json")]) == 2
    assert "there is no cause 'redis-polices', expected one of redis-policy" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
