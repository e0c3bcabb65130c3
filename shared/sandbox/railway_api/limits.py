"""How much a token has asked in this hour and this second (facts: railway.md 2.1)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.sandbox.railway_api.access import Token
from shared.sandbox.railway_api.options import RateLimit

__all__ = ["Meter", "Reading"]

_HOUR = timedelta(hours=1)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Reading:
    """What the answer's headers say. retry_after: seconds, where the request was one too many."""

    limit: int
    remaining: int
    reset: datetime
    retry_after: int | None = None

    def headers(self) -> dict[str, str]:
        """As Railway sends them."""
        found = {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": self.reset.isoformat().replace("+00:00", "Z"),
        }
        return found if self.retry_after is None else {**found, "Retry-After": str(self.retry_after)}


@dataclass
class _Window:
    began: datetime
    used: int = 0
    recent: deque[datetime] = field(default_factory=deque)


class Meter:
    """Counts the requests of every token in windows of an hour; no more than so many within a second.

    Args:
        now: the platform's clock.
    """

    def __init__(self, rate: RateLimit, now: Callable[[], datetime]) -> None:
        self._rate, self._now = rate, now
        self._windows: dict[str, _Window] = {}

    def count(self, token: Token) -> Reading:
        """Count a request, unless it is one too many."""
        now, window = self._now(), self._window(token)
        while window.recent and now - window.recent[0] >= _SECOND:
            window.recent.popleft()
        reset = window.began + _HOUR
        if window.used >= self._rate.per_hour:
            return Reading(self._rate.per_hour, 0, reset, math.ceil((reset - now).total_seconds()))
        if len(window.recent) >= self._rate.per_second:
            return Reading(self._rate.per_hour, self._rate.per_hour - window.used, reset, 1)
        window.used += 1
        window.recent.append(now)
        return Reading(self._rate.per_hour, self._rate.per_hour - window.used, reset)

    def left(self, token: Token) -> dict[str, Any]:
        """What the API itself says of it."""
        window = self._window(token)
        reset = (window.began + _HOUR).isoformat().replace("+00:00", "Z")
        return {"remainingPoints": max(self._rate.per_hour - window.used, 0), "resetsAt": reset}

    def _window(self, token: Token) -> _Window:
        now = self._now()
        window = self._windows.get(token.id)
        if window is None or now - window.began >= _HOUR:
            window = self._windows[token.id] = _Window(now)
        return window
