"""What the gateway serves: rendered once at each refresh by a thread, then only handed out."""

from __future__ import annotations

import gzip
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Protocol

from blocks.errors import StackError
from flows.health.history import Day
from flows.health.history_store import with_pending
from railway.gateway import metrics, pages
from railway.gateway.known import Known
from railway.gateway.source import Source

__all__ = ["Body", "Days", "Keeper", "Snapshot", "now_utc"]

REFRESH = 10.0
"""Seconds between two looks at the source."""
HISTORY_REFRESH = 60.0
"""Seconds between two listings of the history in the store."""

_log = logging.getLogger("railway.gateway")


class Days(Protocol):
    """Somewhere that history is kept."""

    def read(self) -> dict[date, Day]:
        """Return every day there is.

        Raises:
            StackError: it cannot be asked now.
        """


@dataclass(frozen=True)
class Body:
    """Bytes to serve, also packed, with the tag by which a browser knows that nothing changed."""

    plain: bytes
    packed: bytes
    etag: str

    @classmethod
    def of(cls, text: str) -> Body:
        """Make one of text."""
        plain = text.encode()
        return cls(plain, gzip.compress(plain, 6, mtime=0), f'W/"{hashlib.sha256(plain).hexdigest()[:24]}"')


@dataclass(frozen=True)
class Snapshot:
    """All that requests need; replaced as a whole."""

    known: Known
    page: Body
    metrics: Body


def now_utc() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class Keeper:
    """Keeps the snapshot fresh, from a thread of its own: neither Prefect nor the store can hold up a request.

    Args:
        stack: name, for pages that know nothing yet. source, days: to read. refresh, history_refresh: seconds between looks.
        now: the clock.
    """

    def __init__(
        self,
        stack: str,
        source: Source,
        days: Days | None,
        *,
        refresh: float = REFRESH,
        history_refresh: float = HISTORY_REFRESH,
        now: Callable[[], datetime] = now_utc,
    ) -> None:
        self._stack, self._source, self._days_source = stack, source, days
        self._refresh, self._history_refresh = refresh, history_refresh
        self._now = now
        self._stop = threading.Event()
        self._looking = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="refresh", daemon=True)
        self._days: dict[date, Day] = {}
        self._days_due = 0.0
        self._days_read = 0
        self._history_failed = ""
        self._shown: tuple[object, ...] = ()
        self.snapshot = self._rendered(Known())

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Look once, then keep looking."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a look that is under way is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the page grows old and says so, it does not vanish; tried again at the next turn
                _log.exception("the refresh failed; the last state is served on")
            if self._stop.wait(self._refresh):
                return

    def look(self) -> None:
        """Ask the source, and the store when it is time, and render."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        last = self.snapshot.known
        published, failed, seen_at = last.published, "", last.seen_at
        try:
            published, seen_at = self._source.read(), self._now()
        except StackError as error:
            failed = str(error)
        self._read_days()
        now = self._now()
        # What the page says changes with what is known, and with the minute.
        shown = (published, failed, self._history_failed, self._days_read, now.replace(second=0, microsecond=0))
        if shown == self._shown:
            return
        days = with_pending(self._days, published.history) if published else self._days
        self.snapshot = self._rendered(Known(published, days, failed, self._history_failed, seen_at))
        self._shown = shown

    def _read_days(self) -> None:
        if self._days_source is None or time.monotonic() < self._days_due:
            return
        self._days_due = time.monotonic() + self._history_refresh
        try:
            self._days, self._history_failed = self._days_source.read(), ""
            self._days_read += 1
        except StackError as error:
            self._history_failed = str(error)

    def _rendered(self, known: Known) -> Snapshot:
        now = self._now()
        return Snapshot(
            known=known,
            page=Body.of(pages.status_page(self._stack, known, now)),
            metrics=Body.of(metrics.render(self._stack, known, now)),
        )
