"""What the outbox remembers: who has been told what, and what is still owed to whom. Values only, and few."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from blocks.alerts.base import LONGEST_KEY, Kind, Links, Notice
from blocks.settings import Severity

__all__ = ["Case", "ChannelRecord", "Line", "Outbox", "Owed", "fitting"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Owed(_Frozen):
    """One message that one channel is owed.

    Attributes:
        id: of what happened. note: one line of what is new.
        begun: when a sending began of which nobody wrote down how it ended; None where none is open.
        look_only: what it says is over, so it is not sent any more; it only matters whether it arrived.
        tries: how often it failed: what failed less often is tried first.
        not_before: it was refused, and is tried again then; None where it was not.
    """

    id: str
    kind: Kind
    at: datetime
    note: str = ""
    begun: datetime | None = None
    look_only: bool = False
    tries: int = 0
    not_before: datetime | None = None


class Line(_Frozen):
    """One case on one channel.

    Attributes:
        told: a message has arrived there. maybe: none surely has, but one may have.
        thread: of the first delivery. owed: in the order in which they are to arrive.
    """

    told: bool = False
    maybe: bool = False
    thread: str = ""
    owed: tuple[Owed, ...] = ()

    @property
    def unsure(self) -> tuple[Owed, ...]:
        """Messages that may have arrived."""
        return tuple(one for one in self.owed if one.begun is not None)


class Case(_Frozen):
    """What messages are about: an incident, a failed run, a channel that takes no messages.

    Attributes:
        key: of the incident. severity: with the step up of an escalation. run: link that stands in for the sweep's.
        over: nothing more will happen to it. seen: ids of what happened and was taken down here.
        lines: by channel.
    """

    key: str
    stack: str
    service: str
    aspect: str = ""
    severity: Severity
    sentence: str
    opened_at: datetime
    closed_at: datetime | None = None
    casualties: tuple[str, ...] = ()
    reminders: int = 0
    run: str = ""
    over: bool = False
    seen: tuple[str, ...] = ()
    lines: dict[str, Line] = Field(default_factory=dict)

    @property
    def waiting(self) -> set[str]:
        """Channels that are owed a message about it."""
        return {name for name, line in self.lines.items() if line.owed}

    def line(self, channel: str) -> Line:
        """What is known of this case on a channel."""
        return self.lines.get(channel, Line())

    def with_line(self, channel: str, line: Line) -> Case:
        """The same case with another line."""
        return self.model_copy(update={"lines": {**self.lines, channel: line}})

    def notice(self, channel: str, owed: Owed, links: Links) -> Notice:
        """Put what is owed into the form that a channel takes."""
        line = self.line(channel)
        return Notice(
            id=fitting(owed.id),
            dedup_key=fitting(self.key),
            kind=owed.kind,
            stack=self.stack,
            service=self.service,
            aspect=self.aspect,
            severity=self.severity,
            sentence=f"{owed.note}\n{self.sentence}" if owed.note else self.sentence,
            at=owed.at,
            opened_at=self.opened_at,
            closed_at=self.closed_at if owed.kind == "closed" else None,
            casualties=self.casualties,
            reminders=self.reminders,
            links=links.model_copy(update={"run": self.run}) if self.run else links,
            thread=line.thread,
            late=owed.kind == "closed" and not line.told,
        )


class ChannelRecord(_Frozen):
    """How a channel is doing; there is none for one that takes its messages.

    Attributes:
        since: when it last stopped taking them. not_before: it asked to be left alone until then.
        case: key of the case that tells the others; empty while they have not been told.
    """

    since: datetime
    not_before: datetime | None = None
    case: str = ""


def fitting(key: str) -> str:
    """A key as channels take it: of a longer one its beginning, and the hash of all of it."""
    return key if len(key) <= LONGEST_KEY else f"{key[: LONGEST_KEY - 65]}~{hashlib.sha256(key.encode()).hexdigest()}"


class Outbox(_Frozen):
    """Everything that is owed, and what must be known to say it well.

    Attributes:
        cases: open ones, and those that are over but of which a channel has not heard yet; oldest first.
        channels: by name, those that are in trouble.
        recent: keys of failed runs that were told, latest last, so that none is told twice.
    """

    cases: tuple[Case, ...] = ()
    channels: dict[str, ChannelRecord] = Field(default_factory=dict)
    recent: tuple[str, ...] = ()

    def case(self, key: str) -> Case | None:
        """The case of an incident, None where there is none."""
        return next((case for case in self.cases if case.key == key), None)

    def with_case(self, case: Case) -> Outbox:
        """The same outbox with this case in the place of the one of the same key, or at the end."""
        if self.case(case.key) is None:
            return self.model_copy(update={"cases": (*self.cases, case)})
        return self.model_copy(update={"cases": tuple(case if one.key == case.key else one for one in self.cases)})

    def with_channel(self, name: str, record: ChannelRecord | None) -> Outbox:
        """The same outbox with another record of a channel; None: it is doing well."""
        others = {known: one for known, one in self.channels.items() if known != name}
        return self.model_copy(update={"channels": others if record is None else {**others, name: record}})

    def waiting(self, names: Collection[str]) -> set[str]:
        """Which of these channels are owed a message about something that is over, as failed runs are."""
        return {name for case in self.cases if case.over for name in case.waiting if name in names}

    def unheard(self) -> list[str]:
        """What is wrong with channels that take no messages, where no other channel could be told of it: a line each."""
        reports = [self.case(record.case) for record in self.channels.values() if record.case]
        return [one.sentence for one in reports if one and not any(line.told for line in one.lines.values())]

    @property
    def owed(self) -> int:
        """How many messages are owed."""
        return sum(len(line.owed) for case in self.cases for line in case.lines.values())
