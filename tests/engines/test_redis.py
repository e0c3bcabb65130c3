"""The Redis engine: a real server whose acknowledged writes outlive stop and SIGKILL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.engines.process import EngineError, wait_until
from shared.engines.redis import RedisEngine
from tests.engines.programs import command_lines, is_alive, program

STARTS_REDIS = """
import sys
from pathlib import Path
from shared.engines.redis import RedisEngine
engine = RedisEngine(Path(sys.argv[1]))
engine.start()
print(engine.pid, engine.url, flush=True)
sys.stdin.read(1)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RedisEngine]:
    engine = RedisEngine(tmp_path)
    engine.start()
    yield engine
    engine.kill()


def connect(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0))


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_acknowledged_writes_outlive_the_server_and_the_object(engine: RedisEngine, way: str) -> None:
    with connect(engine.url) as client:
        for number in range(1000):
            client.set(f"key-{number}", number)
    getattr(engine, way)()
    assert not engine.running

    again = RedisEngine(engine.directory)
    again.start()
    with connect(again.url) as client:
        assert client.dbsize() == 1000
        assert client.get("key-999") == "999"
    again.stop()


def test_nobody_gets_in_without_the_password(engine: RedisEngine) -> None:
    with connect(f"redis://{engine.host}:{engine.port}") as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_the_password_is_private_and_in_no_argument_and_no_log(engine: RedisEngine) -> None:
    assert engine.pid is not None
    assert engine.password not in command_lines(engine.pid)
    assert engine.password not in engine.log.read_text()
    for name in ("password", "valkey.conf"):
        assert (engine.directory / name).stat().st_mode & 0o077 == 0


def fill(client: redis.Redis) -> None:
    for number in range(100):
        client.set(f"filler-{number}", "x" * 100_000)


def test_a_full_memory_refuses_writes_instead_of_forgetting_jobs(tmp_path: Path) -> None:
    engine = RedisEngine(tmp_path, settings={"maxmemory": "3mb"})
    engine.start()
    with connect(engine.url) as client:
        client.set("job", "first")
        with pytest.raises(redis.OutOfMemoryError):
            fill(client)
        assert client.get("job") == "first"
    engine.kill()


def test_a_setting_that_the_server_refuses_is_reported_in_its_own_words(tmp_path: Path) -> None:
    engine = RedisEngine(tmp_path, settings={"maxmemory-policy": "sometimes"})
    with pytest.raises(EngineError, match=r"(?s)redis ended with status 1 .*maxmemory-policy"):
        engine.start()


def test_a_server_whose_program_was_killed_ends_and_starts_again(tmp_path: Path) -> None:
    with program(STARTS_REDIS, tmp_path) as (parent, line):
        pid, url = line.split()
        with connect(url) as client:
            client.set("kept", "yes")
        parent.kill()
        wait_until(lambda: not is_alive(int(pid)), timeout=10, what="the left-over server to end")
    engine = RedisEngine(tmp_path)
    engine.start()
    with connect(engine.url) as client:
        assert client.get("kept") == "yes"
    engine.stop()
