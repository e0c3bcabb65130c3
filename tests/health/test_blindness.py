"""A service of which nothing is known: no incident at first, one of its own after a while, never for being down."""

from __future__ import annotations

from datetime import timedelta

from flows.health.dependencies import BLIND
from flows.health.policy import Policy
from flows.health.state import State
from flows.health.verdicts import Word
from flows.health.windows import Window
from tests.health.sweeps import BEGAN, EVERY, OK, UNKNOWN, Watch, kinds, observation

SOON = Policy(blind_after=timedelta(minutes=5))
OPENED = 5 + SOON.failure_threshold
"""Sweeps until the incident: minutes until unknown counts, and the threshold from there on."""


def test_unknown_for_long_is_an_incident_of_its_own_and_the_verdict_stays_unknown() -> None:
    watch = Watch(SOON)
    assert watch.rows(litellm="?" * (OPENED - 1)) == []
    (opened,) = watch.rows(litellm="?")
    assert (opened.kind, opened.incident.service, opened.incident.aspect) == ("opened", "litellm", BLIND)
    assert opened.incident.severity == "error", "it may be down, and nobody would know"
    assert (
        "since 2026-11-25 12:00 UTC how it is, so it may be down unnoticed: litellm answer is unknown"
        in opened.incident.sentence
    )
    assert watch.last is not None
    verdict = watch.last.verdicts["litellm"]
    assert (verdict.word, verdict.sentence, verdict.consecutive_failures) == (Word.UNKNOWN, "litellm answer is unknown", 0)
    assert [one.aspect for one in verdict.observations] == ["answer"]
    assert kinds(watch.rows(litellm="?" * 40)) == ["reminded", "escalated"]


def test_it_ends_when_the_service_is_seen_again_however_it_is() -> None:
    watch = Watch(SOON)
    watch.rows(litellm="?" * OPENED)
    assert kinds(watch.rows(litellm="..")) == ["closed"]
    assert watch.state.blind == {}
    watch.rows(litellm="." * 20)
    assert watch.state.tracks == {}
    watch = Watch(SOON)
    watch.rows(redis="?" * OPENED)
    said = watch.rows(redis="DDD")
    assert [(one.kind, one.incident.aspect) for one in said] == [("closed", BLIND), ("opened", "answer")]


def test_one_sweep_that_sees_begins_the_time_anew() -> None:
    watch = Watch(SOON)
    assert watch.rows(minio="?" * (OPENED - 1) + "." + "?" * (OPENED - 1)) == []
    assert kinds(watch.rows(minio="?")) == ["opened"]


def test_who_cannot_be_seen_because_what_it_needs_is_down_is_a_casualty() -> None:
    watch = Watch(SOON)
    watch.rows(prefect_server="D" * 30, prefect_worker="?" * 30)
    assert set(watch.opened) == {"prefect-server"}
    watch.rows(prefect_server="." * 20, prefect_worker="?" * 20)
    assert watch.opened == ["prefect-server", "prefect-worker"]


def test_a_part_that_cannot_be_seen_is_no_blindness() -> None:
    watch = Watch(SOON)
    for _ in range(30):
        assert watch.observe([observation("litellm", "liveness", OK), observation("litellm", "cache", UNKNOWN)]) == []


def test_a_service_that_was_down_and_cannot_be_seen_any_more_keeps_its_one_incident() -> None:
    watch = Watch(SOON)
    watch.rows(redis="DDD" + "?" * 30)
    assert watch.opened == ["redis"]
    assert watch.open["redis"].aspect == "answer"
    assert kinds(watch.rows(redis="..."))[-1] == "closed"
    assert watch.state.incidents == ()


def test_planned_work_opens_no_blindness_and_it_is_counted_from_its_end() -> None:
    watch = Watch(SOON)
    watch.windows = [Window(id="w", services=("redis",), begins_at=BEGAN, ends_at=BEGAN + 20 * EVERY)]
    assert watch.rows(redis="?" * 20) == []
    assert watch.rows(redis="?" * (SOON.failure_threshold - 1)) == []
    assert kinds(watch.rows(redis="?")) == ["opened"]


def test_a_restart_between_sweeps_forgets_nothing_of_it() -> None:
    watch = Watch(SOON)
    for _ in range(OPENED):
        watch.sweep({"clickhouse": UNKNOWN})
        watch.state = State.from_text(watch.state.to_text(), "test")
    assert watch.opened == ["clickhouse"]


def test_a_memory_of_before_there_was_blindness_is_still_read() -> None:
    text = Watch().state.to_text()
    assert "blind" not in text
    assert State.from_text(text, "test").blind == {}
