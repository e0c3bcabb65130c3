"""The API's rate limit, kept on this side: requests that would be refused are not sent.

Railway counts requests an hour by plan (100 Free, 1,000 Hobby, 10,000 Pro) and says in each answer what is left
(`X-RateLimit-Limit`, `-Remaining`, `-Reset`; facts: railway.md 2.1). A twentieth of the hour is kept for changes: whoever
polls must not take the request away that rolls back.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from blocks.errors import RateLimited

__all__ = ["Budget"]

_KEPT = 20
"""One request in so many is kept for changes."""
_SLOWEST_POLL = 60.0
_EPOCH = 1e9
"""A reset above it is a moment in unix seconds, below it seconds from now."""


class Budget:
    """A token bucket a second and a count an hour, both sized by what the answers say. Safe to use from many threads.

    Args:
        patience: seconds that a request may wait for its turn; where it is longer it is refused.
    """

    def __init__(self, patience: float = 60.0) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._limit = 0
        self._remaining = 0
        self._reset = 0.0
        self._not_before = 0.0
        self._rate = 0.0
        self._tokens = 0.0
        self._filled = time.monotonic()

    def take(self, *, change: bool = False) -> None:
        """Wait for a request's turn.

        Args:
            change: of the requests that are kept for changes.
        Raises:
            RateLimited: its turn is too far away; nothing was sent.
        """
        deadline = time.monotonic() + self._patience
        while (wait := self._claim(change=change)) > 0:
            if time.monotonic() + wait > deadline:
                raise RateLimited(
                    f"railway: the API's limit of {self._limit or 'a few'} requests an hour is used up; "
                    f"expected to go on in {wait:.0f} s; wait, or look less often",
                    retry_after=wait,
                )
            time.sleep(wait)

    def learn(self, headers: Mapping[str, str]) -> None:
        """Take over what an answer says of the limit; headers that are missing or no numbers change nothing."""
        limit, remaining = _number(headers.get("x-ratelimit-limit")), _number(headers.get("x-ratelimit-remaining"))
        with self._lock:
            if limit is not None and limit > 0:
                if int(limit) != self._limit:
                    self._limit = self._remaining = int(limit)
                    self._rate = min(50.0, max(1.0, limit / 100))
                    self._tokens = self._rate
                reset = _seconds_until(headers.get("x-ratelimit-reset"))
                self._reset = time.monotonic() + (3600.0 if reset is None else reset)
            if remaining is not None and self._limit:
                self._remaining = int(remaining)

    def refused(self, headers: Mapping[str, str]) -> float:
        """A request was refused with 429.

        Returns: seconds until the next one may be sent, as `Retry-After` or the reset says.
        """
        self.learn(headers)
        wait = _seconds_until(headers.get("retry-after"))
        if wait is None:
            wait = _seconds_until(headers.get("x-ratelimit-reset"))
        wait = 1.0 if wait is None else wait
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + wait)
        return wait

    def pace(self, poll: float) -> float:
        """Stretch the seconds between two looks so that what is left of the hour suffices for it."""
        with self._lock:
            left = self._reset - time.monotonic()
            if not self._limit or left <= 0:
                return poll
            spare = max(1, self._remaining - self._limit // _KEPT)
            return max(poll, min(_SLOWEST_POLL, left / spare))

    def _claim(self, *, change: bool) -> float:
        """Take a request, or return the seconds after which to ask again."""
        with self._lock:
            now = time.monotonic()
            if now < self._not_before:
                return self._not_before - now
            if self._limit and now >= self._reset:  # a new hour, of which the next answer says more
                self._remaining, self._reset = self._limit, now + 3600.0
            kept = 0 if change else self._limit // _KEPT
            if self._limit and self._remaining <= kept:
                return self._reset - now
            if self._rate:
                self._tokens = min(self._rate, self._tokens + (now - self._filled) * self._rate)
                self._filled = now
                if self._tokens < 1:
                    return (1 - self._tokens) / self._rate
                self._tokens -= 1
            self._remaining -= 1
            return 0.0


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds_until(text: str | None) -> float | None:
    """Read seconds, a moment in unix seconds or milliseconds, or a date; None where it is none of them."""
    if text is None:
        return None
    number = _number(text)
    if number is None:
        moment = _moment(text)
        return None if moment is None else max(0.0, (moment - datetime.now(UTC)).total_seconds())
    if number > _EPOCH * 1000:
        number /= 1000
    return max(0.0, number - time.time() if number > _EPOCH else number)


def _moment(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            found = read(text)
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None
