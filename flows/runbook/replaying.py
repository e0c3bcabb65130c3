"""Queueing events again: how far it came stands in a journal in the store, `<prefix>/<stack>/replays/<id>.json`.

The id is made of the window, so whoever asks for the same window goes on where the last run came to. A batch whose run died
between Langfuse's answer and the journal is queued twice, and no more than that one: its rows replace each other.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from blocks.errors import ServiceError
from blocks.langfuse_admin import LangfuseAdmin
from blocks.object_bucket import ObjectBucket
from blocks.object_store import BackupStore
from blocks.redis import RedisServer
from flows.health.dependencies import needs_of
from flows.health.targets import Targets
from flows.journals import Journal, load_all, save
from flows.lease import utc_now
from flows.report import line
from flows.runbook.event_bucket import OTEL, Event, Window, chosen, events_in
from flows.runbook.frame import Action, Diagnosis, Runbook, Verdict
from flows.runbook.look import down_needs, observe_services, wrong_with
from flows.runbook.redis_server import connected
from flows.stack import Stack

__all__ = ["Enqueue", "Known", "Pressure", "Replay", "ReplayJournal", "Source", "decide", "unfinished"]

FOLDER = "replays"
QUEUES = ("secondary-ingestion-queue", "otel-ingestion-queue")
"""Where Langfuse puts what is replayed."""
SERVICE = "langfuse-worker"


class ReplayJournal(Journal):
    """How far the replay of a window came. last: the key up to which all were queued. total: as counted when it began."""

    begin: datetime
    end: datetime
    project: str = ""
    total: int = 0
    last: str = ""
    queued: int = 0
    skipped: int = 0
    finished_at: datetime | None = None


@dataclass(frozen=True)
class Source:
    """Where events are, and who queues them.

    Attributes:
        bucket: Langfuse's. prefix: LANGFUSE_S3_EVENT_UPLOAD_PREFIX. admin: Langfuse's API. redis, queues: where the queues are.
    """

    bucket: ObjectBucket
    prefix: str
    admin: LangfuseAdmin
    redis: RedisServer
    queues: str


@dataclass(frozen=True)
class Pressure:
    """How fast: events at once; jobs that may be in the queues; seconds until those are done, and between two looks."""

    batch: int = 500
    depth: int = 2000
    drain: float = 3600.0
    look: float = 2.0


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        events: of the window. left: keys that have to be queued yet. journal: of this window, None: it was never begun.
        hidden: events of OpenTelemetry that cannot be replayed, as there is an event prefix. down, idle: as of other runbooks.
    """

    events: tuple[Event, ...]
    left: tuple[str, ...]
    journal: ReplayJournal | None = None
    hidden: int = 0
    down: tuple[str, ...] = ()
    idle: str = ""


