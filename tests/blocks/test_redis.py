"""The Redis block against a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from redis import Redis

from blocks.errors import AccessDenied, ServiceError, SettingsError
from blocks.redis import RedisServer
from shared.engines.process import free_port
from shared.engines.redis import RedisEngine

CANARY = "canary-5f1d"


@pytest.fixture
def admin(redis_engine: RedisEngine) -> Iterator[Redis]:
    with Redis.from_url(redis_engine.url) as client:
        yield client


def test_a_server_that_never_forgets_jobs_is_fine(redis_engine: RedisEngine) -> None:
    RedisServer(url=SecretStr(redis_engine.url)).check()


@pytest.mark.parametrize("url", ["redis://:{wrong}@127.0.0.1:{port}/0", "redis://127.0.0.1:{port}/0"])
def test_a_wrong_or_missing_password_is_named(redis_engine: RedisEngine, url: str) -> None:
    server = RedisServer(url=SecretStr(url.format(wrong=CANARY, port=redis_engine.port)))
    with pytest.raises(AccessDenied, match=r"password.*REDIS_URL") as raised:
        server.check()
    assert CANARY not in str(raised.value)
    assert raised.value.__suppress_context__


def test_a_user_without_rights_is_told_which(redis_engine: RedisEngine, admin: Redis) -> None:
    admin.acl_setuser("guest", enabled=True, passwords=["+guest"], commands=["+ping"])
    with pytest.raises(AccessDenied, match="INFO"):
        RedisServer(url=SecretStr(f"redis://guest:guest@127.0.0.1:{redis_engine.port}/0")).check()


def test_a_server_that_evicts_is_refused(redis_engine: RedisEngine, admin: Redis) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(SettingsError, match="allkeys-lru, expected noeviction"):
            RedisServer(url=SecretStr(redis_engine.url)).check()
    finally:
        admin.config_set("maxmemory-policy", "noeviction")


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(ServiceError, match="no answer"):
        RedisServer(url=SecretStr(f"redis://:{CANARY}@127.0.0.1:{free_port()}/0"), timeout=0.5).check()


@pytest.mark.parametrize("url", [f"http://{CANARY}/0", f"redis://:{CANARY}@host:not-a-port/0", CANARY])
def test_what_is_no_redis_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL is not") as raised:
        RedisServer(url=SecretStr(url)).check()
    assert CANARY not in str(raised.value)
    assert raised.value.__suppress_context__


def test_the_url_is_not_shown(redis_engine: RedisEngine) -> None:
    server = RedisServer(url=SecretStr(redis_engine.url))
    assert redis_engine.password not in repr(server) + str(server) + server.model_dump_json()
