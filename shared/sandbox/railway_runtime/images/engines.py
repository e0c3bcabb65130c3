"""Runs an engine as a container's first program: until SIGTERM, its log on the container's."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

from shared.engines.process import EngineError
from shared.sandbox.railway_runtime.images.inside import say

__all__ = ["serve"]

_START_S = 900.0
"""The platform's health check is what counts; this is for a machine that does too much else."""
_LOOK_S = 0.1
_STOP_S = 600.0
"""The platform's own limit is what counts."""


def serve(engine: _Runnable, *, started: Callable[[], None] | None = None, logs: Sequence[Path] = ()) -> int:
    """Start an engine, and run until it ends or SIGTERM comes.

    Args:
        engine: not running. Its directory may be a copy of another one's, as a restored volume is.
        started: called once it answers. logs: of other programs that belong to it.
    Returns: the exit status: 0 after SIGTERM, 1 otherwise.
    """
    for file in engine.directory.glob("*.pid"):
        file.unlink()  # a container has its volume for itself: who is named there is gone, or runs on the original
    followers = [_Follower(path) for path in (engine.log, *logs)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    status = 1
    try:
        engine.start(timeout=_START_S)
        if started is not None:
            started()
        while engine.running:
            time.sleep(_LOOK_S)
    except EngineError as error:
        say(str(error).partition("; its log")[0])
    except SystemExit:
        status = 0
    finally:
        engine.stop(grace=_STOP_S)
        for follower in followers:
            follower.end()
    return status


def _end(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # once is enough
    raise SystemExit


class _Runnable(Protocol):
    """What engines are, each with its own way to start."""

    directory: Path

    @property
    def log(self) -> Path: ...
    @property
    def running(self) -> bool: ...
    def start(self, *, timeout: float) -> None: ...
    def stop(self, *, grace: float | None) -> None: ...


class _Follower:
    """Copies what is added to a file to stdout."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size if path.exists() else 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="log", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Copy the rest."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self._copy()
        self._copy()

    def _copy(self) -> None:
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
            self._read += len(new)
            sys.stdout.buffer.write(new)
            sys.stdout.buffer.flush()
