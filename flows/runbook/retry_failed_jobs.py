"""retry-failed-jobs: Langfuse's worker has given events up; what failed for a passing reason is done again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from prefect import flow
from pydantic import Field

from blocks.errors import ServiceError, SettingsError
from blocks.redis import RedisServer
from flows.health.checks.langfuse_queues import INGESTION, QUEUES
from flows.health.dependencies import needs_of
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.failed_jobs import Failed, Fate, batches, fates, read_failed, retry, shown
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.look import down_needs, observe_services, wrong_with
from flows.runbook.redis_server import connected
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ASPECTS", "SERVICE", "GivenUp", "Known", "PutBack", "RetryRequest", "Times", "decide", "retry_failed_jobs"]

SERVICE = "langfuse-worker"
ASPECTS = ("failed-jobs",)
_MOST = 100_000
"""Jobs of one queue: Langfuse keeps no more that failed."""
_KINDS = 50
"""Reasons that one run looks after, those of most jobs first."""
_HARMLESS = frozenset({*INGESTION, "trace-upsert"})
"""What may be done twice: rows with the same ids replace each other (facts: apps.md 2.4)."""


class RetryRequest(RunbookRequest):
    """Which jobs, and how often."""

    queues: list[str] = Field(
        default=[],
        description="Queues whose failed jobs are retried; empty: those of ingestion. Others ask: they may call models",
    )
    tries: int = Field(
        default=2, ge=1, le=100, description="A job that was put back so often and failed again is left, with its reason shown"
    )
    batch: int = Field(default=500, ge=1, le=10_000, description="So many at once; the next when these are done or given up")


@flow(name="retry-failed-jobs", validate_parameters=True, timeout_seconds=6 * 3600)
def retry_failed_jobs(request: RetryRequest = RetryRequest()) -> str:
    """Have Langfuse's worker do again what it has given up. Nothing is deleted.

    Symptom: traces are missing or incomplete; `failed` of an ingestion queue is not 0: the worker tried six times, and kept the
    job. After an outage of ClickHouse or of the bucket there are thousands.

    Diagnosis: how many jobs have failed in each queue, for which reasons, and how often they have been put back before; whether
    all that the worker needs is up.

    Remedy: put one job of each reason back, and see whether it is done. Where it is, the others of that reason follow in
    batches, each with all its attempts, the next batch when the one before has ended. A reason whose one job fails again is
    left alone, and so is a job that was put back twice: those are shown, for a person. Jobs of other queues than ingestion are
    asked for, as they may call models or send webhooks again.

    When not to: while ClickHouse, Postgres, Redis or the bucket is down: they would fail again. What cannot succeed
    (`NoSuchKey`: its event is gone from the bucket; a trace that no memory is enough for) has to be forgotten in the end:
    `redis-memory` with `failed_days`. Rows that were lost without a failed job come back by `replay-events`.

    Args:
        request: which jobs.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed: what is left fails again and again; says for which reason.
        ApprovalMissing: nobody approved that jobs of other queues are retried.
    """
    stack = Stack.load()
    if stack.redis is None:
        raise SettingsError("redis: not set up; set REDIS_URL and run `python -m blocks`")
    runbook = GivenUp(stack.redis, Targets.from_settings(stack.settings), request)
    return carry_out(runbook, request, stack, Pace(settle=30))


@dataclass(frozen=True)
class Times:
    """How long things may take, in seconds.

    Attributes:
        one: a job of the sample, from when it is put back. batch: a batch: five attempts more take 155 s. look: between looks.
    """

    one: float = 120.0
    batch: float = 900.0
    look: float = 1.0


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check says, and that there are failed jobs in other queues that were asked for.
        down: what the worker needs and is down. idle: why nobody would take the jobs, empty where the worker does.
    """

    wrong: Sequence[str]
    jobs: Sequence[Failed]
    down: Sequence[str] = ()
    idle: str = ""


