"""What a container writes, a line at a time, with the time at which it was seen."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from shared.sandbox.railway_runtime.containers import LogLine

__all__ = ["Output"]

_KEPT = 5000
"""Lines, the most that Railway gives away at once."""
_LONGEST = 1 << 16
"""Bytes after which a line that does not end is taken for one."""


class Output:
    """Follows a file that grows. Thread-safe.

    Args:
        path: of the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._rest = b""
        self._lines: deque[LogLine] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def follow(self, *, ended: bool = False) -> None:
        """Take what is new.

        Args:
            ended: nothing will follow: what has no line end is a line, too.
        """
        with self._lock:
            if self._path.exists() and self._path.stat().st_size > self._read:
                with self._path.open("rb") as file:
                    file.seek(self._read)
                    new = file.read()
                self._read += len(new)
                *whole, self._rest = (self._rest + new).split(b"\n")
                for line in whole:
                    self._keep(line)
            if self._rest and (ended or len(self._rest) > _LONGEST):
                self._keep(self._rest)
                self._rest = b""

    def lines(self, limit: int) -> Sequence[LogLine]:
        """The last lines, oldest first."""
        self.follow()
        with self._lock:
            return list(self._lines)[-limit:] if limit > 0 else []

    def _keep(self, line: bytes) -> None:
        self._lines.append(LogLine(datetime.now(UTC), line.decode(errors="replace").rstrip("\r")))
