"""History in the store: what sweeps could not write yet, the writing of it, and the reading.

A day is one object, `<prefix>/<stack>/health/history/<date>.json.zst`, changed by conditional writes only: two writers lose
nothing. It is written every five minutes, when a verdict changes, and at the first sweep of a new day. What is not written
yet travels in what the sweep publishes, and is put together when it grows, so that a store that is away for days costs only
detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from pydantic import BaseModel, Field

from blocks.errors import ConditionFailed, IntegrityError, ObjectMissing, StackError, StoreError
from flows.health.history import DAYS, Day, IncidentNote, Row, thin

__all__ = ["FLUSH_SECONDS", "DayCache", "Pending", "Store", "flush", "history_prefix", "record", "with_pending"]

FLUSH_SECONDS = 300
"""A day's object is written so often when nothing changes."""
MAX_ROWS = 60
"""Rows kept one by one while nothing can be written; more are put together by quarters of an hour."""
MAX_THINNED = 1000
"""Rows kept at all: ten days of quarters. The oldest go first, and it is said."""

_TRIES = 5


class Listing(Protocol):
    """An object as a listing shows it."""

    @property
    def key(self) -> str:
        """Its full key."""

    @property
    def etag(self) -> str:
        """Changes with its content."""


class Store(Protocol):
    """What history and the list of backups need of a store; `BackupStore` has it, and so has the light client of the checks."""

    @property
    def root(self) -> str:
        """Key prefix of the stack, with a slash at its end."""

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Read an object whole, with its ETag."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_etag: str | None = None) -> str:
        """Write an object if the condition holds; returns its ETag."""

    def list(self, prefix: str) -> Iterator[Listing]:
        """Yield the objects below a prefix."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below a prefix that have objects below them, without slash."""

    def remove(self, keys: Iterable[str]) -> int:
        """Delete objects."""


class Pending(BaseModel):
    """What is not in the store yet.

    Attributes:
        last: seconds since 1970 of the last sweep. words: its words, by service.
        tried_at: seconds since 1970 of the last attempt to write.
        failed: why that attempt failed, empty when it did not. dropped: sweeps that were given up for ever.
        damaged: the last day whose object could not be read, and was begun anew.
    """

    rows: list[Row] = Field(default_factory=list)
    incidents: dict[str, IncidentNote] = Field(default_factory=dict)
    last: int = 0
    words: dict[str, str] = Field(default_factory=dict)
    tried_at: int = 0
    failed: str = ""
    dropped: int = 0
    damaged: date | None = None


def history_prefix(store: Store) -> str:
    """Return the folder of the days, with slash."""
    return f"{store.root}health/history/"


def record(
    pending: Pending,
    now: datetime,
    words: Mapping[str, str],
    ms: Mapping[str, float],
    incidents: Mapping[str, IncidentNote],
    *,
    interval: int,
) -> tuple[Pending, bool]:
    """Add a sweep.

    Args:
        now: when it was. words, ms: by service. incidents: open ones and those that closed lately, by key.
        interval: seconds between sweeps; after a longer silence only so much of it is known.
    Returns: what is pending now, and whether it should be written.
    """
    at = int(now.timestamp())
    silence = at - pending.last
    step = silence if 0 < silence <= 3 * interval else interval
    rows = [*pending.rows, Row(at=at, step=step, words=dict(words), ms={name: round(value, 1) for name, value in ms.items()})]
    dropped = pending.dropped
    if len(rows) > MAX_ROWS:
        rows = thin(rows)
        dropped += max(0, len(rows) - MAX_THINNED)
        rows = rows[-MAX_THINNED:]
    news = {key: note for key, note in incidents.items() if _is_news(note, pending)}
    changed = dict(words) != pending.words or any(pending.incidents.get(key) != note for key, note in news.items())
    new_day = datetime.fromtimestamp(pending.last, UTC).date() != now.astimezone(UTC).date()
    rested = at - pending.tried_at >= FLUSH_SECONDS
    after = pending.model_copy(
        update={
            "rows": rows,
            "incidents": {**pending.incidents, **news},
            "last": at,
            "words": dict(words),
            "dropped": dropped,
        }
    )
    return after, rested or ((changed or new_day) and not pending.failed)


