"""What a verdict becomes when it lasts: an incident, and what happens to it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from blocks.settings import Severity
from flows.health.observation import Status

__all__ = ["BACKUPS", "Happening", "Incident", "Kind", "key_of", "rank", "severity_of", "worst"]

BACKUPS = "backups"
"""The pseudo-service whose aspects are the ages of the newest set and of the newest drill."""

Kind = Literal["opened", "reminded", "escalated", "acknowledged", "closed"]

_RANKS: dict[Severity, int] = {"warning": 0, "error": 1, "critical": 2}

_WHEN_DOWN: dict[str, Severity] = {
    "postgres": "critical",
    "clickhouse": "critical",
    "redis": "critical",
    "minio": "critical",
    "litellm": "critical",
}
"""Requests fail or data is lost at once; the other services leave work waiting, which is an error."""


class Incident(BaseModel):
    """One episode of one cause, from its opening to its end.

    Attributes:
        key: `<stack>/<service>/<aspect>/<opened at>`, the same from the opening to the end, over restarts too.
        service, aspect: the cause: the deepest service that fails, and what was bad about it when it was opened.
        severity: the worst it has been. sentence: the latest observation of the cause that was bad.
        since: when it was first seen; opened_at: when it had lasted. closed_at: None while it is open.
        casualties: services that need the cause and are not well, in the order in which they are started.
        flapping: it comes and goes; it stays open until that ends.
        reminders: how many were due so far. escalated: it was open for too long, and that was said.
        acknowledged_by, acknowledged_at: who works on it, and since when; empty and None where nobody has said so.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    stack: str
    service: str
    aspect: str
    severity: Severity
    sentence: str
    since: datetime
    opened_at: datetime
    closed_at: datetime | None = None
    casualties: tuple[str, ...] = ()
    flapping: bool = False
    reminders: int = 0
    escalated: bool = False
    raised: int = Field(default=0, description="How often its severity rose")
    acknowledged_by: str = ""
    acknowledged_at: datetime | None = None
    acknowledgements: int = Field(default=0, description="How often somebody has begun to work on it")


class Happening(BaseModel):
    """Something that people and runbooks are told about an incident.

    Attributes:
        incident: as it was then. note: one line of what is new, for example `was warning, is critical`.
        ordinal: counts the happenings of this kind in this incident, from 1.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    incident: Incident
    at: datetime
    ordinal: int = 1
    note: str = ""

    @property
    def id(self) -> str:
        """Name it, once for all: `<incident's key>/<kind>/<ordinal>`."""
        return f"{self.incident.key}/{self.kind}/{self.ordinal}"


def key_of(stack: str, service: str, aspect: str, opened_at: datetime) -> str:
    """Name an incident; a service's aspect opens at most one incident a sweep, so the second it opened tells them apart."""
    return f"{stack}/{service}/{aspect}/{opened_at:%Y%m%dT%H%M%SZ}"


def severity_of(service: str, status: Status, *, blind: bool = False) -> Severity:
    """How bad it is that an aspect of a service has a status.

    Args:
        blind: the aspect is that nothing is known of the service.
    Returns: critical where a service is down without which requests fail or data is lost, error where another one is, where
        backups are too old, or where nobody knows; warning for everything that is only degraded.
    """
    if service == BACKUPS or blind:
        return "error"
    return _WHEN_DOWN.get(service, "error") if status is Status.DOWN else "warning"


def rank(severity: Severity) -> int:
    """Number a severity, the worst highest."""
    return _RANKS[severity]


def worst(severities: Iterable[Severity]) -> Severity:
    """The worst of at least one."""
    return max(severities, key=rank)
