"""The judgement of one service: thresholds, recovery, reminders, escalation, severity, windows. Causes: test_causes.py."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest

from flows.health.observation import Status
from flows.health.policy import Policy
from flows.health.state import State
from flows.health.verdicts import Word
from flows.health.windows import Window
from tests.health.sweeps import BEGAN, DEGRADED, DOWN, EVERY, OK, UNKNOWN, Watch, kinds, observation

# --- the predecessor's defects (its monitor never alerted, never repeated, forgot everything) --------------------------------


def test_fifty_failing_rounds_alert_once_remind_and_escalate() -> None:
    """Its condition could never be true with a threshold of three: fifty failing rounds, no alert."""
    watch = Watch()
    watch.rows(litellm="D" * 50)
    assert kinds(watch.happenings) == ["opened", "reminded", "escalated", "reminded"]
    assert [happening.incident.opened_at for happening in watch.happenings] == [BEGAN + 2 * EVERY] * 4


@pytest.mark.parametrize("threshold", [1, 2, 3, 5])
def test_an_incident_opens_at_the_threshold_whatever_it_is(threshold: int) -> None:
    watch = Watch(Policy(failure_threshold=threshold))
    assert watch.rows(redis="D" * (threshold - 1) or ".") == []
    assert kinds(watch.sweep({"redis": DOWN})) == ["opened"]


def test_reminders_come_each_cooldown_for_an_hour_and_then_less_often() -> None:
    """Its cool-down was dead code."""
    watch = Watch(Policy(escalate_after=timedelta(days=9)))
    watch.rows(redis="D" * (24 * 60))
    said = [happening.at for happening in watch.happenings]
    pauses = [(after - before) / timedelta(minutes=15) for before, after in pairwise(said)]
    assert pauses == [1, 1, 1, 1, 2, 4, 8, 16, 16, 16, 16]
    assert [incident.reminders for incident in watch.of_kind("reminded")] == list(range(1, 12))


def test_a_recovery_is_told_once_and_says_how_long_it_was() -> None:
    watch = Watch()
    said = watch.rows(litellm="DDDDDDDD....")
    assert kinds(said) == ["opened", "closed"]
    assert said[1].incident.key == said[0].incident.key
    assert said[1].incident.closed_at == said[1].at
    assert said[1].note == "recovered after 7 min"
    assert watch.state.incidents == ()
    assert watch.state.closed == (said[1].incident,)


def test_a_401_that_is_right_is_well_and_a_gateway_that_stays_degraded_is_an_incident() -> None:
    """It called LiteLLM's 401 degraded for ever, and degraded never alerted."""
    watch = Watch()
    assert watch.rows(litellm="." * 50) == []
    assert watch.last is not None
    assert watch.last.verdicts["litellm"].word is Word.UP
    assert kinds(watch.rows(litellm="ddd")) == ["opened"]
    assert watch.open["litellm"].severity == "warning"


def test_a_restart_between_any_two_sweeps_changes_nothing() -> None:
    """It kept everything in memory, and a restart forgot it."""
    rows = {"postgres": "..DDDDD.D...d...D.D.D.D.D.........", "litellm": "..DDDDDDDDDDDD..ddddd...?...DDD..."}
    steady, restarted = Watch(), Watch()
    for place in range(34):
        row = {name: letters[place] for name, letters in rows.items()}
        steady.rows(**row)
        restarted.rows(**row)
        restarted.state = State.from_text(restarted.state.to_text(), "test")
        assert restarted.state == steady.state
    assert restarted.happenings == steady.happenings
    assert {"opened", "closed"} <= set(kinds(steady.happenings))


# --- thresholds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["DD.DD.DD.", "dd.", "D", "DD..........dd....."])
def test_what_passes_before_the_threshold_is_no_incident(row: str) -> None:
    watch = Watch(Policy(flap_high=1.0))
    assert watch.rows(minio=row) == []


def test_one_good_sweep_is_no_recovery() -> None:
    assert kinds(Watch().rows(minio="DDDDD.DDD.DDD")) == ["opened"]


@pytest.mark.parametrize("row", ["???????", "D?????", "DD???????", "??D?D??"])
def test_unknown_never_counts_as_down(row: str) -> None:
    assert Watch().rows(minio=row) == []


@pytest.mark.parametrize("row", ["DDD????????????", "DDD.??????????", "DDD?.?????????D.???"])
def test_unknown_never_counts_as_up(row: str) -> None:
    watch = Watch()
    assert kinds(watch.rows(minio=row)) == ["opened"]
    assert kinds(watch.rows(minio="..")) == ["closed"]


def test_unknown_between_bad_sweeps_does_not_begin_the_count_anew() -> None:
    assert kinds(Watch().rows(minio="D??D?D")) == ["opened"]
    assert kinds(Watch().rows(minio="d??d?d")) == ["opened"]


