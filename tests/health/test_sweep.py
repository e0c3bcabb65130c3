"""The sweep on the whole stack with the real Prefect server: memory in variables, events, windows, a service that dies."""

from __future__ import annotations

import asyncio
import contextvars
import random
import secrets
import string
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from blocks.errors import IntegrityError, ServiceError
from flows.health import maintenance as keeping
from flows.health.events import emit, event_id
from flows.health.flow import SweepRequest, health, memory_name
from flows.health.maintenance import maintenance, swapping, windows, windows_async
from flows.health.memory import load_text, save_text
from flows.health.state import State
from flows.health.windows import Window
from flows.maintenance.flow import MaintenanceRequest
from flows.maintenance.flow import maintenance as maintenance_flow
from shared.engines.process import free_port, wait_until
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.stack import Sandbox
from tests.health.sweeps import Watch
from tests.patient import patient_client

MINE = secrets.token_hex(4)
"""Names of this run: a server remembers what earlier ones wrote."""
SWEPT = f"swept-{MINE}"


@pytest.fixture(scope="module")
def server(sandbox: Sandbox) -> Iterator[httpx.Client]:
    """The API of the sandbox's Prefect server, which the module's code talks to."""
    with (
        temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
        patient_client(sandbox.prefect_api_url) as client,
    ):
        yield client


def variable(server: httpx.Client, name: str) -> Any:
    answer = server.get(f"/variables/name/{name}")
    return None if answer.status_code == httpx.codes.NOT_FOUND else answer.raise_for_status().json()["value"]


def set_variable(server: httpx.Client, name: str, value: Any) -> None:
    until_it_has_time(lambda: server.patch(f"/variables/name/{name}", json={"value": value}))


def put_variable(server: httpx.Client, name: str, value: Any) -> None:
    until_it_has_time(lambda: server.post("/variables/", json={"name": name, "value": value}))


