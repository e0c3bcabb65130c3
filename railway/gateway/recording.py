"""The gateway's way into the audit trail: what people decided in Slack or in PagerDuty."""

from __future__ import annotations

import logging
import threading

from flows.runbook.audit import Entry, Shelf, Trail

__all__ = ["Recorder"]

_MOST_OWED = 100
_log = logging.getLogger("railway.gateway")


class Recorder:
    """Writes entries, one at a time; what the store does not take is written with the next one, and stands in the log.

    Args:
        stack: its name. store: None where none is set up.
    """

    def __init__(self, stack: str, store: Shelf | None) -> None:
        self._stack, self._lock = stack, threading.Lock()
        self._trail = Trail(store) if store is not None else None

    def record(self, entry: Entry) -> None:
        """Write an entry; raises nothing that the store does."""
        _log.info("%s: %s: %s, by %s", self._stack, entry.what, entry.result, entry.by)
        if self._trail is None:
            return
        with self._lock:
            self._trail.add(entry)
            if self._trail.owed:
                _log.warning("audit: the store has not taken %d entries yet", len(self._trail.owed))
                del self._trail.owed[:-_MOST_OWED]
