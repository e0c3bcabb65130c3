"""The score of a game day, its table and its file: from values, without a stack."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from shared.gameday.report import Report
from shared.gameday.score import Outcome, exit_status, missing, summary

GOOD = Outcome(
    key="redis-policy",
    numbers=(2,),
    what="the policy of a cache",
    kind="automatic",
    detected_s=31.26,
    sweeps=2,
    diagnosed=True,
    healed_s=90.0,
    done=("set maxmemory-policy noeviction: it is",),
)
ASKS = replace(GOOD, key="failed-migration", numbers=(8,), kind="asks")


@pytest.mark.parametrize(
    "bad",
    [
        replace(GOOD, detected_s=None, healed_s=None, diagnosed=False),
        replace(GOOD, healed_s=None),
        replace(GOOD, diagnosed=False),
        replace(GOOD, problems=("another incident was opened",)),
    ],
    ids=["not detected", "not healed", "wrong diagnosis", "something else"],
)
def test_what_is_automatic_and_not_as_it_should_be_is_a_failure(bad: Outcome) -> None:
    assert (GOOD.ok, bad.ok) == (True, False)
    assert exit_status([GOOD, bad]) == 1
    assert summary([GOOD, bad, ASKS]) == "2 of 3 as it should be; of 2 whose runbook is automatic 1 healed"


def test_only_what_is_automatic_decides_and_a_day_without_any_cause_proves_nothing() -> None:
    assert exit_status([GOOD, replace(ASKS, healed_s=None)]) == 0
    assert exit_status([]) == 1


def test_the_incidents_that_were_not_caused_are_named() -> None:
    left = missing([GOOD, ASKS])
    assert (len(left), 2 in left, 8 in left, 23 in left) == (21, False, False, True)


def test_the_file_has_a_row_for_each_cause_and_is_there_before_the_day_is_over(tmp_path: Path) -> None:
    path = tmp_path / "gameday-report.json"
    report = Report(path, Console(file=StringIO(), width=150))
    report.add(GOOD)
    report.add(replace(GOOD, key="redis-down", problems=("it is still down",)))
    rows = json.loads(path.read_text())["incidents"]
    assert [row["key"] for row in rows] == ["redis-policy", "redis-down"]
    wanted = {"class": "automatic", "detected_s": 31.3, "diagnosed": True, "healed_s": 90.0, "ok": True}
    assert wanted.items() <= rows[0].items()
    assert (rows[1]["ok"], rows[1]["problems"]) == (False, ["it is still down"])


def test_the_table_says_of_each_cause_when_it_was_seen_what_was_done_and_what_is_wrong(tmp_path: Path) -> None:
    shown = StringIO()
    report = Report(tmp_path / "gameday-report.json", Console(file=shown, width=220))
    report.add(GOOD)
    report.add(replace(GOOD, key="redis-down", detected_s=None, healed_s=None, diagnosed=False, problems=("[never] seen",)))
    report.finish()
    text = shown.getvalue()
    assert "31 s, 2 sweeps" in text
    assert "set maxmemory-policy noeviction: it is" in text
    assert "[never] seen" in text
    assert "Score: 1 of 2 as it should be" in text
    assert "Not caused this time, of the 23 incidents of the list: 1, 3, 4," in text
