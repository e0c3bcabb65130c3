"""Which runbook answers an incident, and whether it runs by itself: tables, and properties over storms of incidents."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.errors import SettingsError
from blocks.settings import Settings, Severity
from flows.health.incidents import Incident, key_of
from flows.runbook.catalogue import Entry
from flows.runbook.decide import Decision, Policy, Verb, decide
from flows.runbook.history import KEPT, MOST, History, Try

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
RESTART = Entry("restart-service", None, ("liveness", "readiness"), "automatic", "restart-service/runbook")
DISK = Entry("clickhouse-disk", "clickhouse", ("disk",), "asks", "clickhouse-disk/runbook")
REBUILD = Entry("rebuild-stack", "postgres", (), "manual", "rebuild-stack/runbook")
CATALOGUE = (DISK, REBUILD, RESTART)


def incident(
    service: str = "litellm", aspect: str = "liveness", severity: Severity = "critical", minutes: float = 0
) -> Incident:
    at = NOON + timedelta(minutes=minutes)
    key = key_of("prod", service, aspect, at)
    return Incident(
        key=key, stack="prod", service=service, aspect=aspect, severity=severity, sentence="bad", since=at, opened_at=at
    )


def tried(one: Incident, minutes: float = 0, *, run_id: str = "run", runbook: str = "restart-service") -> Try:
    at = NOON + timedelta(minutes=minutes)
    return Try(incident=one.key, runbook=runbook, service=one.service, at=at, run_id=run_id)


def decided(
    one: Incident,
    *tries: Try,
    minutes: float = 0,
    switches: tuple[str, ...] = (),
    by: str = "",
    muted: tuple[str, ...] = (),
    history: History | None = None,
) -> Decision:
    policy = Policy.from_settings(Settings(stack_name="prod", runbook_switches=list(switches)))
    history = history or History(tries=tries)
    return decide(one, CATALOGUE, history, policy, NOON + timedelta(minutes=minutes), muted=muted, by=by)


# --- which one -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "aspect", "name"),
    [
        ("clickhouse", "disk", "clickhouse-disk"),
        ("clickhouse", "liveness", "restart-service"),
        ("postgres", "readiness", "restart-service"),
        ("postgres", "connections", None),
        ("backups", "age", None),
    ],
)
def test_the_first_entry_that_answers_is_the_runbook_and_manual_ones_are_passed_over(
    service: str, aspect: str, name: str | None
) -> None:
    entry = decided(incident(service, aspect)).entry
    assert (entry.name if entry else None) == name


def test_an_incident_that_no_runbook_answers_is_left_to_people() -> None:
    decision = decided(incident("postgres", "connections"))
    assert (decision.verb, decision.entry) == ("leave", None)
    assert "no runbook answers postgres/connections" in decision.why


# --- by itself, asking, or never --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switches", "severity", "verb"),
    [
        ((), "warning", "start"),
        (("litellm=ask",), "critical", "propose"),
        (("litellm=never",), "critical", "leave"),
        (("all=never",), "critical", "leave"),
        (("all=never", "litellm=automatic"), "critical", "start"),
        (("litellm=never", "litellm/critical=automatic"), "critical", "start"),
        (("litellm=never", "litellm/critical=automatic"), "error", "leave"),
        (("all/warning=never",), "warning", "leave"),
        (("all/warning=never",), "error", "start"),
        (("all=never", "all/critical=ask"), "critical", "propose"),
        (("postgres=never",), "critical", "start"),
    ],
)
def test_severity_and_the_services_switch_decide_and_the_most_exact_one_holds(
    switches: tuple[str, ...], severity: Severity, verb: Verb
) -> None:
    assert decided(incident(severity=severity), switches=switches).verb == verb


@pytest.mark.parametrize("switch", ["automatic", "ask"])
def test_what_deletes_data_asks_by_itself_whatever_the_switch_says(switch: str) -> None:
    decision = decided(incident("clickhouse", "disk"), switches=(f"clickhouse={switch}",))
    assert decision.verb == "start"
    assert "asks" in decision.why


@pytest.mark.parametrize("wrong", ["litellm", "litellm=yes", "litellm/bad=ask", "=never", "LITELLM=ask", "a=ask=never"])
def test_a_switch_that_is_none_is_refused_when_settings_are_read(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_SWITCHES", f"postgres=ask, {wrong}")
    with pytest.raises(SettingsError, match=r"RUNBOOK_SWITCHES.*expected <service or all>"):
        Settings.load()


def test_nothing_runs_by_itself_in_a_maintenance_window() -> None:
    assert decided(incident(), muted=("litellm",)).verb == "leave"
    assert decided(incident(), muted=("postgres",)).verb == "start"


# --- how often ------------------------------------------------------------------------------------------------------------


def test_an_incident_starts_its_runbook_once() -> None:
    one = incident()
    decision = decided(one, tried(one), minutes=120)
    assert decision.verb == "leave"
    assert "once an incident" in decision.why


def test_a_run_of_which_nobody_knows_whether_it_was_made_is_made_again_as_the_same_one() -> None:
    one = incident()
    decision = decided(one, tried(one, run_id=""), minutes=1)
    assert (decision.verb, decision.number) == ("start", 1)


def test_the_next_incident_within_the_cool_down_is_looked_at_again_after_it() -> None:
    before, one = incident(), incident(minutes=2)
    decision = decided(one, tried(before), minutes=2)
    assert (decision.verb, decision.until) == ("wait", NOON + timedelta(minutes=5))
    assert decided(one, tried(before), minutes=5).verb == "start"


@pytest.mark.parametrize("other", [("postgres", "liveness", "restart-service"), ("litellm", "liveness", "drain-queue")])
def test_neither_another_service_nor_another_runbook_makes_one_rest(other: tuple[str, str, str]) -> None:
    service, aspect, runbook = other
    assert decided(incident(minutes=1), tried(incident(service, aspect), runbook=runbook), minutes=1).verb == "start"


def test_after_so_many_runs_within_an_hour_a_person_is_told_once_and_an_hour_later_it_runs_again() -> None:
    tries = [tried(incident(minutes=minute), minute) for minute in (0, 10, 20)]
    one = incident(minutes=30)
    decision = decided(one, *tries, minutes=30)
    assert decision.verb == "hand over"
    assert "started 3 times for litellm within an hour, at most 3" in decision.why
    told = History(tries=tuple(tries)).with_handed_over(one.key)
    assert decided(one, history=told, minutes=31).verb == "leave"
    assert decided(incident(minutes=61), history=told, minutes=61).verb == "start"


def test_a_person_who_asks_gets_the_runbook_whatever_stands_in_the_way() -> None:
    one = incident()
    decision = decided(one, tried(one), tried(one), tried(one), switches=("all=never",), muted=("litellm",), by="U042")
    assert (decision.verb, decision.number) == ("start", 4)
    assert "U042 asked" in decision.why
    assert decided(incident("postgres", "connections"), by="U042").entry == REBUILD


STORM = st.lists(
    st.tuples(st.sampled_from(["litellm", "redis", "postgres"]), st.floats(0, 600), st.integers(1, 3)), min_size=1, max_size=60
)


@given(storm=STORM)
def test_in_any_storm_no_incident_runs_twice_and_no_service_more_often_than_allowed(
    storm: list[tuple[str, float, int]],
) -> None:
    """Events may come again, and incidents as close together as they like."""
    policy, history = Policy(), History()
    for service, minutes, times in sorted(storm, key=lambda one: one[1]):
        one, now = incident(service, minutes=minutes), NOON + timedelta(minutes=minutes)
        for _ in range(times):
            decision = decide(one, CATALOGUE, history, policy, now)
            if decision.verb == "start":
                assert decision.number == 1
                history = history.with_try(tried(one, minutes), decision.number)
            elif decision.verb == "hand over":
                history = history.with_handed_over(one.key)
            elif decision.verb == "wait":
                assert decision.until is not None
                assert now < decision.until <= now + policy.cooldown
    assert len({one.incident for one in history.tries}) == len(history.tries)
    for service in ("litellm", "redis", "postgres"):
        times_of = sorted(one.at for one in history.tries if one.service == service)
        assert all(after - before >= policy.cooldown for before, after in pairwise(times_of))
        assert all(
            times_of[number + policy.tries] - times_of[number] >= timedelta(hours=1)
            for number in range(len(times_of) - policy.tries)
        )


# --- what is remembered -----------------------------------------------------------------------------------------------------


def test_what_is_remembered_stays_small() -> None:
    history = History()
    for minute in range(2 * MOST):
        one = incident(minutes=minute)
        history = history.with_try(tried(one, minute), 1).with_handed_over(one.key)
    assert len(history.tries) == len(history.handed_over) == MOST
    late = incident(minutes=100_000)
    assert history.with_try(tried(late, 100_000), 1).tries == (tried(late, 100_000),)
    assert timedelta(minutes=100_000) > KEPT


def test_a_run_that_became_known_takes_the_place_of_the_one_that_was_begun() -> None:
    one = incident()
    begun = History().with_try(tried(one, run_id=""), 1)
    known = begun.with_try(tried(one, 3, run_id="r-1"), 1)
    assert [(two.run_id, two.at) for two in known.tries] == [("r-1", NOON)]
    assert [two.run_id for two in known.with_try(tried(one, 4, run_id="r-2"), 2).tries] == ["r-1", "r-2"]
