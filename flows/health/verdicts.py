"""What a sweep concludes about each service."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from flows.health.observation import Observation, Status

__all__ = ["Remembered", "Verdict", "Word", "conclude", "status_of"]


class Word(StrEnum):
    """The verdict in a word."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"
    MAINTENANCE = "maintenance"


class Remembered(BaseModel):
    """What the next sweep must know of a service's verdict."""

    model_config = ConfigDict(frozen=True)

    word: Word
    since: datetime
    failures: int = 0


class Verdict(BaseModel):
    """What a sweep concludes about one service.

    Attributes:
        since: when the word last changed. sentence: of the worst observation.
        latency_ms: of the first observation that has one: a service's plainest aspect comes first.
        consecutive_failures: sweeps in a row in which it was degraded or down; one in which it was unknown does not count.
        because_of: services that it needs and that are down, or were until a moment ago: it is a casualty of theirs.
    """

    model_config = ConfigDict(frozen=True)

    service: str
    word: Word
    since: datetime
    sentence: str = ""
    latency_ms: float | None = None
    consecutive_failures: int = 0
    because_of: tuple[str, ...] = ()
    observations: tuple[Observation, ...] = ()

    def remembered(self) -> Remembered:
        """What of it is kept."""
        return Remembered(word=self.word, since=self.since, failures=self.consecutive_failures)


_WORDS = {Status.OK: Word.UP, Status.DEGRADED: Word.DEGRADED, Status.DOWN: Word.DOWN, Status.UNKNOWN: Word.UNKNOWN}


def status_of(observations: Sequence[Observation]) -> Status:
    """The worst thing that was seen; unknown only where nothing else was seen."""
    seen = {observation.status for observation in observations}
    return next((status for status in (Status.DOWN, Status.DEGRADED, Status.OK) if status in seen), Status.UNKNOWN)


def conclude(
    service: str,
    observations: Sequence[Observation],
    before: Remembered | None,
    now: datetime,
    *,
    muted: bool = False,
    because_of: tuple[str, ...] = (),
) -> Verdict:
    """Conclude about one service.

    Args:
        observations: of this service, in the order in which they were made.
        before: what the sweep before concluded, None where it did not.
        muted: a maintenance window is open.
    """
    status = status_of(observations)
    word = Word.MAINTENANCE if muted else _WORDS[status]
    failures = before.failures if before else 0
    if status in (Status.DEGRADED, Status.DOWN):
        failures += 1
    elif status is Status.OK:
        failures = 0
    worst = next((observation for observation in observations if observation.status is status), None)
    return Verdict(
        service=service,
        word=word,
        since=before.since if before and before.word is word else now,
        sentence=worst.sentence if worst else "",
        latency_ms=next((seen.latency_ms for seen in observations if seen.latency_ms is not None), None),
        consecutive_failures=failures,
        because_of=because_of if status in (Status.DEGRADED, Status.DOWN) else (),
        observations=tuple(observations),
    )
