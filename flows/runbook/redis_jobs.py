"""Records of jobs that BullMQ keeps in Redis after their end: counted, and deleted oldest first (facts: apps.md 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flows.health.checks.langfuse_queues import QUEUES

__all__ = ["Finished", "forget", "read_finished"]

_BATCH = 500
_MOST_BATCHES = 2000
"""A million jobs in one go: more is for the next run."""


@dataclass(frozen=True)
class Finished:
    """Jobs of one queue that have ended.

    Attributes:
        queue: without the prefix. how: completed or failed. jobs: how many. old: those that ended before the moment asked.
    """

    queue: str
    how: str
    jobs: int
    old: int


def read_finished(client: Any, prefix: str, how: str, before: float) -> list[Finished]:
    """Count the jobs that have ended, by queue, those with the most first.

    Args:
        before: unix seconds.
    """
    found = []
    for queue in QUEUES:
        key = f"{prefix}:{queue}:{how}"
        jobs = int(client.zcard(key))
        if jobs:
            found.append(Finished(queue, how, jobs, int(client.zcount(key, "-inf", 1000 * before))))
    return sorted(found, key=lambda one: -one.old)


def forget(client: Any, prefix: str, queues: Sequence[str], how: str, before: float) -> int:
    """Delete records of jobs that ended before a moment, and what belongs to each; returns how many.

    A record is found and deleted in one transaction of the server, so that a job that somebody retries meanwhile stays whole.

    Args:
        before: unix seconds.
    """
    script = client.register_script(_FORGET)
    total = 0
    for queue in queues:
        base = f"{prefix}:{queue}:"
        for _ in range(_MOST_BATCHES):
            deleted = int(script(keys=[base + how], args=[base, 1000 * before, _BATCH]))
            total += deleted
            if deleted < _BATCH:
                break
    return total


_FORGET = """
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[2], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do
  redis.call('DEL', ARGV[1] .. id, ARGV[1] .. id .. ':logs', ARGV[1] .. id .. ':dependencies', ARGV[1] .. id .. ':processed')
  redis.call('ZREM', KEYS[1], id)
end
return #ids
"""
"""The keys that are made in here belong to one queue; Langfuse's Redis is no cluster here (keys would need `{queue}`)."""
