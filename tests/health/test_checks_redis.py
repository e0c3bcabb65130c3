"""Redis and Langfuse's queues in it, against a real Valkey."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from pydantic import SecretStr
from redis import Redis

from flows.health.observation import Status
from flows.health.targets import Limits, Targets
from shared.engines.process import free_port
from shared.engines.redis import RedisEngine
from tests.health.looks import CANARY, Scripted, Seen, look

UP = {"/api/health": (200, '{"status":"ok"}'), "/api/ready": (200, "{}")}


@pytest.fixture
def admin(redis_engine: RedisEngine) -> Iterator[Redis]:
    with Redis.from_url(redis_engine.url) as client:
        yield client


@contextmanager
def configured(admin: Redis, **settings: str) -> Iterator[None]:
    names = {name: name.replace("_", "-") for name in settings}
    before = {name: admin.config_get(names[name])[names[name]] for name in settings}  # type: ignore[index]
    for name, value in settings.items():
        admin.config_set(names[name], value)
    try:
        yield
    finally:
        for name, value in before.items():
            admin.config_set(names[name], value)


def redis(engine: RedisEngine, **limits: float) -> Seen:
    return look(Targets(redis=SecretStr(engine.url), limits=replace(Limits(), **limits)), "redis")  # type: ignore[arg-type]


def test_a_healthy_server_is_ok_in_every_aspect(redis_engine: RedisEngine, admin: Redis) -> None:
    admin.config_resetstat()
    seen = redis(redis_engine)
    assert seen.bad() == {}
    assert list(seen) == ["ping", "memory", "eviction-policy", "evictions", "persistence"]
    assert 0 < (seen["ping"].latency_ms or 0) < 1000


def test_a_server_that_may_forget_jobs_is_degraded_until_it_may_not(redis_engine: RedisEngine, admin: Redis) -> None:
    with configured(admin, maxmemory_policy="allkeys-lru"):
        seen = redis(redis_engine)
        assert seen.bad() == {"eviction-policy": Status.DEGRADED}
        assert "is allkeys-lru, expected noeviction" in seen.sentence("eviction-policy")
    assert redis(redis_engine).bad() == {}


def test_memory_is_measured_against_its_limit_and_a_full_server_is_down(redis_engine: RedisEngine, admin: Redis) -> None:
    used = int(admin.info("memory")["used_memory"])  # type: ignore[index]
    with configured(admin, maxmemory=str(int(used * 1.05))):
        seen = redis(redis_engine)
        assert seen.bad() == {"memory": Status.DEGRADED}
        assert 80 < (seen["memory"].value or 0) < 100
    with configured(admin, maxmemory=str(used // 2)):
        seen = redis(redis_engine)
        assert seen["memory"].status is Status.DOWN
        assert "refuses every write" in seen.sentence("memory")
    with configured(admin, maxmemory=str(used * 10)):
        assert redis(redis_engine).bad() == {}


def test_keys_that_were_thrown_away_are_remembered_until_somebody_has_looked(redis_engine: RedisEngine, admin: Redis) -> None:
    used = int(admin.info("memory")["used_memory"])  # type: ignore[index]
    with configured(admin, maxmemory=str(used + 100_000), maxmemory_policy="allkeys-random"):
        for number in range(40):
            admin.set(f"filler:{number}", secrets.token_bytes(10_000))
    admin.flushdb()
    seen = redis(redis_engine)
    assert seen.bad() == {"evictions": Status.DEGRADED}
    assert "RESETSTAT" in seen.sentence("evictions")
    admin.config_resetstat()
    assert redis(redis_engine).bad() == {}


def test_a_server_that_forgets_its_queue_at_a_restart_is_degraded(redis_engine: RedisEngine, admin: Redis) -> None:
    with configured(admin, appendonly="no"):
        assert redis(redis_engine).bad() == {"persistence": Status.DEGRADED}
    assert redis(redis_engine).bad() == {}


def test_a_server_that_is_gone_is_down_in_one_aspect_and_up_again_after_its_start(redis_engine: RedisEngine) -> None:
    redis_engine.kill()
    try:
        seen = redis(redis_engine)
        assert seen.bad() == {"ping": Status.DOWN}
        assert list(seen) == ["ping"]
        assert "Redis refuses connections" in seen.sentence("ping")
    finally:
        redis_engine.start()
    assert redis(redis_engine)["ping"].status is Status.OK


def test_a_server_that_hangs_is_down(redis_engine: RedisEngine) -> None:
    assert redis_engine.pid
    redis_engine.pause()
    try:
        seen = look(Targets(redis=SecretStr(redis_engine.url), timeout=0.5), "redis")
        assert seen.bad() == {"ping": Status.DOWN}
        assert "did not answer within 0.5 s" in seen.sentence("ping")
    finally:
        redis_engine.resume()
    assert redis(redis_engine)["ping"].status is Status.OK


@pytest.mark.parametrize(
    ("url", "words"),
    [("redis://:{wrong}@127.0.0.1:{port}/0", "password is wrong"), ("http://{wrong}:{port}/0", "REDIS_URL is not redis://")],
)
def test_a_mistake_of_ours_is_unknown_and_not_down(redis_engine: RedisEngine, url: str, words: str) -> None:
    seen = look(Targets(redis=SecretStr(url.format(wrong=CANARY, port=redis_engine.port))), "redis")
    assert seen.bad() == {"ping": Status.UNKNOWN}
    assert words in seen.sentence("ping")


# --- queues ----------------------------------------------------------------------------------------------------------------


class Queue:
    """A queue with BullMQ's keys."""

    def __init__(self, admin: Redis, name: str = "ingestion-queue", prefix: str = "bull") -> None:
        self._admin, self._base = admin, f"{prefix}:{name}:"

    def add(self, where: str, job: str, *, age: float = 0, delay: float = 0, taken: float | None = None) -> None:
        """Put a job into a state; ages in seconds."""
        now = time.time()
        fields = {"timestamp": int((now - age) * 1000), "delay": int(delay * 1000)}
        if taken is not None:
            fields["processedOn"] = int((now - taken) * 1000)
        self._admin.hset(self._base + job, mapping=fields)
        if where in ("wait", "active", "paused"):
            self._admin.lpush(self._base + where, job)
        else:
            self._admin.zadd(self._base + where, {job: now})


