"""What the services' days were like: pure, one record a day, the last ninety of them.

A sweep adds a `Row`. A `Day` counts rows: seconds by word, the worst word and the latencies of each quarter of an hour, the
incidents. Adding a row twice changes nothing, because a day knows which moments it has seen: a write whose answer got lost
is repeated, and two writers may overlap. Latencies are counted in classes that grow by a fifth, so that a day stays small and
any percentile is right to within a tenth.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any, Self

import zstandard
from pydantic import BaseModel, Field, ValidationError

from blocks.errors import IntegrityError

__all__ = ["DAYS", "SLOTS", "WORDS", "Day", "IncidentNote", "Row", "ServiceDay", "percentile", "thin"]

DAYS = 90
"""History goes back so far; older days are deleted."""
SLOTS = 96
"""Quarters of an hour in a day."""
WORDS = {".": "no data", "u": "up", "m": "maintenance", "q": "unknown", "g": "degraded", "d": "down"}
"""A letter for each word of a verdict, from good to bad."""

_LETTERS = {word: letter for letter, word in WORDS.items()}
_BADNESS = {letter: place for place, letter in enumerate(WORDS)}
_SLOT_SECONDS = 86400 // SLOTS
_STEP = math.log(1.2)
_LARGEST = 10_000_000
"""Bytes of a day, unpacked, at most: a sweep every 10 s makes a tenth of it."""


class Row(BaseModel):
    """One sweep, or several alike that were put together.

    Attributes:
        at: seconds since 1970, of the last. step: it stands for so many seconds before `at`.
        words: a verdict's word by service. ms: latency by service, where something was measured.
    """

    at: int
    step: int
    words: dict[str, str]
    ms: dict[str, float] = Field(default_factory=dict)

    @property
    def date(self) -> date:
        """Its day, UTC."""
        return datetime.fromtimestamp(self.at, UTC).date()


class IncidentNote(BaseModel):
    """An incident, as history keeps it."""

    service: str
    severity: str
    sentence: str
    opened_at: datetime
    closed_at: datetime | None = None

    def dates(self) -> set[date]:
        """Return the first and the last of its days, UTC."""
        return {moment.astimezone(UTC).date() for moment in (self.opened_at, self.closed_at) if moment is not None}


class ServiceDay(BaseModel):
    """A service's day.

    Attributes:
        seconds: by word. slots: the worst word of each quarter of an hour, as a letter.
        latency: by number of the quarter: how many answers fell into each class (of `1.2 ** class` ms and up).
    """

    seconds: dict[str, float] = Field(default_factory=dict)
    slots: str = "." * SLOTS
    latency: dict[int, dict[int, int]] = Field(default_factory=dict)

    def add(self, slot: int, word: str, seconds: float, ms: float | None) -> None:
        """Count one sweep of the day."""
        self.seconds[word] = self.seconds.get(word, 0) + seconds
        letter = _LETTERS[word]
        if _BADNESS[letter] > _BADNESS[self.slots[slot]]:
            self.slots = self.slots[:slot] + letter + self.slots[slot + 1 :]
        if ms is not None:
            classes = self.latency.setdefault(slot, {})
            index = math.floor(math.log(max(ms, 1.0)) / _STEP)
            classes[index] = classes.get(index, 0) + 1

    @property
    def uptime(self) -> float | None:
        """The share of its time that it was up or degraded, None where nothing is known.

        Maintenance and time in which the checker could not look count neither way.
        """
        good = self.seconds.get("up", 0) + self.seconds.get("degraded", 0)
        known = good + self.seconds.get("down", 0)
        return good / known if known else None

    def percentile(self, slot: int, share: float) -> float | None:
        """Return a percentile of a quarter's latencies in ms, None where none was measured."""
        return percentile(self.latency.get(slot, {}), share)


class Day(BaseModel):
    """One day, UTC.

    Attributes:
        seen: seconds of the day at which a sweep was counted, ascending. incidents: by key.
    """

    date: date
    seen: list[int] = Field(default_factory=list)
    services: dict[str, ServiceDay] = Field(default_factory=dict)
    incidents: dict[str, IncidentNote] = Field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Count a sweep of this day; nothing happens when it was counted before.

        Its time is cut where a sweep before it, or midnight, already stands.
        """
        moment = row.at - int(datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC).timestamp())
        place = bisect_left(self.seen, moment)
        if place < len(self.seen) and self.seen[place] == moment:
            return
        before = self.seen[place - 1] if place else 0
        covered = place < len(self.seen) and self.seen[place] - row.step < moment
        seconds = 0 if covered else max(0, min(row.step, moment - before))
        insort(self.seen, moment)
        for service, word in row.words.items():
            of = self.services.setdefault(service, ServiceDay())
            of.add(moment // _SLOT_SECONDS, word, seconds, row.ms.get(service))

    def note(self, incidents: Mapping[str, IncidentNote]) -> None:
        """Remember the incidents that began or ended on this day; one that is known as closed stays closed."""
        for key, incident in incidents.items():
            known = self.incidents.get(key)
            if self.date in incident.dates() and (known is None or known.closed_at is None):
                self.incidents[key] = incident

    def pack(self) -> bytes:
        """Return the day as it lies in the store: JSON, zstd."""
        data = self.model_dump(mode="json", exclude_none=True)
        data["seen"] = [later - earlier for earlier, later in zip([0, *self.seen], self.seen, strict=False)]
        return zstandard.compress(json.dumps({"format": 1, **data}, separators=(",", ":")).encode(), 9)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read what `pack` made.

        Raises:
            IntegrityError: it is none.
        """
        try:
            data: dict[str, Any] = json.loads(zstandard.ZstdDecompressor().decompress(packed, max_output_size=_LARGEST))
            moment = 0
            data["seen"] = [moment := moment + difference for difference in data["seen"]]
            return cls.model_validate(data)
        except (zstandard.ZstdError, ValueError, TypeError, KeyError, ValidationError):
            raise IntegrityError("history: an object of this day is not one of format 1; it is begun anew") from None


def percentile(classes: Mapping[int, int], share: float) -> float | None:
    """Return a percentile of counted latencies in ms: the middle of its class; None where there are none."""
    rank = share * sum(classes.values())
    for index in sorted(classes):
        rank -= classes[index]
        if rank <= 0:
            return float(1.2 ** (index + 0.5))
    return None


def thin(rows: Sequence[Row]) -> list[Row]:
    """Put neighbours together that say the same within one quarter of an hour, for a time in which nothing can be written.

    Args:
        rows: in order of time.
    Returns: what tells the same seconds and words; of the latencies, the median of each group.
    """
    groups: list[list[Row]] = []
    for row in rows:
        last = groups[-1][-1] if groups else None
        if last is not None and _alike(last, row):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [_one(group) for group in groups]


def _alike(last: Row, row: Row) -> bool:
    same_slot = last.at // _SLOT_SECONDS == row.at // _SLOT_SECONDS
    return same_slot and last.words == row.words and row.at - row.step <= last.at + 1


def _one(group: Sequence[Row]) -> Row:
    first, last = group[0], group[-1]
    ms = {service: _middle(row.ms.get(service) for row in group) for service in last.words}
    return Row(
        at=last.at,
        step=last.at - first.at + first.step,
        words=last.words,
        ms={service: round(value, 1) for service, value in ms.items() if value is not None},
    )


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def day_range(today: date, days: int = DAYS) -> list[date]:
    """Return the last days, oldest first, today at the end."""
    return [today - timedelta(days=back) for back in range(days - 1, -1, -1)]
