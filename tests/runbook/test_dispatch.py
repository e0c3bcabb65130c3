"""What the dispatcher makes of a decision, and of being killed on the way: the runs are in memory, what it remembers is not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from blocks.errors import GuardRefused, ServiceError, SettingsError, StackError
from flows.health.flow import memory_name
from flows.health.incidents import Incident
from flows.health.memory import load_text, save_text
from flows.health.state import Episode, State
from flows.runbook.catalogue import Entry, entries
from flows.runbook.decide import Decision
from flows.runbook.dispatch import DEPLOYMENT, DispatchRequest, dispatch, entry_of, runbook
from flows.runbook.history import History, history_name, load_history, save_history
from flows.runbook.runs import parameters_of
from tests.health.variables import Variables, variables
from tests.runbook.test_decide import NOON, RESTART, incident, tried


class Killed(BaseException):
    """The process is killed here."""


@dataclass
class Made:
    """Runs as a Prefect server makes them: one a key. dies: before or after the next one. fails: instead of the next one."""

    runs: dict[str, tuple[str, str, Mapping[str, str], str]] = field(default_factory=dict)
    dies: str = ""
    fails: StackError | None = None

    async def start(self, deployment: str, known: Mapping[str, str], key: str) -> str:
        return self._make("now", deployment, known, key, "")

    async def propose(self, deployment: str, known: Mapping[str, str], key: str, why: str) -> str:
        return self._make("when resumed", deployment, known, key, why)

    async def later(self, deployment: str, known: Mapping[str, str], key: str, at: datetime) -> str:
        return self._make(f"at {at:%H:%M}", deployment, known, key, "")

    def _make(self, when: str, deployment: str, known: Mapping[str, str], key: str, why: str) -> str:
        dies, self.dies = self.dies, ""
        if dies == "before":
            raise Killed
        if self.fails is not None:
            raise self.fails
        self.runs.setdefault(key, (when, deployment, known, why))
        if dies == "after":
            raise Killed
        return f"run-{list(self.runs).index(key) + 1}"


@pytest.fixture
def memory() -> Iterator[Variables]:
    with variables() as server:
        yield server


@pytest.fixture
def made(memory: Variables) -> Made:
    return Made()


START = Decision("start", "it is safe", RESTART, 1)


def act(made: Made, decision: Decision, *, one: Incident | None = None, now: datetime = NOON, by: str = "") -> History:
    """Dispatch with what is remembered."""

    async def acting() -> History:
        history, problem = await load_history("prod")
        assert not problem
        return await dispatch(one or incident(), decision, history, made, now, by=by)

    return asyncio.run(acting())


def remembered() -> History:
    return asyncio.run(load_history("prod"))[0]


def test_the_runbook_is_started_with_what_the_incident_says_and_it_is_remembered(made: Made) -> None:
    one = incident()
    history = act(made, START)
    ((when, deployment, known, _),) = made.runs.values()
    assert (when, deployment) == ("now", "restart-service/runbook")
    assert known["incident"] == one.key
    assert (known["service"], known["aspect"], known["by"]) == ("litellm", "liveness", "automation")
    assert "confirm" not in known
    assert history == remembered()
    assert history.tries == (tried(one, run_id="run-1"),)


def test_who_asked_is_told_to_the_runbook_and_remembered(made: Made) -> None:
    history = act(made, START, by="U042")
    assert [known["by"] for _, _, known, _ in made.runs.values()] == ["U042"]
    assert [one.by for one in history.tries] == ["U042"]


def test_a_proposed_run_waits_for_a_person_and_approves_nothing_in_advance(made: Made) -> None:
    act(made, Decision("propose", "switched to ask", RESTART, 1))
    ((when, _, known, why),) = made.runs.values()
    assert when == "when resumed"
    assert "restart-service would run for litellm: bad; resume to approve, cancel to reject" in why
    assert "confirm" not in known


def test_a_wait_is_one_later_look_however_often_it_is_decided(made: Made) -> None:
    wait = Decision("wait", "it rests", RESTART, until=NOON + timedelta(minutes=5))
    for _ in range(2):
        act(made, wait)
    assert [(when, deployment) for when, deployment, _, _ in made.runs.values()] == [("at 12:05", DEPLOYMENT)]
    assert remembered() == History()


def test_handing_over_fails_the_run_with_what_to_do_and_is_remembered(made: Made) -> None:
    with pytest.raises(GuardRefused, match="look at those runs"):
        act(made, Decision("hand over", "it ran 3 times; look at those runs", RESTART))
    assert remembered().handed_over == (incident().key,)
    assert made.runs == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_making_of_a_run_the_next_dispatch_makes_it_once(made: Made, when: str) -> None:
    made.dies = when
    with pytest.raises(Killed):
        act(made, START)
    assert [one.run_id for one in remembered().tries] == [""]
    act(made, START, now=NOON + timedelta(minutes=30))
    assert len(made.runs) == 1
    assert remembered().tries == (tried(incident(), run_id="run-1"),)


def test_where_prefect_fails_the_try_stays_open_for_the_next_event(made: Made) -> None:
    made.fails = ServiceError("Prefect's API failed")
    with pytest.raises(ServiceError):
        act(made, START)
    made.fails = None
    act(made, START)
    assert [one.run_id for one in remembered().tries] == ["run-1"]


@pytest.mark.parametrize(("by", "who"), [("", "automation"), ("slack U042", "slack U042")])
def test_the_audit_trail_gets_who_what_when_why_and_the_incident(by: str, who: str) -> None:
    one = incident()
    entry = entry_of(one, START, NOON, by=by, run="run-of-the-dispatcher")
    assert (entry.kind, entry.actor, entry.by, entry.incident) == ("decided", DEPLOYMENT, who, one.key)
    assert (entry.what, entry.result, entry.why) == ("start restart-service", "it is safe", "critical: bad")
    assert (entry.at, entry.run) == (NOON, "run-of-the-dispatcher")


# --- the flow, up to the decision -------------------------------------------------------------------------------------------


def dispatched(key: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STACK_NAME", "prod")
    return asyncio.run(runbook.fn(DispatchRequest(incident=key)))


def sweeps_remember(*incidents: Incident) -> None:
    state = State(stack="prod", episodes=tuple(Episode(incident=one, said_at=NOON) for one in incidents))
    asyncio.run(save_text(memory_name("prod"), state.to_text()))


@pytest.mark.parametrize("key", ["prod/litellm/liveness/20200101T000000Z", "nonsense"])
def test_an_incident_that_the_sweeps_do_not_know_starts_nothing_whatever_an_event_says(
    memory: Variables, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    sweeps_remember(incident())
    assert "it is not open" in dispatched(key, monkeypatch)
    assert history_name("prod") not in memory.values


def test_without_the_key_of_an_incident_it_says_what_to_give(memory: Variables, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="give its key"):
        dispatched("", monkeypatch)


def test_where_the_sweeps_memory_is_damaged_nothing_is_started(memory: Variables, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.values[memory_name("prod")] = {"sha256": "0", "text": "torn"}
    assert "it is not open" in dispatched(incident().key, monkeypatch)


def test_a_damaged_history_is_begun_anew(memory: Variables) -> None:
    asyncio.run(save_text(history_name("prod"), "{"))
    history, problem = asyncio.run(load_history("prod"))
    assert history == History()
    assert "begun anew" in problem
    asyncio.run(save_history("prod", history.with_try(tried(incident()), 1)))
    assert len(remembered().tries) == 1
    assert asyncio.run(load_text(history_name("prod")))


# --- parameters ---------------------------------------------------------------------------------------------------------------


def test_a_runbook_is_told_only_what_its_form_asks_for() -> None:
    known = {"incident": "k", "service": "redis", "aspect": "memory", "by": "automation", "why": "bad"}
    fields = {name: {"type": "string"} for name in ("dry_run", "confirm", "incident", "by", "why")}
    schema: dict[str, Any] = {
        "properties": {"request": {"allOf": [{"$ref": "#/definitions/RunbookRequest"}]}, "number": {"type": "integer"}},
        "definitions": {"RunbookRequest": {"properties": fields}},
    }
    expected = {"request": {"incident": "k", "by": "automation", "why": "bad"}}
    assert parameters_of(schema, known) == expected
    schema["properties"]["request"] = {"$ref": "#/definitions/RunbookRequest"}
    assert parameters_of(schema, known) == expected
    assert parameters_of({"properties": {"number": {"type": "integer"}}}, known) == {}


def test_every_entry_of_the_catalogue_has_a_name_of_its_own_and_a_deployment_named_after_it() -> None:
    assert len({(one.name, one.service, one.aspects) for one in entries()}) == len(entries())
    assert [one for one in entries() if one.deployment != f"{one.name}/runbook"] == []
    assert Entry("a", None, (), "manual", "a/runbook").answers("any", "thing")
