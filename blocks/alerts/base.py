"""What every alert channel has in common: one verb, what it is told, what it gives back, and the words for people.

A channel tells people one thing at a time and keeps nothing: who has been told what is the outbox's business
(`flows/health/outbox.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from blocks.errors import DeliveryFailed
from blocks.settings import Severity

__all__ = [
    "LONGEST_KEY",
    "TIMEOUT_S",
    "Channel",
    "Kind",
    "Links",
    "Notice",
    "Receipt",
    "Unready",
    "body",
    "clip",
    "duration",
    "headline",
    "is_over",
    "one_step_up",
    "reaches",
]

TIMEOUT_S = 4.0
"""Seconds that one request to a channel may take: a sweep waits for all of them at once, and once."""

LONGEST_KEY = 255
"""Characters of an id: what PagerDuty takes as a dedup key."""

Kind = Literal["opened", "reminded", "escalated", "acknowledged", "closed", "failed-run"]
"""What happened. All but the last are moments of an incident; a failed run is over when it is told."""

_SEVERITIES: tuple[Severity, ...] = get_args(Severity)


class Links(BaseModel):
    """Where a person goes from here; empty where there is no such page.

    Attributes:
        run: of the flow run that saw it. runbook: what to do about it. status: the status page.
    """

    model_config = ConfigDict(frozen=True)

    run: str = ""
    runbook: str = ""
    status: str = ""

    def named(self) -> list[tuple[str, str]]:
        """Words and URL of each page that there is, in the order a person needs them."""
        pages = [("Runbook", self.runbook), ("Run", self.run), ("Status page", self.status)]
        return [(words, url) for words, url in pages if url.startswith(("http://", "https://"))]


class Notice(BaseModel):
    """One message to one channel.

    Attributes:
        id: stable for this message: whoever gets two with one id may drop the second. At most 255 characters.
        dedup_key: the same for all notices of an incident. At most 255 characters.
        thread: what the channel's first delivery for this incident returned; empty for the first.
        late: the channel never heard of the incident while it was open, so that this notice has to say all of it.
        severity: with the step up that an escalation brings.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(max_length=LONGEST_KEY)
    dedup_key: str = Field(max_length=LONGEST_KEY)
    kind: Kind
    stack: str
    service: str
    aspect: str = ""
    severity: Severity
    sentence: str
    at: datetime
    opened_at: datetime
    closed_at: datetime | None = None
    casualties: tuple[str, ...] = ()
    reminders: int = 0
    links: Links = Links()
    thread: str = ""
    late: bool = False


class Receipt(BaseModel):
    """What a channel gave back.

    Attributes:
        thread: how to refer to this delivery later, for example Slack's `ts`; empty where there is no such thing.
    """

    model_config = ConfigDict(frozen=True)

    thread: str = ""


class Channel(ABC):
    """One way to people.

    Attributes:
        name: unique among the channels of a stack. min_severity: incidents below it are not for this channel.
        repeatable: a notice that was sent twice shows once, by its id or dedup key.
        pages: somebody is woken up, so what is over already is not told at all.
        problem: why it cannot tell anybody as it is configured; empty where it can.
    """

    repeatable: bool = False
    pages: bool = False
    problem: str = ""

    def __init__(self, name: str, min_severity: Severity) -> None:
        self.name = name
        self.min_severity = min_severity

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, min_severity={self.min_severity!r})"

    @abstractmethod
    def notify(self, notice: Notice) -> Receipt:
        """Tell it.

        Raises:
            DeliveryFailed: it was not delivered, or nobody knows; says whether trying again can help, and when.
        """

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        """Look for a notice whose sending was cut off, where the channel can be asked.

        Args:
            since: when the sending began.
        Returns: its receipt; None when it did not arrive, or the channel cannot be asked.
        Raises:
            DeliveryFailed: the channel could not be asked just now.
        """
        return None


class Unready(Channel):
    """In the place of a channel whose settings are wrong: it takes nothing, and what it is owed waits until they are right.

    Args:
        like: what it would be. problem: which setting is wrong.
    """

    def __init__(self, like: type[Channel], name: str, min_severity: Severity, problem: str) -> None:
        super().__init__(name, min_severity)
        self.repeatable, self.pages, self.problem = like.repeatable, like.pages, problem

    def notify(self, notice: Notice) -> Receipt:
        raise DeliveryFailed(f"{self.name}: {self.problem}")

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        raise DeliveryFailed(f"{self.name}: {self.problem}")


# --- words -------------------------------------------------------------------------------------------------------------------


def headline(notice: Notice) -> str:
    """One line: which stack, what happened to what."""
    return f"[{notice.stack}] {_HEADLINES[notice.kind](notice)}"


def body(notice: Notice) -> str:
    """What was seen, and who else suffers: one or two lines."""
    lines = [notice.sentence]
    if notice.casualties:
        lines.append(f"Also affected: {', '.join(notice.casualties)}")
    return "\n".join(lines)


def _closed(notice: Notice) -> str:
    lasted = duration((notice.closed_at or notice.at) - notice.opened_at)
    if notice.late:
        return f"{notice.service} was in trouble for {lasted} and has recovered; this channel did not answer meanwhile"
    return f"{notice.service} recovered after {lasted}"


_HEADLINES: dict[Kind, Callable[[Notice], str]] = {
    "opened": lambda notice: f"{notice.service}: {notice.severity}",
    "reminded": lambda notice: f"{notice.service}: still {notice.severity} after {duration(notice.at - notice.opened_at)}",
    "escalated": lambda notice: (
        f"{notice.service}: escalated to {notice.severity} after {duration(notice.at - notice.opened_at)}"
    ),
    "acknowledged": lambda notice: f"{notice.service}: being worked on",
    "closed": _closed,
    "failed-run": lambda notice: f"run {notice.service}: {notice.aspect}",
}


def is_over(notice: Notice) -> bool:
    """Whether this says that all is well again."""
    return notice.kind == "closed"


def duration(span: timedelta) -> str:
    """Say how long, in the two units that matter: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    seconds = max(0, int(span.total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if hours == 0:
        return f"{minutes} min"
    if days == 0:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{days} d {hours % 24} h" if hours % 24 else f"{days} d"


def clip(text: str, limit: int) -> str:
    """Cut a text to at most `limit` characters; what was cut ends with three dots."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def reaches(severity: Severity, minimum: Severity) -> bool:
    """Whether a severity is at least the other."""
    return _SEVERITIES.index(severity) >= _SEVERITIES.index(minimum)


def one_step_up(severity: Severity) -> Severity:
    """The severity of an incident of this severity once it has been escalated."""
    return _SEVERITIES[min(_SEVERITIES.index(severity) + 1, len(_SEVERITIES) - 1)]
