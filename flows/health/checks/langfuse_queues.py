"""Langfuse's queues in Redis, as BullMQ lays them out: how many jobs wait, for how long, whether anybody takes them.

A worker that has lost its locks stops taking jobs and still calls itself healthy until Redis is full (langfuse#15509), so what
is asked here is the queue itself. An idle worker takes a job within milliseconds: one that has waited for minutes while nobody
works on any says that the queue is stuck, without knowing the numbers of the sweep before.

Keys (facts: apps.md 2.3): `<prefix>:<queue>:` and `wait`, `active`, `paused` (lists, the oldest at the right), `delayed`,
`failed`, `prioritized` (sorted sets), and a hash for each job with `timestamp`, `delay`, `processedOn` in milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from flows.health.checks.redis import connected
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.targets import Limits

__all__ = ["MAIN", "QUEUES", "check"]

MAIN = "consumption"

INGESTION = ("ingestion-queue", "secondary-ingestion-queue", "otel-ingestion-queue", "secondary-otel-ingestion-queue")
"""What fails here is an event that is in no trace."""

QUEUES = (
    *INGESTION,
    "trace-upsert",
    "evaluation-execution-queue",
    "create-eval-queue",
    "batch-export-queue",
    "trace-delete",
    "score-delete",
    "project-delete",
    "data-retention-queue",
    "webhook-queue",
    "event-propagation-queue",
)
"""Those that a person waits for; `dead-letter-retry-queue` has no consumer by default."""


@dataclass(frozen=True)
class Queue:
    """One queue: jobs by state, and the seconds that the oldest has waited for a worker."""

    name: str
    waiting: int
    active: int
    delayed: int
    failed: int
    oldest: float


async def check(url: SecretStr, prefix: str, found: Findings, limits: Limits) -> None:
    """Look at the queues. Where Redis is silent nothing is said: its own check says so.

    Args:
        prefix: of the keys.
    """
    with found.looking(MAIN, None):
        async with connected(url) as client:
            queues = await _read(client, prefix)
        _judge(queues, found, limits)


async def _read(client: Any, prefix: str) -> list[Queue]:
    """Read all queues in two round trips."""
    async with client.pipeline(transaction=False) as ask:
        for name in QUEUES:
            key = f"{prefix}:{name}:"
            for part in ("wait", "paused", "active"):
                ask.llen(key + part)
            for part in ("prioritized", "delayed", "failed"):
                ask.zcard(key + part)
            ask.lrange(key + "wait", -2, -1)
            ask.lrange(key + "paused", -1, -1)
            ask.zrange(key + "prioritized", 0, 0)
        rows = _rows(await ask.execute(), len(QUEUES))
    async with client.pipeline(transaction=False) as ask:
        for name, row in zip(QUEUES, rows, strict=True):
            ask.hmget(f"{prefix}:{name}:{_oldest(row)}", "timestamp", "delay", "processedOn")
        jobs = await ask.execute()
    now = time.time() * 1000
    return [_queue(name, row, job, now) for name, row, job in zip(QUEUES, rows, jobs, strict=True)]


def _rows(answers: Sequence[Any], count: int) -> list[Sequence[Any]]:
    size = len(answers) // count
    return [answers[place * size : (place + 1) * size] for place in range(count)]


def _oldest(row: Sequence[Any]) -> str:
    """Id of a job that has waited longest; older versions of BullMQ keep markers, `0:...`, among the ids."""
    ids = [one.decode() for part in (row[8], row[7], row[6]) for one in part]
    return next((one for one in reversed(ids) if not one.startswith("0:")), "")


def _queue(name: str, row: Sequence[Any], job: Sequence[bytes | None], now: float) -> Queue:
    wait, paused, active, prioritized, delayed, failed = (int(number) for number in row[:6])
    made, delay, taken = (float(value or 0) for value in job)
    since = max(made + delay, taken)  # a job that failed and waits again was taken before
    return Queue(name, wait + paused + prioritized, active, delayed, failed, max(now - since, 0) / 1000 if since else 0)


def _judge(queues: Sequence[Queue], found: Findings, limits: Limits) -> None:
    stuck = [one for one in queues if one.waiting and not one.active and one.oldest > limits.stuck_seconds]
    worst = max(stuck, key=lambda one: one.oldest, default=None)
    if worst is None:
        found.add(MAIN, Status.OK, "Langfuse worker takes what waits in its queues", value=0, unit="queues")
    else:
        what = f"{worst.waiting} jobs wait in {worst.name}, the oldest for {worst.oldest:.0f} s, and nobody works on any"
        todo = "restart the Langfuse worker; see that Redis' maxmemory-policy is noeviction"
        found.add(MAIN, Status.DOWN, f"{what}; {todo}", value=len(stuck), limit=0, unit="queues")
    waiting, most = sum(one.waiting for one in queues), max(queues, key=lambda one: one.waiting)
    where = f", most in {most.name}" if waiting else ""
    text = f"{waiting} jobs wait in Langfuse's queues{where}, expected at most {limits.queue_depth:.0f}"
    found.measure("queue-depth", waiting, limits.queue_depth, "jobs", text, "is the worker up, is ClickHouse fast enough?")
    slow = max(queues, key=lambda one: one.oldest)
    text = f"the oldest waiting job is {slow.oldest:.0f} s old, expected at most {limits.queue_seconds:.0f} s"
    where = f"it is in {slow.name}; is the worker up, is ClickHouse fast enough?"
    found.measure("queue-age", round(slow.oldest, 1), limits.queue_seconds, "seconds", text, where)
    failed = sum(one.failed for one in queues if one.name in INGESTION)
    others = sum(one.failed for one in queues if one.name not in INGESTION)
    text = f"{failed} events were given up by Langfuse's ingestion, expected none; failed jobs elsewhere: {others}"
    todo = "find the cause in the worker's log, then retry them (runbook retry-failed-jobs) or remove them"
    found.measure("failed-jobs", failed, limits.failed_jobs, "jobs", text, todo)
    delayed, active = sum(one.delayed for one in queues), sum(one.active for one in queues)
    found.add("queue-work", Status.OK, f"{active} jobs are worked on, {delayed} are put off", value=active, unit="jobs")