def decide(known: Known, tries: int, put_back: Callable[[tuple[Failed, ...]], Action]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        tries: as requested. put_back: makes the action.
    """
    facts = dict(shown(known.jobs)) or {"failed jobs": "none"}
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "no job has been given up", facts)
    if known.down:
        names = ", ".join(known.down)
        return Diagnosis(Verdict.PERSON, f"{names} is down, so they would fail again; heal that, then run this again", facts)
    if known.idle:
        return Diagnosis(Verdict.PERSON, f"nobody would take them: {known.idle}; heal the worker first", facts)
    worth = tuple(one for one in known.jobs if one.again < tries and not one.child)
    if worth:
        return Diagnosis(Verdict.HEALS, known.wrong[0], facts, (put_back(worth),))
    if not known.jobs:
        return Diagnosis(Verdict.PERSON, known.wrong[0], facts)
    most = max(known.jobs, key=lambda one: one.again)
    return Diagnosis(
        Verdict.PERSON,
        f"{len(known.jobs)} jobs were put back {tries} times and failed again, one of {most.queue} by: {most.why}; mend the "
        "cause and run this with more `tries`, or forget them (redis-memory with failed_days)",
        facts,
    )


@dataclass
class GivenUp(Runbook):
    """The failed jobs of one Langfuse."""

    server: RedisServer
    targets: Targets
    request: RetryRequest
    times: Times = field(default_factory=Times)
    name: str = "retry-failed-jobs"
    service: str = SERVICE

    @property
    def queues(self) -> tuple[str, ...]:
        """Those that are meant.

        Raises:
            SettingsError: there is none of that name.
        """
        if unknown := sorted(set(self.request.queues) - set(QUEUES)):
            raise SettingsError(f"{self.name}: there is no queue {unknown[0]!r}; expected one of {', '.join(QUEUES)}")
        return tuple(self.request.queues) or INGESTION

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        queues, needs = self.queues, needs_of(SERVICE)
        found = observe_services(self.targets, {SERVICE, *needs})
        with connected(self.server, "read the failed jobs") as client:
            jobs = read_failed(client, self.targets.queue_prefix, queues, _MOST)
        wrong = [*wrong_with(found, SERVICE, ASPECTS), *self._others(jobs)]
        idle = next(iter(wrong_with([one for one in found if one.aspect not in ASPECTS], SERVICE, ("consumption",))), "")
        return decide(Known(wrong, jobs, down_needs(found, SERVICE), idle), self.request.tries, self._put_back)

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        with connected(self.server, "read the failed jobs") as client:
            others = [one for one in self.queues if one not in INGESTION]
            jobs = read_failed(client, self.targets.queue_prefix, others, _MOST)
        found = wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS)
        return [*found, *self._others(jobs)]

    def _others(self, jobs: Sequence[Failed]) -> list[str]:
        """What the check does not count: it knows no limit for queues beside ingestion."""
        count = sum(one.queue not in INGESTION for one in jobs)
        return [f"{count} jobs were given up in other queues than those of ingestion, expected none"] if count else []

    def _put_back(self, jobs: tuple[Failed, ...]) -> Action:
        return PutBack(self.server, self.targets.queue_prefix, jobs, self.request.batch, self.times)


@dataclass(frozen=True)
class PutBack(Action):
    """Puts one job of each kind back, then, where that was done, the others in batches."""

    server: RedisServer
    prefix: str
    jobs: tuple[Failed, ...]
    batch: int
    times: Times

    @property
    def asks(self) -> str:
        """As in `Action`."""
        others = sorted({one.queue for one in self.jobs} - _HARMLESS)
        return f"jobs of {', '.join(others)} may call models, write to people or send webhooks a second time" if others else ""

    def describe(self) -> str:
        """As in `Action`."""
        kinds = len({one.kind for one in self.jobs})
        queues = ", ".join(sorted({one.queue for one in self.jobs}))
        return (
            f"put one job of each of {kinds} reasons back into its queue; where it is done, the others of that reason, "
            f"{self.batch} at a time ({len(self.jobs)} jobs in {queues})"
        )

    def do(self) -> str:
        """As in `Action`.

        Raises:
            ServiceError: most of a batch failed again, or nobody takes the jobs; the rest stays where it is.
        """
        counted = Counter(one.kind for one in self.jobs).most_common(_KINDS)
        oldest = {one.kind: one for one in reversed(self.jobs)}
        sample = {oldest[kind] for kind, _ in counted}
        tried = self._retry(sample, self.times.one, afresh=False)
        good = {one.kind for one in tried.done}
        again = {f"{one.queue}: {one.why}" for one in tried.failed}
        if not good and not tried.failed and tried.under_way:
            raise ServiceError(f"nobody has taken a job in {self.times.one:.0f} s: is the worker at work?")
        rest = [one for one in self.jobs if one.kind in good and one not in sample]
        done, failed, late = len(tried.done), len(tried.failed), len(tried.under_way)
        for chunk in batches(rest, self.batch):
            fate = self._retry(chunk, self.times.batch, afresh=True)
            done, failed, late = done + len(fate.done), failed + len(fate.failed), late + len(fate.under_way)
            line(f"{SERVICE}: {done} done, {failed} failed again, {late} under way, of {len(self.jobs)}")
            if 2 * len(fate.failed) > len(chunk):
                why = next(iter(fate.failed)).why
                raise ServiceError(f"most of a batch failed again ({why}), so the rest stays where it is: {done} were done")
        said = f"{done} done, {failed} failed again, {late} still under way"
        return said + (f"; left alone: {'; '.join(sorted(again))}" if again else "")

    def _retry(self, jobs: Collection[Failed], seconds: float, *, afresh: bool) -> Fate:
        """Put jobs back and wait for their end, at most so long."""
        with connected(self.server, "put failed jobs back") as client:
            moved = retry(client, self.prefix, jobs, afresh=afresh)
            deadline = time.monotonic() + seconds
            while (fate := fates(client, self.prefix, moved)).under_way and time.monotonic() < deadline:
                time.sleep(self.times.look)
        return fate
