"""redis-memory: Redis is nearly full, or full and refuses writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError, StackError
from blocks.railway import RailwayEnvironment
from blocks.redis import RedisServer
from flows.health.targets import Targets
from flows.runbook.environment import environment_if_any, instance_of
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.redis_jobs import Finished, read_finished
from flows.runbook.redis_relief import ForgetJobs, Purge, RaiseLimit
from flows.runbook.redis_server import Memory, NoStart, Start, StartCommand, connected, read_memory
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["Full", "Known", "RedisMemoryRequest", "decide", "redis_memory"]

SERVICE = "redis"
ASPECTS = ("memory",)
_SHARE = 2 / 3
"""Of the container's memory that Redis may fill: it needs more while it rewrites its append-only file."""
_WORTH = 1.1
"""A limit is raised where it grows by a tenth at least."""


class RedisMemoryRequest(RunbookRequest):
    """What may be forgotten."""

    most_mb: int = Field(
        default=0,
        ge=0,
        description="Raise Redis' own limit up to so many MB; 0: two thirds of what its container has on Railway",
    )
    failed_days: float = Field(default=7, ge=0, description="Ask to forget jobs that failed for good so many days ago")


@flow(name="redis-memory", validate_parameters=True, timeout_seconds=2 * 3600)
def redis_memory(request: RedisMemoryRequest = RedisMemoryRequest()) -> str:
    """Make room in Redis, before it refuses Langfuse's jobs, or after.

    Symptom: `OOM command not allowed when used memory > 'maxmemory'` in Langfuse's log, requests to it answer 500; more than
    80 % of maxmemory used.

    Diagnosis: what is used of the limit, what the container has, how many jobs of Langfuse's queues have ended and are still
    kept, and how many of them are old.

    Remedy: give unused pages back (MEMORY PURGE); raise the limit, as far as the container has memory; forget the records of
    jobs that were completed, which nobody reads; then ask, and forget those that failed for good a week ago.

    When not to: where jobs wait because no worker takes them, room lasts for minutes: heal the worker first (restart-service).
    LiteLLM's cache belongs elsewhere. A failed job that was forgotten can still be replayed from its event in the bucket.

    Args:
        request: what may be forgotten.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed: what fills it is waiting work, or the container is too small.
        ApprovalMissing: nobody approved that failed jobs are forgotten; everything before that was done.
    """
    stack = Stack.load()
    if stack.redis is None:
        raise SettingsError("redis: not set up; set REDIS_URL and run `python -m blocks`")
    environment = environment_if_any(stack.settings)
    start: Start = StartCommand(environment) if environment else NoStart()
    targets = Targets.from_settings(stack.settings)
    runbook = Full(stack.redis, targets, request, start, lambda: container_bytes(environment))
    return carry_out(runbook, request, stack, Pace(settle=10))


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        container: bytes that its container may use; 0: nobody knows. completed, failed: jobs that have ended, by queue.
    """

    wrong: Sequence[str]
    memory: Memory
    container: int
    completed: Sequence[Finished]
    failed: Sequence[Finished]


def decide(known: Known, request: RedisMemoryRequest, ladder: Callable[[int, list[str], list[str]], list[Action]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        ladder: makes the actions of the new limit in bytes (0: it stays), and of the queues whose completed and failed jobs are
            forgotten.
    """
    facts = {
        "memory": known.memory.words,
        "held of the machine's": f"{known.memory.resident / 1e6:.1f} MB",
        "container": f"{known.container / 1e6:.0f} MB" if known.container else "unknown",
        "completed jobs that are kept": _counted(known.completed),
        f"failed jobs older than {request.failed_days:g} days": _counted([one for one in known.failed if one.old]),
    }
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "Redis has room", facts)
    wanted = 1_000_000 * request.most_mb or round(known.container * _SHARE)
    limit = wanted if known.memory.most and wanted >= known.memory.most * _WORTH else 0
    completed = [one.queue for one in known.completed if one.old]
    failed = [one.queue for one in known.failed if one.old]
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, tuple(ladder(limit, completed, failed)))


def container_bytes(environment: RailwayEnvironment | None) -> int:
    """Ask Railway what Redis' container may use; 0 where nobody says."""
    if environment is None:
        return 0
    try:
        with environment.open() as api:
            there = instance_of(api, SERVICE)
            caps = api.current_limits(there.service_id).get("containers") if there else None
    except StackError:
        return 0
    return int(caps["memoryBytes"]) if isinstance(caps, dict) and caps.get("memoryBytes") else 0


@dataclass
class Full(Runbook):
    """One Redis.

    Attributes:
        start: its start command. container: asks what its container may use, bytes, 0 for unknown.
    """

    server: RedisServer
    targets: Targets
    request: RedisMemoryRequest
    start: Start
    container: Callable[[], int]
    name: str = "redis-memory"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong, prefix = self.wrong(), self.targets.queue_prefix
        now = time.time()
        old = now - 86400 * self.request.failed_days
        with connected(self.server, "look at its memory") as client:
            memory = read_memory(client)
            completed = read_finished(client, prefix, "completed", now)
            failed = read_finished(client, prefix, "failed", old)
        known = Known(wrong, memory, self.container(), completed, failed)

        def ladder(limit: int, done: list[str], given_up: list[str]) -> list[Action]:
            rungs: list[Action] = [Purge(self.server)]
            if limit:
                rungs.append(RaiseLimit(self.server, limit, self.start))
            if done:
                rungs.append(ForgetJobs(self.server, prefix, tuple(done), "completed", now))
            if given_up:
                why = "it deletes what could be retried; their events stay in the bucket"
                rungs.append(ForgetJobs(self.server, prefix, tuple(given_up), "failed", old, why))
            return rungs

        return decide(known, self.request, ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS)


def _counted(finished: Sequence[Finished]) -> str:
    return ", ".join(f"{one.old} of {one.queue}" for one in finished) or "none"
