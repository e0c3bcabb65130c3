"""redis-memory on a real server that is really full: what makes room, in which order, and what asks first."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import ResponseError

from blocks.errors import ApprovalMissing, NotHealed
from blocks.object_store import BackupStore
from blocks.redis import RedisServer
from flows.health.targets import Targets
from flows.runbook.frame import Action, RunbookRequest, Verdict
from flows.runbook.redis_jobs import Finished
from flows.runbook.redis_memory import Full, Known, RedisMemoryRequest, decide
from flows.runbook.redis_server import Memory, NoStart
from shared.engines.redis import RedisEngine
from tests.runbook.cases import IMPATIENT, Desk

QUEUE = "bull:ingestion-queue:"
DAY = 86400


class Tank:
    """A server with finished jobs in it."""

    def __init__(self, engine: RedisEngine, client: Redis) -> None:
        self.engine, self.client = engine, client

    def finished(self, how: str, count: int, *, days: float) -> None:
        """Put jobs of 10 kB that ended so long ago."""
        ended = 1000 * (time.time() - days * DAY)
        with self.client.pipeline() as pipe:
            for number in range(count):
                job = f"{how}-{days:g}-{number}"
                pipe.hset(QUEUE + job, mapping={"data": "x" * 10_000})
                pipe.rpush(f"{QUEUE}{job}:logs", "a line")
                pipe.zadd(QUEUE + how, {job: ended})
            pipe.execute()

    def fill(self, share: float) -> int:
        """Set the limit so that what is used is this share of it; returns the limit."""
        self.client.connection_pool.disconnect()  # its buffers are memory, too, and go by themselves
        used = int(self.client.info("memory")["used_memory"])  # type: ignore[index]
        limit = int(used / share)
        self.client.config_set("maxmemory", limit)
        return limit

    def kept(self, how: str) -> int:
        return int(self.client.zcard(QUEUE + how))  # type: ignore[arg-type]

    def runbook(self, container: int = 0, **request: object) -> Full:
        url = SecretStr(self.engine.url)
        asked = RedisMemoryRequest(**request)
        return Full(RedisServer(url=url), Targets(timeout=20, redis=url), asked, NoStart(), lambda: container)


@pytest.fixture
def tank(redis_engine: RedisEngine) -> Iterator[Tank]:
    with Redis.from_url(redis_engine.url) as client:
        client.flushdb()
        yield Tank(redis_engine, client)
        client.config_set("maxmemory", 0)
        client.flushdb()


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


def test_where_the_container_has_memory_the_limit_is_raised_and_nothing_is_deleted(tank: Tank, desk: Desk) -> None:
    tank.finished("completed", 1000, days=1)  # much more than buffers of clients, which come and go
    limit = tank.fill(0.95)
    assert desk.heal(tank.runbook(3 * limit), RunbookRequest(dry_run=True)) == "can heal"
    assert (tank.client.config_get("maxmemory"), desk.trail()) == ({"maxmemory": str(limit)}, [])
    assert desk.heal(tank.runbook(3 * limit)) == "healed"
    assert tank.client.config_get("maxmemory") == {"maxmemory": str(2 * limit)}
    assert tank.kept("completed") == 1000
    assert desk.asked == []
    assert desk.heal(tank.runbook(3 * limit)) == "nothing to do"


def test_a_server_that_refuses_writes_forgets_completed_jobs_and_takes_writes_again(tank: Tank, desk: Desk) -> None:
    tank.finished("completed", 600, days=1)
    tank.finished("failed", 5, days=30)
    tank.fill(1.2)
    with pytest.raises(ResponseError, match="used memory"):
        tank.client.set("x", "y")
    assert desk.heal(tank.runbook()) == "healed"
    assert (tank.kept("completed"), tank.kept("failed")) == (0, 5)
    assert list(tank.client.scan_iter(f"{QUEUE}completed-*")) == [], "and what belongs to them"
    tank.client.set("x", "y")
    assert "600 forgotten; " in desk.text()


def test_failed_jobs_are_forgotten_only_when_a_person_approves_and_the_younger_ones_stay(tank: Tank, desk: Desk) -> None:
    tank.finished("failed", 600, days=30)
    tank.finished("failed", 10, days=2)
    tank.fill(0.95)
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(tank.runbook())
    assert tank.kept("failed") == 610
    desk.approves = True
    assert desk.heal(tank.runbook()) == "healed"
    assert tank.kept("failed") == 10
    assert "forget failed jobs of ingestion-queue" in desk.asked[-1]


def test_where_work_that_waits_fills_it_a_person_is_needed(tank: Tank, desk: Desk) -> None:
    for number in range(20):
        tank.client.lpush(f"{QUEUE}wait", f"{number}" * 5000)
    tank.fill(0.95)
    with pytest.raises(NotHealed, match="a person is needed: Redis uses"):
        desk.heal(tank.runbook())
    assert tank.client.llen(f"{QUEUE}wait") == 20


# --- decisions -----------------------------------------------------------------------------------------------------------

MEMORY = Memory(used=90_000_000, most=100_000_000, policy="noeviction", evicted=0)


@pytest.mark.parametrize(
    ("wrong", "container", "request_", "limit"),
    [
        (["full"], 0, RedisMemoryRequest(), 0),
        (["full"], 150_000_000, RedisMemoryRequest(), 0),
        (["full"], 300_000_000, RedisMemoryRequest(), 200_000_000),
        (["full"], 300_000_000, RedisMemoryRequest(most_mb=120), 120_000_000),
        (["full"], 0, RedisMemoryRequest(most_mb=90), 0),
    ],
)
def test_the_limit_follows_from_the_container(
    wrong: list[str], container: int, request_: RedisMemoryRequest, limit: int
) -> None:
    made: list[tuple[int, list[str], list[str]]] = []

    def ladder(new: int, completed: list[str], failed: list[str]) -> list[Action]:
        made.append((new, completed, failed))
        return []

    finished = [Finished("a", "completed", 5, 5), Finished("b", "completed", 5, 0)]
    found = decide(Known(wrong, MEMORY, container, finished, []), request_, ladder)
    assert made == [(limit, ["a"], [])]
    assert found.verdict is Verdict.HEALS


def test_with_room_there_is_nothing_to_do() -> None:
    found = decide(Known([], MEMORY, 0, [], []), RedisMemoryRequest(), lambda *_: [])
    assert found.verdict is Verdict.NOTHING
