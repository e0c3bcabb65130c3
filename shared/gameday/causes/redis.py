"""Redis forgets, or is full."""

from __future__ import annotations

import time

from shared.gameday.causes.cause import Cause

__all__ = ["MemoryPressed", "PolicyForgets"]

_QUEUE = "bull:ingestion-queue:"
_JOB_BYTES, _JOBS = 20_000, 1500
_SHARE = 0.95


class PolicyForgets(Cause):
    """A person sets the policy of a cache."""

    key, numbers, what = "redis-policy", (2,), "Redis' maxmemory-policy is set to allkeys-lru"
    service, aspects = "redis", ("eviction-policy",)
    runbook = "redis-policy"

    def cause(self) -> None:
        """As in `Cause`."""
        with self.ground.redis() as client:
            client.config_set("maxmemory-policy", "allkeys-lru")

    def undo(self) -> None:
        """As in `Cause`."""
        with self.ground.redis() as client:
            client.config_set("maxmemory-policy", "noeviction")

    def left(self) -> str:
        """As in `Cause`."""
        with self.ground.redis() as client:
            policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
        return "" if policy == "noeviction" else f"the policy is {policy}"


class MemoryPressed(Cause):
    """Redis' limit is small, and jobs of Langfuse that were completed fill it."""

    key, numbers, what = "redis-memory", (2,), f"completed jobs fill {_SHARE:.0%} of Redis' memory"
    service, aspects = "redis", ("memory",)
    runbook = "redis-memory"

    def cause(self) -> None:
        """As in `Cause`."""
        ended = 1000 * (time.time() - 3600)
        with self.ground.redis() as client:
            for number in range(_JOBS):
                with client.pipeline() as pipe:
                    pipe.hset(f"{_QUEUE}gameday-{number}", mapping={"data": "x" * _JOB_BYTES})
                    pipe.zadd(f"{_QUEUE}completed", {f"gameday-{number}": ended})
                    pipe.execute()
            client.config_set("maxmemory", int(int(client.info("memory")["used_memory"]) / _SHARE))

    def undo(self) -> None:
        """As in `Cause`."""
        with self.ground.redis() as client:
            client.config_set("maxmemory", "1gb")
            names = [f"gameday-{number}" for number in range(_JOBS)]
            client.delete(*(f"{_QUEUE}{name}" for name in names))
            client.zrem(f"{_QUEUE}completed", *names)

    def left(self) -> str:
        """As in `Cause`."""
        with self.ground.redis() as client:
            memory = client.info("memory")
        used, most = int(memory["used_memory"]), int(memory["maxmemory"])
        return f"{used} of {most} bytes are used" if most and used > 0.8 * most else ""
