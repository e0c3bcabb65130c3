"""Redis: does it answer, does it forget, is it full, would a restart lose what is queued."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError

from blocks.errors import SettingsError
from flows.health.findings import Findings, NoAnswer
from flows.health.observation import Status
from flows.health.reach import how, once_more, resolved
from flows.health.targets import Limits

__all__ = ["MAIN", "check", "connected"]

MAIN = "ping"


async def check(url: SecretStr, found: Findings, limits: Limits) -> None:
    """Look at Redis."""
    with found.looking(MAIN, Status.DOWN):
        async with connected(url) as client:
            begun = time.monotonic()
            await client.ping()
            found.add(MAIN, Status.OK, "Redis answers", latency_ms=(time.monotonic() - begun) * 1000)
            with found.looking("memory", Status.DEGRADED):
                _judge(await client.info("everything"), found, limits)


@asynccontextmanager
async def connected(url: SecretStr) -> AsyncIterator[Any]:
    """Connect.

    Raises:
        NoAnswer: it does not answer, or only that it is loading its data.
        SettingsError: the URL is none, or the password is refused.
    """
    never = Retry(NoBackoff(), 0)  # redis-py's own retries outlast a check
    try:
        client: Any = Redis.from_url(url.get_secret_value(), retry=never)
    except ValueError:
        raise SettingsError("redis: REDIS_URL is not redis://[:password@]host:port/0") from None
    try:
        await resolved(str(client.connection_pool.connection_kwargs.get("host", "127.0.0.1")))
        await once_more(client.ping)
        yield client
    except AuthenticationError:
        raise SettingsError("redis: the password is wrong or missing, so nobody looked; correct REDIS_URL") from None
    except NoPermissionError:
        raise SettingsError("redis: this user may not run PING, INFO and reading commands; grant +ping +info +@read") from None
    except BusyLoadingError:
        raise NoAnswer("is loading its data into memory") from None
    except RedisError as error:
        raise NoAnswer(how(error)) from error
    finally:
        await client.aclose()


def _judge(info: Mapping[str, Any], found: Findings, limits: Limits) -> None:
    used, most = float(info.get("used_memory", 0)), float(info.get("maxmemory", 0))
    percent = used * 100 / most if most else 0.0
    todo = "drain the queues, keep LiteLLM's cache elsewhere, give it more memory"
    if most and percent >= 100:
        what = f"Redis is full ({used / 1e6:.0f} of {most / 1e6:.0f} MB) and refuses every write"
        found.add("memory", Status.DOWN, f"{what}; {todo}", value=round(percent, 1), limit=limits.memory_percent, unit="%")
    elif most:
        text = f"Redis uses {used / 1e6:.0f} of {most / 1e6:.0f} MB, expected at most {limits.memory_percent:.0f} %"
        found.measure("memory", round(percent, 1), limits.memory_percent, "%", text, todo)
    else:
        found.add("memory", Status.OK, f"Redis uses {used / 1e6:.0f} MB and has no limit of its own", value=used, unit="bytes")
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        found.add("eviction-policy", Status.OK, "Redis' maxmemory-policy is noeviction")
    else:
        what = (
            f"Redis' maxmemory-policy is {policy}, expected noeviction: Langfuse's queues lose jobs and locks when it is full"
        )
        todo = "CONFIG SET maxmemory-policy noeviction, and change the service's start command"
        found.add("eviction-policy", Status.DEGRADED, f"{what}; {todo}")
    evicted = float(info.get("evicted_keys", 0))
    text = f"Redis has thrown {evicted:.0f} keys away, expected none"
    todo = "set noeviction, look for lost events, replay them; CONFIG RESETSTAT when that is done"
    found.measure("evictions", evicted, 0, "keys", text, todo)
    _persistence(info, found)


def _persistence(info: Mapping[str, Any], found: Findings) -> None:
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        what = "Redis cannot write to its disk, and may refuse writes because of it"
        found.add("persistence", Status.DEGRADED, f"{what}; is the volume full? Read its log")
    elif not int(info.get("aof_enabled", 0)):
        what = "Redis keeps no append-only file, so that a restart loses what is queued"
        todo = "CONFIG SET appendonly yes, and change the service's start command"
        found.add("persistence", Status.DEGRADED, f"{what}; {todo}")
    elif info.get("aof_last_bgrewrite_status", "ok") != "ok":
        what = "Redis could not rewrite its append-only file, which grows until the disk is full"
        found.add("persistence", Status.DEGRADED, f"{what}; is the volume full? Then BGREWRITEAOF")
    else:
        found.add("persistence", Status.OK, "Redis writes an append-only file")