def decide(known: Known, window: Window, action: Action) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        action: the one that queues what is left.
    """
    journal = known.journal
    kinds = Counter(one.kind for one in known.events)
    times = f"{window.begin:%Y-%m-%d %H:%M:%S} to {window.end:%Y-%m-%d %H:%M:%S} UTC"
    facts = {"window": f"{times}, {window.project or 'all projects'}"}
    facts |= {f"events, {kind}": str(count) for kind, count in sorted(kinds.items())}
    facts["jobs that they make"] = str(len(known.left) + (journal.queued + journal.skipped if journal else 0))
    if known.hidden:
        facts["cannot be replayed"] = f"{known.hidden} of OpenTelemetry, as there is an event prefix"
    if journal is not None:
        facts["queued by runs before this one"] = f"{journal.queued} of {journal.total}"
    if journal is not None and journal.finished_at is not None:
        when = f"{journal.finished_at:%Y-%m-%d %H:%M} UTC"
        return Diagnosis(Verdict.NOTHING, f"this window was replayed to its end at {when}; `again` does it anew", facts)
    if not known.left and journal is None:
        if known.hidden:
            why = "Langfuse queues their keys without its event prefix, and does not find them"
            return Diagnosis(
                Verdict.PERSON, f"{known.hidden} events came by OpenTelemetry and cannot be replayed: {why}", facts
            )
        return Diagnosis(Verdict.NOTHING, "no event was stored in that window", facts)
    if known.down:
        return Diagnosis(Verdict.PERSON, f"{', '.join(known.down)} is down; heal that, then run this again", facts)
    if known.idle:
        return Diagnosis(Verdict.PERSON, f"nobody would take them: {known.idle}; heal the worker first", facts)
    return Diagnosis(Verdict.HEALS, f"{len(known.left)} jobs of that window can be done again", facts, (action,))


def unfinished(store: BackupStore, begin: datetime, project: str) -> datetime | None:
    """Find the end of a replay that begins there and has not come to its end; None where there is none."""
    found = load_all(store, FOLDER, ReplayJournal)
    return next((one.end for one in found if (one.begin, one.project, one.finished_at) == (begin, project, None)), None)


@dataclass
class Replay(Runbook):
    """One window. again: although it was replayed before."""

    stack: Stack
    source: Source
    targets: Targets
    window: Window
    pressure: Pressure = Pressure()
    again: bool = False
    name: str = "replay-events"
    service: str = SERVICE
    _over: int | None = None

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        journal, found = self._journal(), events_in(self.source.bucket, self.source.prefix, self.window)
        replayable = [one for one in found if one.kind != OTEL or not self.source.prefix]
        keys = chosen(replayable)
        left = tuple(keys[bisect_right(keys, journal.last) :] if journal else keys)
        seen = observe_services(self.targets, {SERVICE, "langfuse-web", *needs_of(SERVICE)})
        known = Known(
            events=tuple(found),
            left=left,
            journal=journal,
            hidden=len(found) - len(replayable),
            down=tuple(down_needs(seen, SERVICE)),
            idle=next(iter(wrong_with(seen, SERVICE, ("consumption",))), ""),
        )
        journal = journal or self._new(len(keys))
        return decide(known, self.window, Enqueue(self.stack, self.source, journal, left, self.pressure))

    def wrong(self) -> list[str]:
        """As in `Runbook`: what of the window has not been queued yet."""
        journal = self._journal()
        if journal is None:
            return ["the window has not been begun"]
        return [] if journal.finished_at else [f"{journal.queued} of {journal.total} jobs of the window were queued"]

    @property
    def _id(self) -> str:
        window = self.window
        text = f"{window.begin.isoformat()} {window.end.isoformat()} {window.project} {self.source.bucket.name}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _kept(self) -> ReplayJournal | None:
        return next((one for one in load_all(self.stack.store, FOLDER, ReplayJournal) if one.id == self._id), None)

    def _journal(self) -> ReplayJournal | None:
        """The window's journal; None where there is none, or where it is to be begun anew and this run has not done so yet."""
        found = self._kept()
        if self._over is None:  # the first look: what is finished now, this run has not done
            self._over = found.writes if found is not None and found.finished_at is not None else -1
        return None if self.again and found is not None and found.writes == self._over else found

    def _new(self, total: int) -> ReplayJournal:
        window, kept = self.window, self._kept()
        given = {"begin": window.begin, "end": window.end, "project": window.project}
        return ReplayJournal(id=self._id, total=total, writes=kept.writes if kept else 0, **given)


@dataclass(frozen=True)
class Enqueue(Action):
    """Queues what is left of a window.

    Attributes:
        journal: of the window. keys: in order, relative to the prefix.
    """

    stack: Stack
    source: Source
    journal: ReplayJournal
    keys: tuple[str, ...]
    pressure: Pressure

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "the worker does all of it again; what was deleted in Langfuse since comes back, bookmarks may go"

    def describe(self) -> str:
        """As in `Action`."""
        return f"queue {len(self.keys)} jobs again, {self.pressure.batch} at a time, at most {self.pressure.depth} waiting"

    def do(self) -> str:
        """As in `Action`.

        Raises:
            ServiceError: Langfuse did not take a batch, or the worker does not get through; the next run goes on from there.
        """
        journal = self.journal
        save(self.stack.store, FOLDER, journal)
        for place in range(0, len(self.keys), self.pressure.batch):
            self._await(self.pressure.depth)
            batch = self.keys[place : place + self.pressure.batch]
            done = self.source.admin.replay(batch)
            journal.last, journal.queued, journal.skipped = (
                batch[-1],
                journal.queued + done.queued,
                journal.skipped + done.skipped,
            )
            save(self.stack.store, FOLDER, journal)
            line(f"{SERVICE}: {journal.queued} of {journal.total} jobs queued again")
        self._await(0)
        journal.finished_at = utc_now()
        save(self.stack.store, FOLDER, journal)
        skipped = f", {journal.skipped} Langfuse did not understand" if journal.skipped else ""
        return f"{journal.queued} jobs were queued again and done or given up{skipped}; given up: see retry-failed-jobs"

    def _await(self, most: int) -> None:
        """Wait until no more than so many jobs are in the queues of replays."""
        deadline = time.monotonic() + self.pressure.drain
        while (there := self._depth()) > most:
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"langfuse-worker: {there} jobs are in the queues of replays after {self.pressure.drain / 60:.0f} min, "
                    f"expected at most {most}; is it at work? Run this again: it goes on from here"
                )
            time.sleep(self.pressure.look)

    def _depth(self) -> int:
        with connected(self.source.redis, "look at the queues") as client, client.pipeline(transaction=False) as ask:
            for queue in QUEUES:
                base = f"{self.source.queues}:{queue}:"
                for part in ("wait", "paused", "active"):
                    ask.llen(base + part)
                for part in ("prioritized", "delayed"):
                    ask.zcard(base + part)
            return sum(int(count) for count in ask.execute())