@pytest.fixture
def queue(admin: Redis) -> Iterator[Queue]:
    admin.flushdb()
    yield Queue(admin)
    admin.flushdb()


def queues(engine: RedisEngine, prefix: str = "bull", **limits: float) -> Seen:
    with Scripted(UP) as worker:
        targets = Targets(
            redis=SecretStr(engine.url),
            langfuse_worker=worker.url,
            queue_prefix=prefix,
            limits=replace(Limits(), **limits),  # type: ignore[arg-type]
        )
        return look(targets, "langfuse-worker")


def test_empty_queues_are_fine(redis_engine: RedisEngine, queue: Queue) -> None:
    seen = queues(redis_engine)
    assert seen.bad() == {}
    assert {"consumption", "queue-depth", "queue-age", "failed-jobs", "queue-work"} <= seen.keys()


def test_a_queue_that_nobody_works_on_is_down_until_a_worker_takes_a_job(redis_engine: RedisEngine, queue: Queue) -> None:
    queue.add("wait", "1", age=200)
    queue.add("wait", "2")
    seen = queues(redis_engine)
    assert seen.bad() == {"consumption": Status.DOWN}
    assert "2 jobs wait in ingestion-queue, the oldest for 200 s" in seen.sentence("consumption")
    queue.add("active", "3")
    assert queues(redis_engine).bad() == {}


def test_a_job_that_has_just_become_due_is_not_stuck(redis_engine: RedisEngine, queue: Queue) -> None:
    queue.add("wait", "put off until now", age=900, delay=899)
    queue.add("prioritized", "tried again after a failure", age=90_000, taken=5)
    assert queues(redis_engine).bad() == {}


def test_jobs_of_a_paused_queue_wait_too(redis_engine: RedisEngine, queue: Queue) -> None:
    queue.add("paused", "1", age=400)
    assert queues(redis_engine).bad() == {"consumption": Status.DOWN, "queue-age": Status.DEGRADED}


def test_markers_of_older_versions_are_no_jobs(redis_engine: RedisEngine, queue: Queue, admin: Redis) -> None:
    queue.add("wait", "1", age=200)
    admin.rpush("bull:ingestion-queue:wait", "0:1764098000000")
    assert queues(redis_engine)["queue-age"].value == pytest.approx(200, abs=5)


def test_depth_age_and_failures_have_limits(redis_engine: RedisEngine, queue: Queue) -> None:
    queue.add("active", "0")
    queue.add("wait", "1", age=200)
    queue.add("wait", "2")
    queue.add("delayed", "3")
    queue.add("failed", "4")
    seen = queues(redis_engine, queue_depth=1, queue_seconds=100)
    degraded = {"queue-depth": Status.DEGRADED, "queue-age": Status.DEGRADED, "failed-jobs": Status.DEGRADED}
    assert seen.bad() == degraded
    assert (seen["queue-depth"].value, seen["failed-jobs"].value, seen["queue-work"].value) == (2, 1, 1)
    assert queues(redis_engine, failed_jobs=1).bad() == {}


def test_failures_elsewhere_lose_no_event(redis_engine: RedisEngine, queue: Queue, admin: Redis) -> None:
    Queue(admin, "webhook-queue").add("failed", "1")
    seen = queues(redis_engine)
    assert seen.bad() == {}
    assert "failed jobs elsewhere: 1" in seen.sentence("failed-jobs")


def test_another_prefix_is_looked_at_where_langfuse_has_one(redis_engine: RedisEngine, queue: Queue, admin: Redis) -> None:
    Queue(admin, prefix="acme").add("wait", "1", age=200)
    assert queues(redis_engine).bad() == {}
    assert queues(redis_engine, "acme").bad() == {"consumption": Status.DOWN}


def test_without_redis_nothing_is_said_of_the_queues() -> None:
    with Scripted(UP) as worker:
        url = SecretStr(f"redis://:{CANARY}@127.0.0.1:{free_port()}/0")
        seen = look(Targets(redis=url, langfuse_worker=worker.url), "langfuse-worker")
    assert set(seen) == {"health", "ready", "stuck-probe"}
