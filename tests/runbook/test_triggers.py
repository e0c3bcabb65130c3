"""From the event to the run, on the real Prefect server and worker of the sandbox; and runs that wait for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.settings import Settings
from flows.automations.upsert import upsert
from flows.automations.wanted import tag_of
from flows.health.events import event_of
from flows.health.flow import memory_name
from flows.health.incidents import Happening, Incident, Kind, key_of
from flows.health.maintenance import end, windows
from flows.health.memory import save_text
from flows.health.state import Episode, State
from flows.lease import utc_now
from flows.runbook.audit import read
from flows.runbook.catalogue import entries
from flows.runbook.history import history_name
from flows.runbook.runs import PrefectRuns
from railway.gateway.answering import PrefectAnswers
from shared.engines.process import wait_until
from shared.sandbox.blocks import stack_from
from shared.sandbox.stack import Sandbox
from tests.patient import patient_client

pytestmark = pytest.mark.long

HARMLESS = "maintenance/on-demand"
"""Stands in for a runbook where it only matters when a run begins: it lists what is there."""


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    """The server's API, which is also that of this process."""
    with patient_client(sandbox.prefect_api_url) as client, temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url}):
        yield client


def runs_of(http: httpx.Client, flow: str) -> list[dict[str, Any]]:
    found = http.post("/flow_runs/filter", json={"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"})
    return [dict(one) for one in found.raise_for_status().json()]


@pytest.fixture
def automated(sandbox: Sandbox, http: httpx.Client) -> Iterator[None]:
    """The sandbox's automations, taken away at the end with what was remembered.

    No window of a restore that another test has killed is open: the dispatcher leaves alone who is in one.
    """
    settings = Settings(stack_name=sandbox.stack_name)
    end(sandbox.stack_name, [one.id for one in windows(sandbox.stack_name)[0]])

    async def act() -> None:
        async with PrefectClient(sandbox.prefect_api_url) as client:
            await upsert(client, settings, dry_run=False, prune=True)

    asyncio.run(act())
    yield
    for one in http.post("/automations/filter", json={"limit": 200}).raise_for_status().json():
        if tag_of(settings) in one["tags"]:
            http.delete(f"/automations/{one['id']}")
    for name in (memory_name(sandbox.stack_name), history_name(sandbox.stack_name)):
        http.delete(f"/variables/name/{name}")


def test_an_incident_starts_the_right_runbook_once_however_often_its_events_come(
    sandbox: Sandbox, http: httpx.Client, automated: None
) -> None:
    entry = next(one for one in entries() if one.kind == "automatic" and one.service and one.aspects)
    service, aspect, now, stack = str(entry.service), entry.aspects[0], utc_now(), sandbox.stack_name
    key = key_of(stack, service, aspect, now)
    incident = Incident(
        key=key, stack=stack, service=service, aspect=aspect, severity="critical", sentence="bad", since=now, opened_at=now
    )
    state = State(stack=stack, episodes=(Episode(incident=incident, said_at=now),))
    asyncio.run(save_text(memory_name(stack), state.to_text()))

    def tell(kind: Kind) -> None:
        happening = Happening(kind=kind, incident=incident, at=now + timedelta(seconds=kind == "escalated"))
        http.post("/events", json=[event_of(happening)]).raise_for_status()

    for _ in range(2):
        tell("opened")  # a sweep that died after sending it sends it again
    tell("escalated")

    def dispatched() -> list[dict[str, Any]]:
        return [one for one in runs_of(http, "runbook") if one["parameters"].get("request", {}).get("incident") == key]

    wait_until(lambda: len(dispatched()) >= 2, timeout=120, what="both events to be dispatched", pause=0.5)
    for one in dispatched():
        assert sandbox.api.wait(one["id"], timeout=240).ok, sandbox.flow_logs(one["id"])
    assert len(dispatched()) == 2, "one for each event, not for each time it was sent"
    started = [one for one in runs_of(http, entry.name) if one["parameters"].get("request", {}).get("incident") == key]
    assert len(started) == 1, "\n".join(sandbox.flow_logs(one["id"]) for one in dispatched())
    assert started[0]["parameters"]["request"]["by"] == "automation"
    sandbox.api.wait(started[0]["id"], timeout=240)
    store = stack_from(sandbox.environment()).store
    decided = [one for one in read(store, now, utc_now(), incident=key) if one.kind == "decided"]
    assert [(one.actor, one.what, one.by) for one in decided] == [("runbook/dispatch", f"start {entry.name}", "automation")]


def test_a_proposed_run_is_taken_by_no_worker_until_a_person_answers(sandbox: Sandbox, http: httpx.Client) -> None:
    known, stack = {"incident": "sandbox/x/y/z"}, sandbox.stack_name

    async def propose(key: str) -> str:
        return await PrefectRuns().propose(HARMLESS, known, key, "it would list the windows")

    def answer(run_id: str, *, approve: bool) -> str:
        return asyncio.run(PrefectAnswers(stack).answer(UUID(run_id), approve=approve, by="slack U042"))

    first, again, second = (asyncio.run(propose(key)) for key in ("test/1", "test/1", "test/2"))
    assert first == again != second
    assert [sandbox.api.run(one)["state_name"] for one in (first, second)] == ["Suspended"] * 2
    assert "is rejected" in answer(first, approve=False)
    assert sandbox.api.run(first)["state_type"] == "CANCELLED"
    assert "is approved" in answer(second, approve=True)
    assert sandbox.api.wait(second, timeout=240).ok, sandbox.flow_logs(second)
    assert "does not wait any more" in answer(second, approve=True)
    assert "no such run" in answer("00000000-0000-4000-8000-000000000000", approve=True)
