"""redis-policy on a real server, and its start command on the sandbox's Railway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis

from blocks.errors import RailwayError
from blocks.object_store import BackupStore
from blocks.redis import RedisServer
from flows.health.targets import Targets
from flows.runbook.frame import RunbookRequest, Verdict
from flows.runbook.redis_policy import SetPolicy, ThrowsAway, decide
from flows.runbook.redis_server import Memory, NoStart, Start, StartCommand, with_option
from shared.engines.redis import RedisEngine
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from tests.runbook.cases import CANARY, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessRuntime

COMMAND = f"redis-server --requirepass {CANARY} --maxmemory-policy allkeys-lru --appendonly yes"


@pytest.fixture
def admin(redis_engine: RedisEngine) -> Iterator[Redis]:
    """A server that throws keys away."""
    with Redis.from_url(redis_engine.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        yield client
        client.config_set("maxmemory-policy", "noeviction")


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def policy(admin: Redis) -> str:
    found: dict[str, str] = admin.config_get("maxmemory-policy")  # type: ignore[assignment]
    return found["maxmemory-policy"]


def runbook(engine: RedisEngine, start: Start | None = None) -> ThrowsAway:
    url = SecretStr(engine.url)
    return ThrowsAway(RedisServer(url=url), Targets(timeout=20, redis=url), start or NoStart())


def test_the_policy_is_set_at_once_and_a_second_run_finds_nothing(redis_engine: RedisEngine, admin: Redis, desk: Desk) -> None:
    assert desk.heal(runbook(redis_engine), RunbookRequest(dry_run=True)) == "can heal"
    assert policy(admin) == "allkeys-lru", "a dry run"
    assert desk.trail() == []
    assert desk.heal(runbook(redis_engine)) == "healed"
    assert policy(admin) == "noeviction"
    assert desk.heal(runbook(redis_engine)) == "nothing to do"
    assert desk.asked == []
    assert redis_engine.password not in desk.text()


@pytest.mark.long
def test_what_was_killed_before_the_start_command_is_finished_by_the_next_run(
    redis_engine: RedisEngine, admin: Redis, desk: Desk, tmp_path: Path
) -> None:
    """The running server was set already, the start command was not yet: and Railway away for a while is no reason to fail."""
    with RailwayStandIn(tmp_path / "railway", ProcessRuntime(tmp_path), pace=QUICK, behaviour=PATIENT) as railway:
        operator = Operator(railway)
        _, service_id = operator.service("app:1", name="redis", startCommand=COMMAND)
        start = StartCommand(railway_block(railway))
        railway.refuse("not now", field="serviceInstanceUpdate")
        assert desk.heal(runbook(redis_engine, start)) == "healed"
        assert policy(admin) == "noeviction"
        assert "change --maxmemory-policy in its start command on Railway by hand" in desk.text()
        assert start.says("maxmemory-policy") == "allkeys-lru"
        assert desk.heal(runbook(redis_engine, start)) == "healed"
        assert start.says("maxmemory-policy") == "noeviction"
        assert desk.heal(runbook(redis_engine, start)) == "nothing to do"
        assert operator.deployments(service_id) == [], "nothing is deployed by that"
        operator.close()
    with pytest.raises(RailwayError):
        start.says("maxmemory-policy")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert desk.heal(runbook(redis_engine, start)) == "healed", "also without Railway"
    assert CANARY not in desk.text()


MEMORY = Memory(used=10, most=100, policy="allkeys-lru", evicted=3)


@pytest.mark.parametrize(
    ("wrong", "memory", "configured", "verdict", "said"),
    [
        ([], MEMORY, "", Verdict.NOTHING, "the policy is noeviction"),
        ([], MEMORY, "noeviction", Verdict.NOTHING, "the policy is noeviction"),
        ([], MEMORY, "volatile-ttl", Verdict.HEALS, "but its start command says volatile-ttl"),
        (["it evicts"], MEMORY, "", Verdict.HEALS, "it evicts"),
        (["it evicts"], Memory(100, 100, "allkeys-lru", 9), "", Verdict.HEALS, "run redis-memory next"),
    ],
)
def test_what_is_known_decides(wrong: list[str], memory: Memory, configured: str, verdict: Verdict, said: str) -> None:
    action = SetPolicy(RedisServer(url=SecretStr("redis://127.0.0.1:1/0")), NoStart())
    found = decide(wrong, memory, configured, action)
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence
    assert bool(found.actions) is (verdict is Verdict.HEALS)


@pytest.mark.parametrize(
    ("command", "after"),
    [
        ("redis-server --maxmemory-policy allkeys-lru", "redis-server --maxmemory-policy noeviction"),
        ("sh -c 'redis-server --maxmemory-policy=volatile-lru'", "sh -c 'redis-server --maxmemory-policy=noeviction'"),
        ("redis-server --maxmemory 1gb", "redis-server --maxmemory 1gb"),
    ],
)
def test_an_option_of_a_start_command_is_changed_where_it_stands(command: str, after: str) -> None:
    assert with_option(command, "maxmemory-policy", "noeviction") == after