def until_it_has_time(send: Callable[[], httpx.Response]) -> None:
    """Prefect answers 503 while its SQLite is busy."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(send())
        return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    wait_until(answered, timeout=30, what="Prefect's database to have time")
    answers[-1].raise_for_status()


def events_of(server: httpx.Client, resource: str) -> list[dict[str, Any]]:
    query = {"filter": {"resource": {"id": [resource]}, "occurred": {"since": "2026-01-01T00:00:00Z"}, "order": "ASC"}}
    return list(server.post("/events/filter", json=query).raise_for_status().json()["events"])


# --- memory ------------------------------------------------------------------------------------------------------------------


def noise(length: int) -> str:
    return "".join(random.Random(length).choices(string.printable, k=length))  # noqa: S311 - compresses badly, always the same


@pytest.mark.long
def test_texts_of_any_length_are_remembered_and_a_torn_write_leaves_the_earlier_one(server: httpx.Client) -> None:
    async def story() -> None:
        name = f"health_{MINE}_state"
        assert await load_text(name) is None
        for text in ("short", noise(9000), noise(9001), "", noise(5000)):
            await save_text(name, text)
            assert await load_text(name) == text
        head = variable(server, name)
        await save_text(name, noise(9000))
        set_variable(server, name, head)  # the pieces are written, the head is not
        assert await load_text(name) == noise(5000)
        set_variable(server, f"{name}_{head['side']}0", "something else")
        with pytest.raises(IntegrityError, match="written anew at the next save"):
            await load_text(name)
        set_variable(server, name, "edited by hand")
        with pytest.raises(IntegrityError, match="not what this project wrote"):
            await load_text(name)
        await save_text(name, "well again")
        assert await load_text(name) == "well again"

    asyncio.run(story())


def test_a_prefect_server_that_is_gone_is_said_in_one_line() -> None:
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        pytest.raises(ServiceError, match="is the Prefect server up"),
    ):
        asyncio.run(load_text("health_test_state"))


# --- events ------------------------------------------------------------------------------------------------------------------


def test_events_say_what_happened_and_one_that_is_sent_again_is_the_same_event(server: httpx.Client) -> None:
    watch = Watch()
    watch.state = State(stack=MINE)
    watch.now = datetime.now(UTC) - timedelta(minutes=30)
    watch.rows(postgres="D" * 20 + "..", litellm="D" * 20 + "..")
    asyncio.run(emit(watch.happenings))
    asyncio.run(emit(watch.happenings))
    resource, names = f"stack.{MINE}.service.postgres", ["opened", "reminded", "closed"]
    wait_until(lambda: len(events_of(server, resource)) >= 3, timeout=60.0, what="three events to be stored", pause=0.3)
    found = events_of(server, resource)
    assert [event["event"] for event in found] == [f"stack.incident.{name}" for name in names]
    assert [event["id"] for event in found] == [str(event_id(happening)) for happening in watch.happenings]
    payload = found[0]["payload"]
    incident = watch.happenings[0].incident
    assert (payload["key"], payload["severity"], payload["casualties"]) == (incident.key, "critical", ["litellm"])
    assert payload["sentence"] == incident.sentence


# --- maintenance windows -----------------------------------------------------------------------------------------------------


def test_a_window_is_open_during_planned_work_and_gone_after_it(server: httpx.Client) -> None:
    with maintenance("planned", ["postgres", "litellm"], "swapping\ndatabases", 5, who="restore"):
        found, problems = asyncio.run(windows_async("planned"))
        assert problems == []
        assert [(one.services, one.reason, one.who) for one in found] == [
            (("postgres", "litellm"), "swapping databases", "restore")
        ]
        assert found[0].is_open(datetime.now(UTC))
    assert windows("planned") == ([], [])
    with pytest.raises(RuntimeError, match="the work itself"), maintenance("planned", ["all"], "", 5):
        raise RuntimeError("the work itself")
    assert windows("planned") == ([], [])


def test_a_swap_mutes_those_that_hold_the_data_and_those_that_need_them(server: httpx.Client) -> None:
    @flow
    def swap() -> list[Window]:
        with swapping(MINE, ["clickhouse"], "restore 7"):
            return windows(MINE)[0]

    (window,) = swap()
    assert window.services == ("clickhouse", "langfuse-web", "langfuse-worker", "backups")
    assert window.reason == "restore 7"
    assert windows(MINE) == ([], [])


@pytest.mark.long
def test_windows_that_are_opened_and_ended_at_the_same_time_do_not_lose_each_other(server: httpx.Client) -> None:
    stack, later = f"busy-{MINE}", contextvars.copy_context
    ending = [keeping.add(stack, ["redis"], f"to end {number}", 5) for number in range(4)]
    with ThreadPoolExecutor(8) as pool:
        opening = [pool.submit(later().run, keeping.add, stack, ["minio"], f"to stay {number}", 5) for number in range(4)]
        ended = [pool.submit(later().run, keeping.end, stack, [window.id]) for window in ending]
        opened = [one.result() for one in opening]
        assert [window.id for one in ended for window in one.result()] == [window.id for window in ending]
    found, problems = windows(stack)
    assert (sorted(window.id for window in found), problems) == (sorted(window.id for window in opened), [])
    keeping.end(stack, [window.id for window in opened])
    assert windows(stack) == ([], [])


def test_a_window_is_over_when_the_run_that_opened_it_is_however_that_ended(server: httpx.Client) -> None:
    stack = f"killed-{MINE}"
    flow_id = server.post("/flows/", json={"name": stack}).raise_for_status().json()["id"]
    run = server.post("/flow_runs/", json={"flow_id": flow_id, "state": {"type": "RUNNING"}}).raise_for_status().json()["id"]
    keeping.add(stack, ["postgres"], "a swap", 120, run_id=run)
    by_hand = keeping.add(stack, ["redis"], "by hand", 120)
    assert {window.reason for window in asyncio.run(windows_async(stack))[0]} == {"a swap", "by hand"}
    crashed = {"state": {"type": "CRASHED"}, "force": True}  # as the reaper does with a run whose worker was killed
    until_it_has_time(lambda: server.post(f"/flow_runs/{run}/set_state", json=crashed))
    assert [window.reason for window in asyncio.run(windows_async(stack))[0]] == ["by hand"]
    assert [window.reason for window in windows(stack)[0]] == ["by hand"]
    keeping.end(stack, [by_hand.id])
    query = {"variables": {"name": {"like_": keeping.variable_name(stack)}}}
    assert server.post("/variables/filter", json=query).raise_for_status().json() == [], "whoever writes next tidies up"


def test_work_goes_on_where_no_window_can_be_opened(server: httpx.Client) -> None:
    done = False
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}), maintenance("gone", ["all"], "x", 5):
        done = True
    assert done


def test_people_open_list_and_end_windows_by_a_flow(
    server: httpx.Client, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STACK_NAME", "by-hand")
    opened = maintenance_flow(MaintenanceRequest(action="open", services=["redis"], minutes=30, reason="a bigger volume"))
    assert [window.services for window in opened] == [("redis",)]
    assert "a bigger volume" in str(sandbox.artifact("maintenance-by-hand"))
    keeping.add("by-hand", ["minio"], "", 5)
    left = maintenance_flow(MaintenanceRequest(action="end", window=opened[0].id))
    assert [window.services for window in left] == [("minio",)]
    assert maintenance_flow(MaintenanceRequest(action="end")) == []


# --- the flow ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def swept(sandbox: Sandbox, server: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[AlertSinks]:
    """This process sees the sandbox as the worker does, under a stack name of its own, with sinks for its alerts."""
    with AlertSinks() as sinks:
        for name, value in {
            **sandbox.environment(),
            **sinks.environment(),
            "STACK_NAME": SWEPT,
            "FAILURE_THRESHOLD": "2",
            "RECOVERY_THRESHOLD": "1",
        }.items():
            monkeypatch.setenv(name, value)
        yield sinks


def remembered() -> State:
    return State.from_text(asyncio.run(load_text(memory_name(SWEPT))), SWEPT)


@pytest.mark.long
def test_a_service_that_dies_is_one_incident_that_is_told_emitted_shown_and_ended(
    swept: AlertSinks, sandbox: Sandbox, server: httpx.Client
) -> None:
    assert asyncio.run(health())["redis"] == "up"
    sandbox.redis.kill()
    try:
        assert asyncio.run(health())["redis"] == "down"
        assert asyncio.run(health(SweepRequest(dry_run=True)))["redis"] == "down"
        assert not [incident for incident in remembered().incidents if incident.service == "redis"]
        put_variable(server, keeping.variable_name(SWEPT, "odd"), "no window")
        with pytest.raises(ServiceError, match=r"maintenance window 0: .* it is not in force"):
            asyncio.run(health())  # something else is wrong, and still everybody hears of it
        server.delete(f"/variables/name/{keeping.variable_name(SWEPT, 'odd')}").raise_for_status()
        (incident,) = [one for one in remembered().incidents if one.service == "redis"]
        assert incident.severity == "critical"
        assert [alert.state for alert in swept.pagerduty.alerts.values()] == ["triggered"]
        assert remembered().outbox.owed == 0
        assert remembered().unemitted == ()
        assert "🔴 down" in str(sandbox.artifact(f"health-{SWEPT}"))
    finally:
        sandbox.redis.start()
    asyncio.run(health())
    assert not [one for one in remembered().incidents if one.service == "redis"]
    assert [alert.state for alert in swept.pagerduty.alerts.values()] == ["resolved"]
    resource = f"stack.{SWEPT}.service.redis"
    wait_until(lambda: len(events_of(server, resource)) >= 2, timeout=60.0, what="two events to be stored", pause=0.3)
    assert [event["event"] for event in events_of(server, resource)] == ["stack.incident.opened", "stack.incident.closed"]
    assert {event["payload"]["key"] for event in events_of(server, resource)} == {incident.key}


@pytest.mark.long
def test_a_damaged_memory_and_half_a_channel_fail_the_run_and_still_the_services_are_watched(
    swept: AlertSinks, sandbox: Sandbox, server: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(health())
    set_variable(server, memory_name(SWEPT), "edited by hand")
    with pytest.raises(ServiceError, match=f"memory: variable {memory_name(SWEPT)}"):
        asyncio.run(health())
    monkeypatch.setenv("SLACK_CHANNEL", "")
    with pytest.raises(ServiceError, match=r"^sweep: alerts: setting SLACK_CHANNEL is not set"):
        asyncio.run(health())  # the other channels are spoken to all the same, as in tests/health/test_outbox_trouble.py
    assert f"{remembered().swept_at:%H:%M:%S}" in str(sandbox.artifact(f"health-{SWEPT}"))
