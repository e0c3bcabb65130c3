"""What can be done to disturb the API: refusals, outages, cut connections, slow answers, and the answer that is lost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

__all__ = ["Fault", "Faults", "Kind"]

Kind = Literal["outage", "throttle", "refuse", "cut", "slow", "lost-answer"]
"""An HTTP error; 429; an error of GraphQL; a connection cut before anything is done; a late answer; cut when it is done."""


@dataclass
class Fault:
    """What goes wrong with the next requests that it fits.

    Attributes:
        field: of the query or mutation type that a request must ask for; None fits all.
        times: that are left. status: of HTTP. seconds: to be late, or to ask the caller to wait. message: of GraphQL.
    """

    kind: Kind
    times: int
    field: str | None = None
    status: int = 503
    seconds: float = 0.0
    message: str = ""


class Faults:
    """Faults that wait for their requests, in the order in which they were set."""

    def __init__(self) -> None:
        self._waiting: deque[Fault] = deque()
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Let something go wrong."""
        with self._lock:
            self._waiting.append(fault)

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self._waiting.clear()

    def take(self, fields: Collection[str]) -> Fault | None:
        """The fault of a request that asks for these fields."""
        with self._lock:
            found = next((one for one in self._waiting if one.field is None or one.field in fields), None)
            if found is not None:
                found.times -= 1
                if found.times <= 0:
                    self._waiting.remove(found)
            return found
