"""drain-queue: jobs pile up in Langfuse's queues although the worker works."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect import flow
from pydantic import Field

from blocks.errors import ServiceError, SettingsError
from blocks.redis import RedisServer
from flows.health.checks.langfuse_queues import QUEUES
from flows.health.dependencies import needs_of
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.look import down_needs, observe_services, wrong_with
from flows.runbook.redis_server import connected
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = [
    "ASPECTS",
    "SERVICE",
    "Backlog",
    "Depth",
    "DrainRequest",
    "Known",
    "Patience",
    "decide",
    "drain_queue",
    "read_depths",
]

SERVICE = "langfuse-worker"
ASPECTS = ("queue-depth", "queue-age")


class DrainRequest(RunbookRequest):
    """How long it may take."""

    minutes: int = Field(default=120, ge=1, le=600, description="Watch the queues for so long, as long as they get shorter")


@flow(name="drain-queue", validate_parameters=True, timeout_seconds=11 * 3600)
def drain_queue(request: DrainRequest = DrainRequest()) -> str:
    """Have what waits in Langfuse's queues worked off, and see that it is. No job is deleted.

    Symptom: traces appear minutes or hours after their requests; more than 10,000 jobs wait, or one for more than five minutes,
    while the worker works.

    Diagnosis: how many jobs wait in each queue and are worked on, whether somebody has paused a queue, whether all that the
    worker needs is up.

    Remedy: ask, and let queues go on that are paused. Then watch: after an outage a worker needs its time, and nothing need be
    done. Where the queues do not get shorter within five minutes, more comes than is done, and a person decides: more replicas
    of the worker (`scale-service`), a faster ClickHouse, or less that is sent.

    When not to: where nobody works on any job (`unwedge-worker`), or ClickHouse is down or has too many parts
    (`clickhouse-parts`): the queue is the symptom. While it is long, Redis needs the memory for it.

    Args:
        request: how long it may take.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed: they do not get shorter; says how fast they grow.
        ApprovalMissing: nobody approved that a paused queue goes on.
    """
    stack = Stack.load()
    if stack.redis is None:
        raise SettingsError("redis: not set up; set REDIS_URL and run `python -m blocks`")
    runbook = Backlog(stack.redis, Targets.from_settings(stack.settings), Patience(whole=60.0 * request.minutes))
    return carry_out(runbook, request, stack, Pace(settle=30))


@dataclass(frozen=True)
class Patience:
    """How long the queues may take, in seconds.

    Attributes:
        whole: until they are short again. window: within which they have to become shorter. look: between two looks.
    """

    whole: float = 7200.0
    window: float = 300.0
    look: float = 10.0


@dataclass(frozen=True)
class Depth:
    """One queue: jobs that wait, that are worked on, and whether somebody has paused it."""

    queue: str
    waiting: int
    active: int
    paused: bool


@dataclass(frozen=True)
class Known:
    """What is known. wrong: what the check says. down: what the worker needs and is down. idle: why no job is taken."""

    wrong: Sequence[str]
    depths: Sequence[Depth]
    down: Sequence[str] = ()
    idle: str = ""


def decide(known: Known, resume: Callable[[tuple[str, ...]], Action], watch: Callable[[], Action]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        resume: makes the action that lets paused queues go on. watch: the one that waits until all are short.
    """
    facts = _facts(known.depths)
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "Langfuse's queues are short", facts)
    if known.down:
        names = ", ".join(known.down)
        return Diagnosis(Verdict.PERSON, f"{names} is down, and the worker waits for it; heal that first", facts)
    paused = tuple(one.queue for one in known.depths if one.paused and one.waiting)
    if known.idle and not paused:
        return Diagnosis(Verdict.PERSON, f"{known.idle}; that is for unwedge-worker", facts)
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, (*((resume(paused),) if paused else ()), watch()))


def _facts(depths: Sequence[Depth]) -> Mapping[str, str]:
    told = {
        one.queue: f"{one.waiting} wait, {one.active} are worked on" + (", paused" if one.paused else "")
        for one in sorted(depths, key=lambda one: -one.waiting)
        if one.waiting or one.active or one.paused
    }
    return told or {"queues": "nothing waits"}


def read_depths(client: Any, prefix: str) -> list[Depth]:
    """Read all queues, in one round trip."""
    with client.pipeline(transaction=False) as ask:
        for queue in QUEUES:
            base = f"{prefix}:{queue}:"
            for part in ("wait", "paused", "active"):
                ask.llen(base + part)
            ask.zcard(base + "prioritized")
            ask.hexists(base + "meta", "paused")
        answers = ask.execute()
    found = []
    for place, queue in enumerate(QUEUES):
        wait, put_aside, active, prioritized, paused = answers[5 * place : 5 * place + 5]
        found.append(Depth(queue, int(wait) + int(put_aside) + int(prioritized), int(active), bool(paused)))
    return found


