"""Who is owed what, decided on values: no clock, no network. The rules:

- A channel hears of an incident from the moment its severity reaches the channel's; from then on of everything, to the end.
- Messages about one incident arrive on one channel in the order in which things happened.
- What is unsaid when something newer of the same kind happens is replaced by it: nobody needs three reminders at once.
- What is unsaid when the incident closes is dropped. A channel that never heard of it gets one message, which says that it was
  and is over; one that wakes people up gets none. Where an earlier message may have arrived, the end is told in any case.
- A message that a channel refuses for good is dropped, and the other channels are told, once, until it takes messages again.
  The next thing that happens to the incident is tried again, and tells all of it.
- The end of an incident of which a channel heard is not dropped when it is refused: it is tried every ten minutes for a day.
- A channel that has not answered for ten minutes is reported to the others in the same way; what it is owed waits for it.
- Where there is no other channel, the report is owed to the channel itself, every ten minutes: so its recovery is noticed.
- Of the messages about several incidents the one goes first that failed least often.
- What is over for a day and still untold is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from blocks.alerts.base import Channel, Kind, Receipt, one_step_up, reaches
from blocks.errors import DeliveryFailed
from flows.health.incidents import Happening
from flows.health.ledger import Case, ChannelRecord, Line, Outbox, Owed

__all__ = ["Due", "begun", "delivered", "due", "failed", "owe", "owe_run", "tidied"]

REPORT_AFTER = timedelta(minutes=10)
"""A channel that does not answer for so long is reported to the others."""
STALE_AFTER = timedelta(days=1)
REFUSED_AGAIN = timedelta(minutes=10)
"""What was refused and is kept is tried again after so long."""
REPORTER = "alerts"
"""The service that reports about channels are about."""
RECENT = 200
"""Failed runs remembered as told."""
_NO_RETRY_BEFORE_S = 1.0

Channels = Mapping[str, Channel]


class Due(NamedTuple):
    """The next message of a channel."""

    channel: str
    case: Case
    owed: Owed


def owe(outbox: Outbox, happenings: Sequence[Happening], channels: Sequence[Channel]) -> Outbox:
    """Take down what happened, as owed to every channel that is to hear of it.

    Args:
        happenings: in order; those that were taken down before change nothing.
    """
    for happening in happenings:
        outbox = _owe_one(outbox, happening, channels)
    return outbox


def _owe_one(outbox: Outbox, happening: Happening, channels: Sequence[Channel]) -> Outbox:
    incident = happening.incident
    known = outbox.case(incident.key)
    if known is None and happening.kind == "closed":
        return outbox  # nobody was told, or everybody has been told of its end
    seen = known.seen if known else ()
    if _is_seen(seen, happening.id) or (known is not None and known.over):
        return outbox
    case = Case(
        key=incident.key,
        stack=incident.stack,
        service=incident.service,
        aspect=incident.aspect,
        severity=one_step_up(incident.severity) if incident.escalated else incident.severity,
        sentence=incident.sentence,
        opened_at=incident.opened_at,
        closed_at=incident.closed_at,
        casualties=incident.casualties,
        reminders=incident.reminders,
        over=happening.kind == "closed",
        seen=_remembered(seen, happening.id),
        lines=known.lines if known else {},
    )
    owed = Owed(id=happening.id, kind=happening.kind, at=happening.at, note=happening.note)
    return outbox.with_case(_on_every_line(case, owed, channels))


def owe_run(outbox: Outbox, case: Case, at: datetime, channels: Sequence[Channel]) -> Outbox:
    """Take down a failed run, unless it was before.

    Args:
        case: about the run; over from the start.
    """
    if case.key in outbox.recent or outbox.case(case.key) is not None:
        return outbox
    return outbox.with_case(_on_every_line(case, Owed(id=case.key, kind="failed-run", at=at), channels))


def _on_every_line(case: Case, owed: Owed, channels: Sequence[Channel]) -> Case:
    for channel in channels:
        line = case.line(channel.name)
        heard = line.told or line.maybe or bool(line.owed)
        if owed.kind == "closed":
            if channel.name in case.lines:
                case = case.with_line(channel.name, _closing(line, owed, channel))
        elif heard or (owed.kind != "acknowledged" and reaches(case.severity, channel.min_severity)):
            kept = tuple(one for one in line.owed if one.kind != owed.kind)
            case = case.with_line(channel.name, line.model_copy(update={"owed": (*kept, owed)}))
    return case


def _closing(line: Line, closed: Owed, channel: Channel) -> Line:
    """What is still to be said on a line once the incident is over."""
    if line.told:
        return line.model_copy(update={"owed": (closed,)})
    unsure = bool(line.unsure) or line.maybe
    if channel.repeatable:
        owed = (closed,) if unsure or not channel.pages else ()
        return line.model_copy(update={"owed": owed, "maybe": unsure})
    looked_for = tuple(one.model_copy(update={"look_only": True}) for one in line.unsure)
    return line.model_copy(update={"owed": (*looked_for, closed)})


def _is_seen(seen: tuple[str, ...], new: str) -> bool:
    kind, _, ordinal = new.rpartition("/")
    return any(one.rpartition("/")[0] == kind and int(one.rpartition("/")[2]) >= int(ordinal) for one in seen)


def _remembered(seen: tuple[str, ...], new: str) -> tuple[str, ...]:
    """The ids that matter, `<key>/<kind>/<ordinal>`: of each kind the latest."""
    kind = new.rpartition("/")[0]
    return (*(one for one in seen if one.rpartition("/")[0] != kind), new)


# --- sending -----------------------------------------------------------------------------------------------------------------


def due(outbox: Outbox, names: Sequence[str], now: datetime) -> list[Due]:
    """The next message of each of these channels that may be tried now; at most one each.

    What failed less often goes first: a message that a channel cannot digest holds up no other incident's.
    """
    found = []
    for name in names:
        record = outbox.channels.get(name)
        if record is not None and record.not_before is not None and record.not_before > now:
            continue
        firsts = [Due(name, case, owed[0]) for case in outbox.cases if (owed := case.line(name).owed)]
        ready = [one for one in firsts if one.owed.not_before is None or one.owed.not_before <= now]
        if ready:
            found.append(min(ready, key=lambda one: one.owed.tries))  # of equals the oldest
    return found


def begun(outbox: Outbox, batch: Sequence[Due], now: datetime) -> Outbox:
    """Note that these are being sent: should nobody note how it ended, they may have arrived."""
    for one in batch:
        if one.owed.begun is None:
            outbox = _replace(outbox, one, one.owed.model_copy(update={"begun": now}))
    return outbox


def delivered(outbox: Outbox, one: Due, receipt: Receipt | None, now: datetime) -> Outbox:
    """Note that a message arrived; a receipt of None: it was only looked for, and is not there."""
    case = outbox.case(one.case.key)
    if case is None:
        return outbox
    line = case.line(one.channel)
    kept = tuple(owed for owed in line.owed if owed.id != one.owed.id)
    told = {} if receipt is None else {"told": True, "thread": receipt.thread or line.thread}
    outbox = outbox.with_case(case.with_line(one.channel, line.model_copy(update={"owed": kept, **told})))
    return outbox if receipt is None else _channel_is_well(outbox, one.channel, now, "takes messages again")


def failed(outbox: Outbox, one: Due, error: DeliveryFailed, now: datetime, channels: Sequence[Channel]) -> Outbox:
    """Note that a message did not arrive, or that nobody knows.

    Args:
        error: says whether trying again can help, and when.
        channels: all of them: the others are told of trouble that lasts.
    """
    case = outbox.case(one.case.key)
    if case is None:
        return outbox
    line = case.line(one.channel)
    owed = next((kept for kept in line.owed if kept.id == one.owed.id), one.owed)
    if error.permanent:
        maybe = line.maybe or (one.owed.begun is not None and not line.told)  # an earlier sending, cut off
        if _is_kept(case, owed, told=line.told or maybe):
            later = {"begun": one.owed.begun, "not_before": now + REFUSED_AGAIN, "tries": owed.tries + 1}
            outbox = _replace(outbox, one, owed.model_copy(update=later))
            return outbox if owed.not_before else _channel_is_ill(outbox, one.channel, error, now, channels)  # said once
        rest = tuple(kept for kept in line.owed if kept.id != one.owed.id)
        outbox = outbox.with_case(case.with_line(one.channel, line.model_copy(update={"owed": rest, "maybe": maybe})))
    else:
        maybe = line.maybe or error.uncertain
        line = line.model_copy(update={"maybe": maybe and not line.told})
        outbox = outbox.with_case(case.with_line(one.channel, line))
        is_sure = not error.uncertain and one.owed.begun is None  # begun only just now, and surely not arrived
        changes = {"tries": owed.tries + 1, "begun": None if is_sure else owed.begun}
        outbox = _replace(outbox, one, owed.model_copy(update=changes))
    return _channel_is_ill(outbox, one.channel, error, now, channels)


def _is_kept(case: Case, owed: Owed, *, told: bool) -> bool:
    """Whether a message that was refused is tried again all the same.

    The end of what somebody may have heard of is: else a pager's alert stays open for ever. So is a report about a channel.
    """
    return case.service == REPORTER or (owed.kind == "closed" and told)


def _replace(outbox: Outbox, one: Due, owed: Owed) -> Outbox:
    case = outbox.case(one.case.key)
    if case is None:
        return outbox
    line = case.line(one.channel)
    changed = tuple(owed if kept.id == owed.id else kept for kept in line.owed)
    return outbox.with_case(case.with_line(one.channel, line.model_copy(update={"owed": changed})))


# --- channels ----------------------------------------------------------------------------------------------------------------


def _channel_is_well(outbox: Outbox, name: str, now: datetime, why: str) -> Outbox:
    """Close the case of a channel that was in trouble."""
    record = outbox.channels.get(name)
    if record is None:
        return outbox
    outbox = outbox.with_channel(name, None)
    case = outbox.case(record.case)
    if case is None:
        return outbox
    case = case.model_copy(update={"over": True, "closed_at": now, "sentence": f"{name} {why}."})
    closed = Owed(id=f"{case.key}/closed/1", kind="closed", at=now)
    lines = {
        other: line.model_copy(update={"owed": (closed,) if line.told or line.maybe or line.unsure else ()})
        for other, line in case.lines.items()
    }
    return outbox.with_case(case.model_copy(update={"lines": lines}))


def _channel_is_ill(outbox: Outbox, name: str, error: DeliveryFailed, now: datetime, channels: Sequence[Channel]) -> Outbox:
    record = outbox.channels.get(name) or ChannelRecord(since=now)
    wait = None if error.retry_after is None else now + timedelta(seconds=max(error.retry_after, _NO_RETRY_BEFORE_S))
    record = record.model_copy(update={"not_before": wait})
    if record.case or not (error.permanent or now - record.since >= REPORT_AFTER):
        return outbox.with_channel(name, record)
    stack = next((case.stack for case in outbox.cases), "stack")
    key = f"{stack}/alerts/{name}/{now:%Y%m%dT%H%M%SZ}"
    later = _opened(key, now, not_before=now + REFUSED_AGAIN)  # nobody else is there: ask itself whether it is well again
    case = Case(
        key=key,
        stack=stack,
        service=REPORTER,
        aspect=name,
        severity="error",
        sentence=f"Alerts do not reach {name}: {error}",
        opened_at=record.since,
        lines={other.name: Line(owed=(_opened(key, now),)) for other in _others(name, channels)} or {name: Line(owed=(later,))},
    )
    return outbox.with_channel(name, record.model_copy(update={"case": key})).with_case(case)


def _opened(key: str, now: datetime, not_before: datetime | None = None) -> Owed:
    kind: Kind = "opened"
    return Owed(id=f"{key}/{kind}/1", kind=kind, at=now, not_before=not_before)


def _others(name: str, channels: Sequence[Channel]) -> list[Channel]:
    """Who is told that a channel is in trouble: those that hear of errors; where there is none, every other one."""
    others = [channel for channel in channels if channel.name != name]
    return [channel for channel in others if reaches("error", channel.min_severity)] or others


# --- tidying -----------------------------------------------------------------------------------------------------------------


def tidied(outbox: Outbox, names: Sequence[str], now: datetime) -> Outbox:
    """Drop what is over and said everywhere, or over for too long, and channels that are no longer configured.

    Args:
        names: of the channels that there are.
    """
    for name in outbox.channels.keys() - set(names):
        outbox = _channel_is_well(outbox, name, now, "is no longer configured")
    kept, recent = [], list(outbox.recent)
    for case in outbox.cases:
        is_old = now - (case.closed_at or case.opened_at) > STALE_AFTER
        waits = any(line.owed for name, line in case.lines.items() if name in names)
        if case.over and (is_old or not waits):
            if case.closed_at is None:
                recent.append(case.key)  # a run; an incident's key never comes back
            continue
        kept.append(case)
    if len(kept) == len(outbox.cases):
        return outbox
    return outbox.model_copy(update={"cases": tuple(kept), "recent": tuple(recent[-RECENT:])})
