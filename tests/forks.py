"""Work in a process of its own that a test can kill: a fork of this one, which has imported Prefect already."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Forked"]


class Forked:
    """A process that does some work and ends. A context manager: killed at the end of the block, if it still lives.

    Args:
        work: may use no connection that this process has opened; what it raises is printed.
        temporary: for its temporary files, which stay behind when it is killed.

    Attributes:
        pid: of the process.
    """

    def __init__(self, work: Callable[[], object], *, temporary: Path | None = None) -> None:
        self._ended = False
        self.pid = os.fork()
        if self.pid == 0:
            _be(work, temporary)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        if not self._ended:
            self._ended = os.waitpid(self.pid, os.WNOHANG)[0] == self.pid
        return not self._ended

    def kill(self) -> None:
        """SIGKILL it, and wait for its end."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()


def _be(work: Callable[[], object], temporary: Path | None) -> None:
    """Be the process: nothing of the parent's own, not even its `finally`, may run here."""
    status = 1
    try:
        if temporary is not None:
            tempfile.tempdir = str(temporary)
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - it ends here, whatever it was
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)
