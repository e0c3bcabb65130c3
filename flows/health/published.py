"""What a sweep publishes for those who read: the gateway's status page, metrics and health answer.

Readers never ask the services. What they need is one document in Prefect's variables, written at the end of each sweep:
verdicts, incidents with what happened to them, the newest backups, and the history that is not in the store yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from blocks.errors import IntegrityError, StackError
from flows.health.backup_rows import BackupRow, read_rows
from flows.health.history import IncidentNote
from flows.health.history_store import Pending, Store, flush, record
from flows.health.incidents import Happening, Incident, Kind
from flows.health.memory import load_text, save_text
from flows.health.verdicts import Verdict

__all__ = ["Entry", "Outcome", "Published", "ToldIncident", "following", "publish", "published_name", "read_published"]

CLOSED_SHOWN = 10
"""Closed incidents that stay on the page."""
TIMELINE = 40
"""Entries of one incident that are kept: the first, and the newest."""
READS, PAUSE = 3, 0.2
"""Times that a state is read before it counts as damaged, and seconds between them: two saves while it is read tear it."""


class Entry(BaseModel):
    """One line of an incident's timeline."""

    at: datetime
    kind: Kind
    text: str


class ToldIncident(BaseModel):
    """An incident with what happened to it, oldest first."""

    incident: Incident
    timeline: list[Entry] = Field(default_factory=list)


class Published(BaseModel):
    """The state of a stack after a sweep.

    Attributes:
        at: when the sweep was. interval: seconds between sweeps. run_url: of its flow run, for operators only.
        open, closed: incidents, newest first.
        backups: newest first. backups_failed: why they could not be listed when last tried, or empty.
        history: what is not in the store yet.
    """

    format: Literal[1] = 1
    stack: str
    at: datetime
    interval: int
    run_url: str = ""
    verdicts: list[Verdict] = Field(default_factory=list)
    open: list[ToldIncident] = Field(default_factory=list)
    closed: list[ToldIncident] = Field(default_factory=list)
    backups: list[BackupRow] = Field(default_factory=list)
    backups_failed: str = ""
    history: Pending = Field(default_factory=Pending)

    def is_stale(self, now: datetime) -> bool:
        """Say whether three sweeps should have come since."""
        return now - self.at > timedelta(seconds=3 * self.interval)


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to.

    Attributes:
        at: when it was. interval: seconds between sweeps.
        verdicts: of every service. incidents: those that are open and those that closed lately. happenings: new in this sweep.
        run_url: of its flow run, or empty.
    """

    stack: str
    at: datetime
    interval: int
    verdicts: Sequence[Verdict]
    incidents: Sequence[Incident]
    happenings: Sequence[Happening] = ()
    run_url: str = ""


def published_name(stack: str) -> str:
    """Return the name under which a stack's state is kept in Prefect's variables."""
    return f"health_{stack}_published"


async def publish(outcome: Outcome, store: Store | None) -> Published:
    """Publish a sweep, and write history to the store when it is time.

    It is saved before the store is asked, and again when the store has taken something: a store that hangs hides nothing.

    Args:
        store: the stack's, None where there is none. Its calls need timeouts of their own.
    Returns: what was published last.
    Raises:
        IntegrityError: what was published before is damaged, and what only it knew is lost. This sweep is published even so.
        ServiceError: Prefect's API does not answer.
    """
    previous, damage = None, ""
    try:
        previous = await read_published(outcome.stack)
    except IntegrityError as error:
        damage = str(error)
    published, due = following(previous, outcome)
    await _save(published)
    if due and store is not None:
        published = await asyncio.to_thread(_with_store, published, store)
        await _save(published)
    if damage:
        raise IntegrityError(f"begun anew, without the timelines and the history that was not in the store yet: {damage}")
    return published


async def read_published(stack: str) -> Published | None:
    """Return the state as last published, None where no sweep has published any.

    Raises:
        IntegrityError: it is damaged, or of another version; the next sweep writes it anew.
        ServiceError: Prefect's API does not answer.
    """
    name = published_name(stack)
    text = await _read_whole(name)
    try:
        return Published.model_validate_json(text) if text else None
    except ValidationError:
        raise IntegrityError(
            f"variable {name}: not what this version's sweeps publish; it is written anew by the next sweep"
        ) from None


async def _read_whole(name: str) -> str | None:
    for _ in range(READS - 1):
        try:
            return await load_text(name)
        except IntegrityError:
            await asyncio.sleep(PAUSE)
    return await load_text(name)


def following(previous: Published | None, outcome: Outcome) -> tuple[Published, bool]:
    """Work out what is to be published after a sweep.

    Args:
        previous: what the sweep before published.
    Returns: the new state, and whether history should be written now.
    """
    told = {one.incident.key: one for one in [*previous.open, *previous.closed]} if previous else {}
    incidents = [_told(told.get(incident.key), incident, outcome.happenings) for incident in outcome.incidents]
    incidents.sort(key=lambda one: one.incident.opened_at, reverse=True)
    history, due = record(
        previous.history if previous else Pending(),
        outcome.at,
        {verdict.service: verdict.word.value for verdict in outcome.verdicts},
        {verdict.service: verdict.latency_ms for verdict in outcome.verdicts if verdict.latency_ms is not None},
        {one.incident.key: _note(one.incident) for one in incidents},
        interval=outcome.interval,
    )
    published = Published(
        stack=outcome.stack,
        at=outcome.at,
        interval=outcome.interval,
        run_url=outcome.run_url,
        verdicts=list(outcome.verdicts),
        open=[one for one in incidents if one.incident.closed_at is None],
        closed=[one for one in incidents if one.incident.closed_at is not None][:CLOSED_SHOWN],
        backups=previous.backups if previous else [],
        backups_failed=previous.backups_failed if previous else "",
        history=history,
    )
    return published, due


def _told(before: ToldIncident | None, incident: Incident, happenings: Iterable[Happening]) -> ToldIncident:
    known = before.timeline if before else []
    seen = {(entry.kind, entry.at) for entry in known}
    new = [
        Entry(at=happening.at, kind=happening.kind, text=_text(happening))
        for happening in happenings
        if happening.incident.key == incident.key and (happening.kind, happening.at) not in seen
    ]
    timeline = [*known, *new]
    return ToldIncident(incident=incident, timeline=[*timeline[:1], *timeline[1:][-TIMELINE + 1 :]])


def _text(happening: Happening) -> str:
    incident = happening.incident
    return {
        "opened": incident.sentence,
        "reminded": happening.note or f"still open: {incident.sentence}",
        "escalated": happening.note or "open for too long",
        "acknowledged": "somebody is working on it",  # without the name: the page may be public
        "closed": happening.note or "well again",
    }[happening.kind]


def _note(incident: Incident) -> IncidentNote:
    return IncidentNote(
        service=incident.service,
        severity=incident.severity,
        sentence=incident.sentence,
        opened_at=incident.opened_at,
        closed_at=incident.closed_at,
    )


def _with_store(published: Published, store: Store) -> Published:
    """Write history and list the backups. A store that fails is published as such: the sweep reports it elsewhere."""
    history = flush(store, published.history, published.at)
    if history.failed:
        return published.model_copy(update={"history": history, "backups_failed": history.failed})
    try:
        rows = read_rows(store, published.backups)
    except StackError as error:
        return published.model_copy(update={"history": history, "backups_failed": str(error)})
    return published.model_copy(update={"history": history, "backups": rows, "backups_failed": ""})


async def _save(published: Published) -> None:
    await save_text(published_name(published.stack), published.model_dump_json(exclude_defaults=True))