def _is_news(note: IncidentNote, pending: Pending) -> bool:
    """Say whether an incident is open, or closed only now: what closed before was recorded by the sweep that closed it."""
    return note.closed_at is None or int(note.closed_at.timestamp()) > pending.last


def flush(store: Store, pending: Pending, now: datetime) -> Pending:
    """Write what is pending. A store that fails is no error here: what could not be written stays pending, with the reason.

    Args:
        store: its calls have their own timeouts. now: of the sweep.
    Returns: what is still pending.
    """
    left = pending.model_copy(update={"tried_at": int(now.timestamp()), "failed": ""})
    oldest = now.astimezone(UTC).date() - timedelta(days=DAYS - 1)
    try:
        for day in sorted({row.date for row in pending.rows}.union(*(note.dates() for note in pending.incidents.values()))):
            if day >= oldest:
                whole = _write_day(store, day, left, oldest)
                left = left if whole else left.model_copy(update={"damaged": day})
            left = left.model_copy(update={"rows": [row for row in left.rows if row.date != day]})
    except StackError as error:
        return left.model_copy(update={"failed": str(error)})
    closed = {key for key, note in left.incidents.items() if note.closed_at is not None}
    return left.model_copy(update={"incidents": {key: note for key, note in left.incidents.items() if key not in closed}})


def _write_day(store: Store, date_: date, pending: Pending, oldest: date) -> bool:
    """Add to a day's object what belongs to it; returns whether what was there could be read."""
    whole = True
    for _ in range(_TRIES):
        known, etag = _read_day(store, date_)
        whole = whole and known is not None
        day = known.model_copy(deep=True) if known else Day(date=date_)
        for row in pending.rows:
            if row.date == date_:
                day.add(row)
        day.note(pending.incidents)
        if day == known:
            return whole
        try:
            store.put(_key(store, date_), day.pack(), if_absent=etag is None, if_etag=etag)
        except ConditionFailed:
            continue  # somebody else wrote, or our own write whose answer got lost: rows are counted once either way
        if etag is None:  # the first of its day: once a day is enough
            _remove_before(store, oldest)
        return whole
    raise StoreError(f"history: {date_} was changed by others {_TRIES} times in a row; it is written with the next sweeps")


def _key(store: Store, date_: date) -> str:
    return f"{history_prefix(store)}{date_.isoformat()}.json.zst"


def _read_day(store: Store, date_: date) -> tuple[Day | None, str | None]:
    """Read a day and its ETag: an empty day where there is no object, None where it is none that we can read."""
    try:
        data, etag = store.get_with_etag(_key(store, date_))
    except ObjectMissing:
        return Day(date=date_), None
    try:
        return Day.unpack(data), etag
    except IntegrityError:
        return None, etag  # torn by a store that died: the rest of the day is worth more than no day


def _remove_before(store: Store, oldest: date) -> None:
    prefix = history_prefix(store)
    old = [item.key for item in store.list(prefix) if item.key.removeprefix(prefix)[:10] < oldest.isoformat()]
    if old:
        store.remove(old)


class DayCache:
    """The days as a reader sees them; only what changed is fetched again.

    Args:
        store: where they are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._days: dict[str, tuple[str, Day]] = {}

    def read(self) -> dict[date, Day]:
        """Return every day that is in the store. One that cannot be read as a day is left out.

        Raises:
            StoreError: the store did not answer; what was fetched before is not fetched again by the next call.
        """
        listed = {item.key: item.etag for item in self._store.list(history_prefix(self._store))}
        for key, etag in listed.items():
            if key not in self._days or self._days[key][0] != etag:
                try:
                    data, present = self._store.get_with_etag(key)
                    self._days[key] = (present, Day.unpack(data))
                except (ObjectMissing, IntegrityError):
                    self._days.pop(key, None)
        self._days = {key: found for key, found in self._days.items() if key in listed}
        return {day.date: day for _, day in self._days.values()}


def with_pending(days: Mapping[date, Day], pending: Pending) -> dict[date, Day]:
    """Return the days as they will be when everything is written."""
    touched = {row.date for row in pending.rows}
    merged = {day: found.model_copy(deep=True) if day in touched else found for day, found in days.items()}
    for row in pending.rows:
        merged.setdefault(row.date, Day(date=row.date)).add(row)
    return merged