def test_an_aspect_that_was_down_and_cannot_be_seen_does_not_end_the_incident_because_another_is_well() -> None:
    watch = Watch()
    for _ in range(3):
        watch.observe([observation("redis", "ping", DOWN), observation("redis", "policy", UNKNOWN)])
    for _ in range(10):
        watch.observe([observation("redis", "ping", UNKNOWN), observation("redis", "policy", OK)])
    assert kinds(watch.happenings) == ["opened"]


def test_a_service_that_fails_by_another_aspect_each_time_is_down_all_the_same() -> None:
    watch = Watch()
    for aspect in ("ready", "health", "ready"):
        seen = dict.fromkeys(("ready", "health"), OK) | {aspect: DOWN}
        watch.observe([observation("langfuse-web", name, status) for name, status in seen.items()])
    assert kinds(watch.happenings) == ["opened"]


# --- one incident a service that is down, one an aspect that is degraded ------------------------------------------------------


def test_all_aspects_of_a_dead_service_are_one_incident() -> None:
    watch = Watch()
    for _ in range(10):
        watch.observe([observation("postgres", aspect, DOWN) for aspect in ("connect", "slots", "sizes")])
    assert kinds(watch.happenings) == ["opened"]


def test_another_sentence_of_the_same_aspect_is_the_same_incident_and_is_shown() -> None:
    watch = Watch()
    for number in range(6):
        watch.observe([observation("clickhouse", "disk", DEGRADED, f"disk {80 + number} % full,\nexpected at most 80 %")])
    assert kinds(watch.happenings) == ["opened"]
    assert watch.open["clickhouse"].sentence == "disk 85 % full, expected at most 80 %"


def test_two_aspects_that_are_degraded_are_two_incidents() -> None:
    watch = Watch()
    for _ in range(5):
        watch.observe([observation("postgres", aspect, DEGRADED) for aspect in ("slots", "sizes")])
    assert sorted(incident.aspect for incident in watch.of_kind("opened")) == ["sizes", "slots"]


def test_an_aspect_found_bad_while_the_service_was_down_opens_after_the_threshold_again() -> None:
    watch = Watch()
    for _ in range(5):
        watch.observe([observation("redis", "ping", DOWN), observation("redis", "policy", DEGRADED)])
    said = [watch.observe([observation("redis", "ping", OK), observation("redis", "policy", DEGRADED)]) for _ in range(6)]
    assert [kinds(one) for one in said] == [[], ["closed"], [], [], ["opened"], []]
    assert [incident.aspect for incident in watch.of_kind("opened")] == ["ping", "policy"]


def test_hidden_aspects_of_a_dead_service_keep_their_incident_without_reminders() -> None:
    watch = Watch(Policy(escalate_after=timedelta(days=1)))
    for _ in range(3):
        watch.observe([observation("postgres", "connect", OK), observation("postgres", "slots", DEGRADED)])
    for _ in range(60):
        watch.observe([observation("postgres", "connect", DOWN)])
    for _ in range(5):
        watch.observe([observation("postgres", "connect", OK), observation("postgres", "slots", OK)])
    slots = [h.kind for h in watch.happenings if h.incident.aspect == "slots"]
    assert slots == ["opened", "closed"]


def test_an_aspect_that_is_not_looked_at_any_more_is_given_up() -> None:
    watch = Watch()
    for _ in range(3):
        watch.observe([observation("litellm", "cache", DEGRADED), observation("litellm", "liveness", OK)])
    for _ in range(19):
        assert "closed" not in kinds(watch.observe([observation("litellm", "liveness", OK)]))
    closed = watch.observe([observation("litellm", "liveness", OK)])
    assert kinds(closed) == ["closed"]
    assert "no longer watched" in closed[0].note


# --- severity ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "status", "severity"),
    [
        ("postgres", DOWN, "critical"),
        ("clickhouse", DOWN, "critical"),
        ("redis", DOWN, "critical"),
        ("minio", DOWN, "critical"),
        ("litellm", DOWN, "critical"),
        ("langfuse-web", DOWN, "error"),
        ("langfuse-worker", DOWN, "error"),
        ("prefect-server", DOWN, "error"),
        ("prefect-worker", DOWN, "error"),
        ("litellm", DEGRADED, "warning"),
        ("backups", DEGRADED, "error"),
        ("backups", DOWN, "error"),
    ],
)
def test_severity_follows_from_service_and_status(service: str, status: Status, severity: str) -> None:
    watch = Watch(Policy(failure_threshold=1))
    watch.observe([observation(service, "answer", status)])
    assert watch.open[service].severity == severity


def test_a_severity_that_rises_is_said_once_and_never_taken_back() -> None:
    watch = Watch()
    said = watch.rows(litellm="dddddDDDDDDdddddDDDDD")
    assert kinds(said) == ["opened", "escalated"]
    assert said[1].note == "was warning, is critical"
    assert [happening.incident.severity for happening in said] == ["warning", "critical"]
    assert watch.open["litellm"].severity == "critical"
    assert len({happening.incident.key for happening in said}) == 1


def test_one_sweep_of_down_does_not_raise_what_is_degraded() -> None:
    assert kinds(Watch().rows(litellm="dddddDdddDDdd")) == ["opened"]