@dataclass
class Backlog(Runbook):
    """The queues of one Langfuse."""

    server: RedisServer
    targets: Targets
    patience: Patience = field(default_factory=Patience)
    name: str = "drain-queue"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        found = observe_services(self.targets, {SERVICE, *needs_of(SERVICE)})
        others = [one for one in found if one.aspect not in ASPECTS]
        known = Known(
            wrong=wrong_with(found, SERVICE, ASPECTS),
            depths=self._depths(),
            down=down_needs(found, SERVICE),
            idle=next(iter(wrong_with(others, SERVICE, ("consumption",))), ""),
        )
        return decide(
            known,
            lambda queues: Resume(self.server, self.targets.queue_prefix, queues),
            lambda: Watch(self._waiting, self.wrong, self.patience),
        )

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS)

    def _depths(self) -> list[Depth]:
        with connected(self.server, "look at the queues") as client:
            return read_depths(client, self.targets.queue_prefix)

    def _waiting(self) -> int:
        return sum(one.waiting for one in self._depths())


@dataclass(frozen=True)
class Resume(Action):
    """Lets paused queues go on, as BullMQ's `queue.resume()` does."""

    server: RedisServer
    prefix: str
    queues: tuple[str, ...]

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "somebody has paused it, perhaps for a reason"

    @property
    def settles(self) -> bool:
        """As in `Action`: what waits has to be worked off first."""
        return False

    def describe(self) -> str:
        """As in `Action`."""
        return f"let {', '.join(self.queues)} go on: it is paused, and jobs wait in it"

    def do(self) -> str:
        """As in `Action`."""
        with connected(self.server, "let queues go on") as client:
            script = client.register_script(_RESUME)
            moved = {
                one: int(script(keys=[f"{self.prefix}:{one}:meta"], args=[f"{self.prefix}:{one}:"])) for one in self.queues
            }
        return ", ".join(f"{one}: {count} jobs wait for the worker" for one, count in moved.items())


@dataclass(frozen=True)
class Watch(Action):
    """Waits while the queues get shorter; changes nothing.

    Attributes:
        waiting: counts what waits. wrong: what the check says.
    """

    waiting: Callable[[], int]
    wrong: Callable[[], list[str]]
    patience: Patience

    def describe(self) -> str:
        """As in `Action`."""
        return f"watch the queues for {self.patience.whole / 60:.0f} min, as long as they get shorter"

    def needless(self) -> str:
        """As in `Action`."""
        return "" if self.wrong() else "the queues are short"

    def do(self) -> str:
        """As in `Action`.

        Raises:
            ServiceError: they do not get shorter, or not in time.
        """
        begun = time.monotonic()
        first = before = self.waiting()
        window = begun + self.patience.window
        while self.wrong():
            now = time.monotonic()
            if now >= window:
                depth, window = self.waiting(), now + self.patience.window
                line(f"{SERVICE}: {before} waited, {depth} wait")
                if depth >= before:
                    raise ServiceError(
                        f"{before} jobs waited, {depth} wait {self.patience.window:.0f} s later: more comes than is done; add "
                        "replicas of the worker (scale-service), look at ClickHouse's load, or have less sent"
                    )
                before = depth
            if now >= begun + self.patience.whole:
                raise ServiceError(
                    f"{first} jobs waited, {before} still do after {self.patience.whole / 60:.0f} min; they get fewer: give it "
                    "more `minutes`, or add replicas of the worker (scale-service)"
                )
            time.sleep(min(self.patience.look, max(window - now, 0.01)))
        return f"{first} jobs waited, {self.waiting()} do now"


_RESUME = """
local base = ARGV[1]
if redis.call('HDEL', KEYS[1], 'paused') == 1 then
  if redis.call('EXISTS', base .. 'wait') == 1 then
    while redis.call('LMOVE', base .. 'paused', base .. 'wait', 'RIGHT', 'LEFT') do end
  elseif redis.call('EXISTS', base .. 'paused') == 1 then
    redis.call('RENAME', base .. 'paused', base .. 'wait')
  end
  redis.call('XADD', base .. 'events', 'MAXLEN', '~', 10000, '*', 'event', 'resumed')
end
local waiting = redis.call('LLEN', base .. 'wait')
if waiting + redis.call('ZCARD', base .. 'prioritized') > 0 then redis.call('ZADD', base .. 'marker', 0, '0') end
return waiting
"""
"""The keys that are made in here belong to one queue; Langfuse's Redis is no cluster here (keys would need `{queue}`).

The oldest job is at the right of both lists, so the rightmost of `paused` is moved first.
"""
