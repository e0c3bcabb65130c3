"""Which runs people are told of, how badly, and in what words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from flows.alert.run import RunFacts, case_of, one_line, reason_to_be_silent, severity_of

RUN = UUID("11111111-2222-3333-4444-555555555555")


def facts(**changes: Any) -> RunFacts:
    fields: dict[str, Any] = {
        "id": RUN,
        "name": "clever-otter",
        "flow": "backup",
        "deployment": "backup/nightly",
        "tags": frozenset({"backup"}),
        "state": "Failed",
        "present": "Failed",
        "message": "Flow run encountered an exception: BackupFailed: pg_dump 15 cannot dump a 16 server\nTraceback ...",
        "at": datetime(2026, 11, 24, 3, 0, tzinfo=UTC),
    }
    return RunFacts(**{**fields, **changes})


def test_the_line_is_the_errors_first_without_prefects_preamble() -> None:
    assert one_line(facts()) == "clever-otter: BackupFailed: pg_dump 15 cannot dump a 16 server"


@pytest.mark.parametrize(
    ("state", "words"),
    [("Late", "is a worker online"), ("Crashed", "worker's log"), ("TimedOut", "longer"), ("Paused", "approve or reject")],
)
def test_a_state_without_a_message_is_explained(state: str, words: str) -> None:
    assert words in one_line(facts(state=state, message=""))


def test_an_endless_message_is_cut() -> None:
    assert len(one_line(facts(message="x" * 10_000))) <= 400


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, "error"),
        ({"state": "Late"}, "warning"),
        ({"state": "Crashed"}, "error"),
        ({"state": "Paused", "tags": frozenset({"restore", "destructive"})}, "warning"),
        ({"tags": frozenset({"restore", "destructive"})}, "critical"),
    ],
)
def test_what_may_have_left_data_half_changed_is_worst(changes: dict[str, Any], severity: str) -> None:
    assert severity_of(facts(**changes)) == severity


def test_a_late_run_that_has_begun_meanwhile_is_not_told() -> None:
    """After an outage of the worker every run was late for a while; they all begin at once."""
    assert "not late any more" in reason_to_be_silent(facts(state="Late", present="Running"), "alert")
    assert reason_to_be_silent(facts(state="Late", present="Late"), "alert") == ""


@pytest.mark.parametrize("state", ["Paused", "Suspended"])
def test_a_run_that_waits_for_a_person_is_told_each_time_it_waits_and_not_once_it_was_answered(state: str) -> None:
    first = facts(state=state, present=state)
    assert reason_to_be_silent(first, "alert") == ""
    assert "does not wait" in reason_to_be_silent(facts(state=state, present="Running"), "alert")
    again = facts(state=state, present=state, at=datetime(2026, 11, 24, 3, 5, tzinfo=UTC))
    assert case_of(first, "prod").key != case_of(again, "prod").key
    assert case_of(first, "prod").key.split("/")[-2:] == [str(RUN), state], "Slack's buttons find the run there"


def test_the_alert_flow_is_never_told_of_by_itself() -> None:
    assert "never end" in reason_to_be_silent(facts(flow="alert"), "alert")


def test_a_run_and_a_state_are_one_case() -> None:
    assert case_of(facts(), "prod").key == f"prod/run/{RUN}/Failed"
    assert case_of(facts(state="Crashed"), "prod").key != case_of(facts(), "prod").key
    assert case_of(facts(), "prod").over
