"""Prefect's own health, against the real server: a pool of the test's own, whose workers are heartbeats."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from blocks.settings import Settings
from blocks.undone import undone_name
from flows.health.observation import Status
from flows.health.targets import Prefect, Targets
from railway.worker.prefect_http import PrefectHttp
from shared.sandbox.stack import Sandbox
from tests.health.looks import CANARY, Scripted, Seen, look
from tests.patient import patient_client


class Pool:
    """A work pool that no real worker serves."""

    def __init__(self, api: httpx.Client) -> None:
        self.api = api
        self.name = f"watched-{secrets.token_hex(4)}"

    def post(self, path: str, **body: Any) -> Any:
        answer = self.api.post(path, json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def create(self) -> None:
        self.post("/work_pools/", name=self.name, type="process")

    def heartbeat(self) -> None:
        self.post(f"/work_pools/{self.name}/workers/heartbeat", name="worker", heartbeat_interval_seconds=300)

    def pause(self, paused: bool) -> None:
        assert self.api.patch(f"/work_pools/{self.name}", json={"is_paused": paused}).is_success

    def late_run(self, minutes: float) -> str:
        """A flow run that should have begun so long ago."""
        flow = self.post("/flows/", name=self.name)["id"]
        deployment = self.post("/deployments/", name=secrets.token_hex(4), flow_id=flow, work_pool_name=self.name)["id"]
        due = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
        state = {"type": "SCHEDULED", "name": "Late", "state_details": {"scheduled_time": due}}
        return str(self.post(f"/deployments/{deployment}/create_flow_run", state=state)["id"])

    def look(self, service: str = "prefect-worker") -> Seen:
        return look(Targets(prefect=Prefect(str(self.api.base_url), self.name)), service)


@pytest.fixture
def pool(sandbox: Sandbox) -> Iterator[Pool]:
    with patient_client(sandbox.prefect_api_url) as api:
        made = Pool(api)
        yield made
        api.delete(f"/work_pools/{made.name}")


def test_a_pool_without_a_living_worker_is_down_and_a_paused_one_degraded(pool: Pool) -> None:
    seen = pool.look()
    assert seen.bad() == {"heartbeat": Status.DOWN}
    assert "there is no work pool" in seen.sentence("heartbeat")
    pool.create()
    seen = pool.look()
    assert seen.bad() == {"heartbeat": Status.DOWN}
    assert "no worker of the pool" in seen.sentence("heartbeat")
    pool.heartbeat()
    assert pool.look().bad() == {}
    pool.pause(True)
    assert pool.look().bad() == {"pool": Status.DEGRADED}
    pool.pause(False)
    assert pool.look().bad() == {}


def test_what_the_workers_container_could_not_do_at_its_start_is_degraded_until_it_is_done(pool: Pool) -> None:
    pool.create()
    pool.heartbeat()
    assert "registration" not in pool.look(), "a worker that runs without our container writes nothing down"
    settings = Settings(prefect_api_url=str(pool.api.base_url).rstrip("/"))
    with PrefectHttp(settings) as worker:
        worker.remember(undone_name(pool.name), {"deployments": "ended with status 1: no such file", "automations": "too late"})
        seen = pool.look()
        assert seen.bad() == {"registration": Status.DEGRADED}
        assert "left undone: deployments (and 1 more): ended with status 1: no such file;" in seen.sentence("registration")
        worker.remember(undone_name(pool.name), {})
    seen = pool.look()
    assert (seen.bad(), seen["registration"].status) == ({}, Status.OK)
    pool.api.delete(f"/variables/name/{undone_name(pool.name)}")


def test_runs_that_should_have_started_long_ago_are_degraded_until_they_have(pool: Pool) -> None:
    pool.create()
    pool.heartbeat()
    recent, old = pool.late_run(1), pool.late_run(12)
    seen = pool.look()
    assert seen.bad() == {"late-runs": Status.DEGRADED}
    assert seen["late-runs"].value == 1
    assert "the oldest since 12 min" in seen.sentence("late-runs")
    assert pool.api.delete(f"/flow_runs/{old}").is_success
    assert pool.look().bad() == {}
    assert pool.api.delete(f"/flow_runs/{recent}").is_success


def test_a_server_that_answers_is_fine_and_one_without_its_database_is_down(pool: Pool) -> None:
    seen = pool.look("prefect-server")
    assert seen.bad() == {}
    assert sorted(seen) == ["api", "database"]
    with Scripted({"/api/health": (200, "true"), "/api/ready": (503, "{}")}) as broken:
        target = Targets(prefect=Prefect(f"{broken.url}/api", "ops", SecretStr(f"user:{CANARY}")))
        assert look(target, "prefect-server").bad() == {"database": Status.DOWN}


def test_a_refusal_of_ours_is_unknown_and_a_server_that_fails_is_down() -> None:
    answers = {"/api/health": (500, ""), "/api/work_pools/ops/workers/filter": (401, "")}
    with Scripted(answers) as server:
        target = Targets(prefect=Prefect(f"{server.url}/api", "ops", key=SecretStr(CANARY)))
        assert look(target, "prefect-server").bad() == {"api": Status.DOWN}
        seen = look(target, "prefect-worker")
    assert seen.bad() == {"heartbeat": Status.UNKNOWN}
    assert "PREFECT_API_AUTH_STRING" in seen.sentence("heartbeat")
