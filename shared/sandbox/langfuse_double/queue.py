"""Queues with BullMQ's keys (facts: apps.md 2.3), so that whoever counts jobs in Redis counts these.

`<prefix>:<queue>:wait` and `active` are lists, `delayed` and `failed` sorted sets, `<prefix>:<queue>:<id>` a hash for each
job, `<id>:lock` a string that expires. A job of `wait` is taken from the right. Of BullMQ's details those are left out that no
reader sees: its Lua scripts, rate limits, priorities, parents.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.sandbox.langfuse_double.configuration import Configuration

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["Job", "Queue"]

_EVENTS = 10_000
_ORDER = 0x1000  # BullMQ's scores of delayed jobs: milliseconds times this, plus the low bits of the id


@dataclass(frozen=True)
class Job:
    """A job that this worker has taken.

    Attributes:
        id: within its queue. data: what is to be done. attempt: 1 for the first.
    """

    id: str
    data: dict[str, Any]
    attempt: int


class Queue:
    """One queue.

    Args:
        redis: a client that decodes answers. name: of the queue. configuration: prefix, attempts, backoff, lock.
    """

    def __init__(self, redis: Redis, name: str, configuration: Configuration) -> None:
        self.name = name
        self._redis: Any = redis  # its async methods are typed as if they could answer at once
        self._base = f"{configuration.stores.redis_key_prefix}:{name}:"
        self._attempts, self._backoff, self._lock = configuration.attempts, configuration.backoff, configuration.lock
        self._token = secrets.token_hex(8)

    async def add(self, name: str, data: dict[str, Any], *, delay: float = 0.0) -> str:
        """Put a job.

        Args:
            name: of the kind of job. data: as JSON. delay: seconds before which it is not taken.
        Returns: its id.
        """
        job_id = str(await self._redis.incr(self._base + "id"))
        now = _milliseconds()
        job = {
            "name": name,
            "data": json.dumps(data),
            "opts": json.dumps({"attempts": self._attempts, "removeOnComplete": True, "delay": round(delay * 1000)}),
            "timestamp": now,
            "delay": round(delay * 1000),
            "priority": 0,
        }
        async with self._redis.pipeline(transaction=True) as steps:
            steps.hset(self._base + "meta", mapping={"opts.maxLenEvents": _EVENTS, "version": "bullmq:5.76.3"})
            steps.hset(self._base + job_id, mapping=job)
            if delay:
                steps.zadd(self._base + "delayed", {job_id: _score(now + delay * 1000, job_id)})
            else:
                steps.lpush(self._base + "wait", job_id)
            steps.xadd(self._base + "events", {"event": "added", "jobId": job_id, "name": name}, maxlen=_EVENTS)
            await steps.execute()
        return job_id

    async def take(self, *, timeout: float) -> Job | None:  # noqa: ASYNC109 - Redis itself waits
        """Take the job that has waited longest, or None when none came in time.

        Args:
            timeout: seconds.
        """
        await self._promote()
        job_id = await self._redis.blmove(self._base + "wait", self._base + "active", timeout, "RIGHT", "LEFT")
        if job_id is None:
            return None
        async with self._redis.pipeline(transaction=True) as steps:
            steps.set(f"{self._base}{job_id}:lock", self._token, px=round(self._lock * 1000))
            steps.hset(self._base + job_id, "processedOn", _milliseconds())
            steps.hincrby(self._base + job_id, "ats", 1)
            steps.hget(self._base + job_id, "data")
            steps.hget(self._base + job_id, "atm")
            *_, data, attempts = await steps.execute()
        return Job(job_id, json.loads(data or "{}"), int(attempts or 0) + 1)

    async def give_back(self, job: Job) -> None:
        """Let a job wait again as if it had not been taken."""
        async with self._redis.pipeline(transaction=True) as steps:
            self._leave_active(steps, job.id)
            steps.rpush(self._base + "wait", job.id)
            await steps.execute()

    async def complete(self, job: Job) -> None:
        """Remove a job that is done."""
        async with self._redis.pipeline(transaction=True) as steps:
            self._leave_active(steps, job.id)
            steps.delete(self._base + job.id)
            steps.xadd(self._base + "events", {"event": "completed", "jobId": job.id}, maxlen=_EVENTS)
            await steps.execute()

    async def fail(self, job: Job, reason: str) -> None:
        """Try a job again later, or, after its last attempt, keep it among the failed."""
        now = _milliseconds()
        async with self._redis.pipeline(transaction=True) as steps:
            self._leave_active(steps, job.id)
            steps.hset(self._base + job.id, mapping={"failedReason": reason, "atm": job.attempt})
            if job.attempt < self._attempts:
                due = now + self._backoff * 1000 * 2 ** (job.attempt - 1)
                steps.zadd(self._base + "delayed", {job.id: _score(due, job.id)})
            else:
                steps.hset(self._base + job.id, "finishedOn", now)
                steps.zadd(self._base + "failed", {job.id: now})
            await steps.execute()

    async def recover(self) -> int:
        """Let jobs wait again whose worker has gone, and with it the lock.

        Returns: how many there were.
        """
        stalled = 0
        for job_id in await self._redis.lrange(self._base + "active", 0, -1):
            if not await self._redis.exists(f"{self._base}{job_id}:lock"):
                async with self._redis.pipeline(transaction=True) as steps:
                    self._leave_active(steps, job_id)
                    steps.rpush(self._base + "wait", job_id)
                    steps.hincrby(self._base + job_id, "stc", 1)
                    await steps.execute()
                stalled += 1
        return stalled

    async def _promote(self) -> None:
        """Let jobs wait whose delay is over."""
        due = await self._redis.zrangebyscore(self._base + "delayed", 0, (_milliseconds() + 1) * _ORDER)
        for job_id in due:
            if await self._redis.zrem(self._base + "delayed", job_id):
                await self._redis.lpush(self._base + "wait", job_id)

    def _leave_active(self, steps: Any, job_id: str) -> None:
        steps.lrem(self._base + "active", 1, job_id)
        steps.delete(f"{self._base}{job_id}:lock")


def _milliseconds() -> int:
    return round(time.time() * 1000)


def _score(due: float, job_id: str) -> int:
    return round(due) * _ORDER + int(job_id) % _ORDER