def test_escalation_comes_once_after_its_time() -> None:
    watch = Watch(Policy(cooldown=timedelta(hours=2), escalate_after=timedelta(minutes=30)))
    watch.rows(minio="D" * 100)
    assert kinds(watch.happenings) == ["opened", "escalated"]
    assert watch.happenings[1].at - watch.happenings[0].at == timedelta(minutes=30)


def test_happenings_of_one_incident_have_names_of_their_own() -> None:
    watch = Watch()
    watch.rows(litellm="ddd" + "D" * 400)
    names = [happening.id for happening in watch.happenings]
    assert len(set(names)) == len(names)
    assert kinds(watch.happenings).count("escalated") == 2


# --- flapping ----------------------------------------------------------------------------------------------------------------


def test_what_comes_and_goes_is_one_incident_that_ends_when_it_stays() -> None:
    watch = Watch()
    watch.rows(redis="D." * 40)
    assert kinds(watch.happenings).count("opened") == 1
    assert watch.happenings[0].note == "comes and goes"
    assert "closed" not in kinds(watch.happenings)
    assert watch.open["redis"].flapping
    said = watch.rows(redis="." * 20)
    assert kinds(said) == ["closed"]


def test_many_short_outages_become_one_long_incident() -> None:
    watch = Watch()
    watch.rows(redis="DDD.." * 20)
    assert kinds(watch.happenings).count("opened") <= 3
    assert watch.open["redis"].flapping
    assert kinds(watch.rows(redis="." * 20)) == ["closed"]


def test_three_outages_in_a_day_are_three_incidents() -> None:
    watch = Watch()
    for _ in range(3):
        watch.rows(redis="DDDD" + "." * 60)
    assert kinds(watch.happenings) == ["opened", "closed"] * 3
    assert len({happening.incident.key for happening in watch.happenings}) == 3


# --- maintenance -------------------------------------------------------------------------------------------------------------


def window(first: int, sweeps: int, *services: str) -> Window:
    return Window(
        id="w", services=services or ("all",), begins_at=BEGAN + first * EVERY, ends_at=BEGAN + (first + sweeps) * EVERY
    )


def test_a_maintenance_window_opens_nothing_and_what_stays_bad_opens_after_it() -> None:
    watch = Watch()
    watch.windows = [window(0, 20, "redis")]
    assert watch.rows(redis="D" * 20) == []
    assert watch.last is not None
    assert watch.last.verdicts["redis"].word is Word.MAINTENANCE
    assert [kinds(watch.rows(redis="D")) for _ in range(3)] == [[], [], ["opened"]]


def test_a_maintenance_window_reminds_of_nothing_and_an_open_incident_still_ends() -> None:
    watch = Watch()
    watch.rows(redis="DDD")
    watch.windows = [window(3, 100)]
    assert watch.rows(redis="D" * 60) == []
    assert kinds(watch.rows(redis="..")) == ["closed"]


def test_who_needs_a_service_in_maintenance_is_excused_while_that_is_down_and_not_longer() -> None:
    watch = Watch()
    watch.windows = [window(0, 20, "postgres")]
    assert watch.rows(postgres="D" * 10, litellm="D" * 10) == []
    assert kinds(watch.rows(postgres="." * 3, litellm="D" * 3)) == ["opened"]
    assert watch.opened == ["litellm"]


def test_a_window_for_others_mutes_nobody_else() -> None:
    watch = Watch()
    watch.windows = [window(0, 20, "minio")]
    assert kinds(watch.rows(redis="DDD")) == ["opened"]


# --- verdicts ----------------------------------------------------------------------------------------------------------------


def test_a_verdict_counts_failures_and_says_since_when() -> None:
    watch = Watch()
    watch.rows(redis="..ddD?D")
    assert watch.last is not None
    verdict = watch.last.verdicts["redis"]
    assert (verdict.word, verdict.consecutive_failures, verdict.since) == (Word.DOWN, 4, BEGAN + 6 * EVERY)
    assert list(watch.last.verdicts) == [
        *("postgres", "clickhouse", "redis", "minio", "litellm", "langfuse-web", "langfuse-worker"),
        *("prefect-server", "prefect-worker"),
    ]


def test_a_service_of_which_nothing_is_known_is_unknown_and_one_of_which_something_is_is_not() -> None:
    watch = Watch()
    watch.observe(
        [observation("redis", "ping", UNKNOWN), observation("minio", "probe", OK), observation("minio", "x", UNKNOWN)]
    )
    assert watch.last is not None
    assert {name: verdict.word for name, verdict in watch.last.verdicts.items()} == {"redis": Word.UNKNOWN, "minio": Word.UP}


def test_an_aspect_seen_twice_counts_once_and_the_worse() -> None:
    watch = Watch(Policy(failure_threshold=1))
    watch.observe([observation("redis", "ping", DOWN), observation("redis", "ping", OK)])
    assert watch.opened == ["redis"]
