"""Langfuse's event bucket: what was stored in a window of time, and which of it is enough to do all of it again.

Keys (facts: apps.md 2.4), below LANGFUSE_S3_EVENT_UPLOAD_PREFIX: `<project>/<entity>/<id>/<uuid>.json`, and for OpenTelemetry
`otel/<project>/<yyyy>/<mm>/<dd>/<hh>/<mm>/<uuid>.json`. For an event of the first kind the worker reads all objects of its
entity, so one of them stands for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from blocks.errors import GuardRefused
from blocks.object_bucket import Listed, ObjectBucket

__all__ = ["ENTITIES", "MOST", "Event", "Window", "chosen", "events_in", "parse"]

ENTITIES = ("trace", "observation", "score")
"""Kinds of the first sort of key that Langfuse can replay."""
MOST = 500_000
"""Events of one replay: more would not fit into the worker's memory."""
OTEL = "otel"

_OTEL = re.compile(r"otel/([^/]+)/\d{4}/\d\d/\d\d/\d\d/\d\d/[^/.]+\.json")
_PLAIN = re.compile(r"([^/]+)/([^/]+)/(.+)/[^/]+\.json")
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Window:
    """From when to when, both in UTC; the end does not belong to it. project: only its events; empty: of all."""

    begin: datetime
    end: datetime
    project: str = ""

    def holds(self, item: Listed) -> bool:
        """Say whether an object was stored in it, by the store's own clock."""
        return self.begin <= item.modified.astimezone(UTC) < self.end


@dataclass(frozen=True, order=True)
class Event:
    """An object of the bucket.

    Attributes:
        key: relative to the prefix. kind: otel, trace, observation or score. modified: when it was stored.
        about: the entity it belongs to; of OpenTelemetry, the object itself.
    """

    key: str
    kind: str
    about: str
    modified: datetime


def parse(key: str, modified: datetime) -> Event | None:
    """Read a key; None where it is none of an event that can be replayed.

    Args:
        key: relative to the prefix.
    """
    if key.startswith(f"{OTEL}/"):
        return Event(key, OTEL, key, modified) if _OTEL.fullmatch(key) else None
    found = _PLAIN.fullmatch(key)
    if found is None or found[2] not in ENTITIES:
        return None
    return Event(key, found[2], f"{found[1]}/{found[2]}/{found[3]}", modified)


def events_in(bucket: ObjectBucket, prefix: str, window: Window) -> list[Event]:
    """List the events that were stored in a window.

    Keys of OpenTelemetry say when, so only the window's hours are listed; of the others every key of a project is looked at.

    Raises:
        GuardRefused: there are too many for one replay.
    """
    found: list[Event] = []
    for below in _places(bucket, prefix, window):
        for item in bucket.list(below):
            if not window.holds(item):
                continue
            event = parse(item.key.removeprefix(prefix), item.modified.astimezone(UTC))
            if event is not None:
                found.append(event)
            if len(found) > MOST:
                raise GuardRefused(f"replay-events: more than {MOST} events in that window; replay it in smaller ones")
    return found


def chosen(events: Iterable[Event]) -> list[str]:
    """Choose the keys that are enough, in order: of each entity its newest object."""
    newest: dict[str, Event] = {}
    for one in events:
        known = newest.get(one.about)
        if known is None or (one.modified, one.key) > (known.modified, known.key):
            newest[one.about] = one
    return sorted(one.key for one in newest.values())


def _places(bucket: ObjectBucket, prefix: str, window: Window) -> Iterator[str]:
    """Yield the folders in which such events may be."""
    plain = [window.project] if window.project else [one for one in bucket.folders(prefix) if one != OTEL]
    for project in plain:
        for entity in ENTITIES:
            yield f"{prefix}{project}/{entity}/"
    spans = [window.project] if window.project else list(bucket.folders(f"{prefix}{OTEL}/"))
    for project in spans:
        hour = window.begin.replace(minute=0, second=0, microsecond=0) - _HOUR  # its clock need not be the store's
        while hour < window.end + _HOUR:
            yield f"{prefix}{OTEL}/{project}/{hour:%Y/%m/%d/%H}/"
            hour += _HOUR
