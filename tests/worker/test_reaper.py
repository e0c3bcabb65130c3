"""The reaper, against the real Prefect server: it crashes the silent, and only them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from blocks.errors import ServiceError
from blocks.settings import Settings
from railway.worker.prefect_http import FlowRun, PrefectHttp
from railway.worker.reaper import SILENCE, STARTING, reap_stale_runs, silence_of
from shared.engines.process import free_port, wait_until
from tests.worker.conftest import POOL, Prefect

NOW = datetime.now(UTC)


@pytest.mark.parametrize(
    ("state", "state_age", "heartbeat_age", "stale"),
    [
        ("RUNNING", timedelta(hours=5), timedelta(seconds=29), False),
        ("RUNNING", timedelta(hours=5), SILENCE + timedelta(seconds=1), True),
        ("RUNNING", timedelta(minutes=1), None, False),
        ("RUNNING", STARTING + timedelta(seconds=1), None, True),
        ("PENDING", timedelta(minutes=5), None, False),
        ("PENDING", STARTING + timedelta(seconds=1), None, True),
        ("CANCELLING", timedelta(seconds=5), timedelta(hours=1), False),
    ],
)
def test_a_run_is_stale_by_its_own_last_sign(
    state: str, state_age: timedelta, heartbeat_age: timedelta | None, stale: bool
) -> None:
    run = FlowRun(id="1", name="one", state_type=state, state_at=NOW - state_age)
    last = None if heartbeat_age is None else NOW - heartbeat_age
    assert (silence_of(run, last, NOW) is not None) is stale


def test_silent_runs_are_crashed_and_those_that_live_or_are_of_other_pools_are_not(
    prefect: Prefect,
) -> None:
    runs = {
        "silent": _run(prefect.http, "waiting/here", "RUNNING", heartbeat=timedelta(minutes=10)),
        "living": _run(prefect.http, "waiting/here", "RUNNING", heartbeat=timedelta(seconds=20)),
        "cancelling": _run(prefect.http, "waiting/here", "CANCELLING", heartbeat=timedelta(minutes=10)),
        "elsewhere": _run(prefect.http, "waiting/elsewhere", "RUNNING", heartbeat=timedelta(minutes=10)),
    }
    with PrefectHttp(Settings(prefect_api_url=prefect.server.api_url)) as api:
        wait_until(
            lambda: all(api.last_heartbeat(run) is not None for run in runs.values()),
            timeout=30,
            what="the events to be stored",
        )
        # Their states are of this very moment, and so would be their last signs.
        later = datetime.now(UTC) + SILENCE - timedelta(seconds=10)
        assert reap_stale_runs(api, POOL, later) == []
        crashed = reap_stale_runs(api, POOL, later + timedelta(seconds=20))
        assert len(crashed) == 3, "living has given no sign since, either"
    states = {name: prefect.http.get(f"/flow_runs/{run}").json()["state"] for name, run in runs.items()}
    assert states["silent"]["type"] == "CRASHED"
    assert "silent for" in states["silent"]["message"]
    assert states["cancelling"]["type"] == "CANCELLED"
    assert states["elsewhere"]["type"] == "RUNNING"


def test_a_server_that_does_not_answer_is_said_in_one_line() -> None:
    with PrefectHttp(Settings(prefect_api_url=f"http://127.0.0.1:{free_port()}/api")) as api:
        assert not api.is_ready()
        with pytest.raises(ServiceError, match="prefect-server: no answer"):
            reap_stale_runs(api, POOL)


def _run(prefect: httpx.Client, deployment: str, state: str, *, heartbeat: timedelta) -> str:
    """Make a run in a state, whose process gave its last sign so long ago."""
    found = prefect.get(f"/deployments/name/{deployment}").raise_for_status().json()
    made = prefect.post(f"/deployments/{found['id']}/create_flow_run", json={"state": {"type": "PENDING"}}).raise_for_status()
    run_id = str(made.json()["id"])
    change = {"state": {"type": state, "name": state.title()}, "force": True}
    prefect.post(f"/flow_runs/{run_id}/set_state", json=change).raise_for_status()
    event = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": (datetime.now(UTC) - heartbeat).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run_id}"},
        "payload": {},
    }
    prefect.post("/events", json=[event]).raise_for_status()
    return run_id
