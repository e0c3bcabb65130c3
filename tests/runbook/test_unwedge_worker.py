"""unwedge-worker: a worker that is well and takes no jobs, on a real Redis and the sandbox's Railway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis

from blocks.errors import NotHealed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.railway import RailwayEnvironment
from blocks.redis import RedisServer
from blocks.settings import Settings
from flows.health.targets import Railway, Targets
from flows.runbook.frame import RunbookRequest
from flows.runbook.restarting import Waits
from flows.runbook.unwedge_worker import ASPECTS, SERVICE, Wedged
from flows.stack import Stack
from shared.engines.process import free_port, wait_until
from shared.engines.redis import RedisEngine
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.containers import ContainerSpec
from tests.runbook.cases import IMPATIENT, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessContainer, ProcessRuntime

QUEUE = "bull:ingestion-queue:"
WAITS = Waits(deployment=120, settle=30, poll=0.05)


class Consuming(ProcessRuntime):
    """Containers that, as a worker does, take the jobs that wait when they start; one that is stubborn does not.

    Attributes:
        stubborn: no container takes any.
    """

    def __init__(self, directory: Path, port: int, redis: Redis) -> None:
        super().__init__(directory, {SERVICE: port})
        self._redis, self.stubborn = redis, False

    def start(self, spec: ContainerSpec) -> ProcessContainer:
        if not self.stubborn:
            self._redis.delete(f"{QUEUE}wait")
        return super().start(spec)


class Works:
    """The worker on its Railway, with its queue."""

    def __init__(self, directory: Path, engine: RedisEngine, admin: Redis, store: BackupStore, keys: BackupKeys) -> None:
        self.engine, self.admin, self.port = engine, admin, free_port()
        self.runtime = Consuming(directory, self.port, admin)
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.stack = Stack(store.stack, Settings(), store, keys, None, None, None, None)

    def __enter__(self) -> Works:
        self.railway.start()
        operator = Operator(self.railway)
        _, service_id = operator.service("app:1", name=SERVICE, restartPolicyType="NEVER")
        operator.deployed(service_id)
        operator.close()
        wait_until(lambda: self.runtime.of(SERVICE)[-1].probe("/") == 200, timeout=60, what="the worker to listen")
        return self

    def __exit__(self, *_: object) -> None:
        self.railway.close()

    def wedge(self) -> None:
        """Let a job wait that nobody takes."""
        self.admin.hset(f"{QUEUE}1", mapping={"timestamp": int((time.time() - 300) * 1000), "delay": 0})
        self.admin.lpush(f"{QUEUE}wait", "1")

    def heal(self, desk: Desk, request: RunbookRequest | None = None) -> str:
        token, url = SecretStr(self.railway.token("workspace")), SecretStr(self.engine.url)
        place = {"project_id": self.railway.project_id, "environment_id": self.railway.environment_id}
        block = RailwayEnvironment(token=token, token_kind="workspace", api_url=self.railway.url, **place)
        targets = Targets(
            timeout=10,
            redis=url,
            langfuse_worker=f"http://127.0.0.1:{self.port}",
            railway=Railway(self.railway.url, "workspace", token, **place),
        )
        with block.open() as api:
            server = RedisServer(url=url)
            return desk.heal(Wedged(self.stack, api, targets, SERVICE, ASPECTS, waits=WAITS, redis=server), request)

    def restarts(self) -> int:
        return len(self.railway.received("deploymentRestart"))


@pytest.fixture
def works(tmp_path: Path, redis_engine: RedisEngine, store: BackupStore, keys: BackupKeys) -> Iterator[Works]:
    with Redis.from_url(redis_engine.url) as admin:
        admin.flushdb()
        with Works(tmp_path, redis_engine, admin, store, keys) as made:
            yield made
        admin.config_set("maxmemory-policy", "noeviction")
        admin.flushdb()


def test_a_worker_that_takes_no_jobs_is_restarted_and_redis_is_kept_from_doing_it_again(
    works: Works, store: BackupStore
) -> None:
    desk = Desk(store)
    assert works.heal(desk) == "nothing to do"
    works.wedge()
    works.admin.config_set("maxmemory-policy", "volatile-lru")
    assert works.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    assert (works.restarts(), works.admin.config_get("maxmemory-policy")) == (0, {"maxmemory-policy": "volatile-lru"})
    assert works.heal(desk) == "healed"
    assert (works.restarts(), works.admin.config_get("maxmemory-policy")) == (1, {"maxmemory-policy": "noeviction"})
    assert "1 in ingestion-queue" in desk.text()
    assert works.heal(desk) == "nothing to do"
    assert works.engine.password not in desk.text()


def test_where_a_restart_does_not_help_a_person_is_told_and_no_job_is_lost(works: Works, store: BackupStore) -> None:
    works.wedge()
    works.runtime.stubborn = True
    with pytest.raises(NotHealed, match=r"a person is needed: 1 jobs wait in ingestion-queue.*; tried: restart"):
        works.heal(Desk(store, pace=IMPATIENT))
    assert works.admin.llen(f"{QUEUE}wait") == 1
