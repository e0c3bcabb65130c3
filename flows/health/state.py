"""What a sweep must know of those before it. A text between sweeps; one that cannot be read is a fresh start that says so."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.health.incidents import Happening, Incident
from flows.health.ledger import Outbox
from flows.health.verdicts import Remembered

__all__ = ["BAD", "GOOD", "VERSION", "Episode", "State", "Track", "memory_name"]

VERSION = 1
"""Grows when an older text can no longer be read."""

GOOD, BAD = ".", "x"
"""One result of a track."""


def memory_name(stack: str) -> str:
    """Under which name a stack's state is kept in Prefect's variables."""
    return f"health_{stack}_state"


class Track(BaseModel):
    """The last results of one aspect, or of a service being down; there is none for what was well all the time.

    Attributes:
        results: oldest first. Sweeps in which nothing was known, or in which somebody else was to blame, are left out.
        bad: bad sweeps in a row, less those for which others may be to blame. since: the first of the bad sweeps in a row.
        down: of a service: its aspects that were down when it was last looked at; it is up when all of them are not.
    """

    model_config = ConfigDict(frozen=True)

    results: str = ""
    bad: int = 0
    since: datetime | None = None
    flapping: bool = False
    down: tuple[str, ...] = ()


class Episode(BaseModel):
    """An open incident, and what decides about its end.

    Attributes:
        down: its service is down, or was a moment ago; services that need it are excused.
        good: good sweeps in a row. calm: sweeps in a row in which no aspect of the service was down.
        missing: sweeps in a row in which nobody looked at its aspect.
        said_at: when people last heard of it.
    """

    model_config = ConfigDict(frozen=True)

    incident: Incident
    down: bool = False
    good: int = 0
    calm: int = 0
    missing: int = 0
    said_at: datetime


class State(BaseModel):
    """What is remembered of a stack.

    Attributes:
        services: verdicts, by service. tracks: by `<service>/<aspect>`, or `<service>/` for the service being down.
        blind: services of which nothing is known, and since when.
        episodes: open incidents, oldest first. closed: incidents that are over, latest first.
        unemitted: happenings of which there is no Prefect event yet. outbox: who was told what, and what is owed to whom.
        note: why it was begun anew, for the run's log; empty otherwise.
    """

    model_config = ConfigDict(frozen=True)

    stack: str
    swept_at: datetime | None = None
    services: dict[str, Remembered] = Field(default_factory=dict)
    tracks: dict[str, Track] = Field(default_factory=dict)
    blind: dict[str, datetime] = Field(default_factory=dict)
    episodes: tuple[Episode, ...] = ()
    closed: tuple[Incident, ...] = ()
    unemitted: tuple[Happening, ...] = ()
    outbox: Outbox = Outbox()
    note: str = Field(default="", exclude=True)

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """The open incidents, oldest first."""
        return tuple(episode.incident for episode in self.episodes)

    def to_text(self) -> str:
        """Write it down, behind the version of this shape."""
        return f"{VERSION} {self.model_dump_json(exclude_defaults=True)}"

    @classmethod
    def from_text(cls, text: str | None, stack: str) -> State:
        """Read what `to_text` wrote.

        Args:
            text: None where nothing was ever written.
            stack: the stack's name; the memory of another one is not taken.
        Returns: the state; a fresh one, with a note, where the text cannot be read. The watch goes on in any case.
        """
        if text is None:
            return cls(stack=stack)
        version, _, written = text.partition(" ")
        if version != str(VERSION):
            return cls(stack=stack, note=f"earlier sweeps remembered in version {version[:20]!r}, not {VERSION}: begun anew")
        try:
            state = cls.model_validate_json(written)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the text"
            return cls(stack=stack, note=f"what earlier sweeps remembered cannot be read ({where}: {first['msg']}): begun anew")
        if state.stack != stack:
            return cls(stack=stack, note=f"what is remembered is of the stack {state.stack!r}, not of {stack!r}: begun anew")
        return state
