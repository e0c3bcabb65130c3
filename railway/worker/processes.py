"""Child processes, and what /proc says of theirs. Nothing here imports Prefect: the watching program stays small."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

__all__ = ["Child", "adopt_orphans", "catches_sigterm", "children_of", "is_engine", "reap"]

_PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SIGTERM_BIT = 1 << (signal.SIGTERM - 1)


@dataclass
class Child:
    """A program that was started here.

    Attributes:
        name: for messages. status: how it ended (an exit code, or a signal's number below zero), None while it runs.
    """

    name: str
    pid: int
    status: int | None = None

    @classmethod
    def spawn(
        cls,
        name: str,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        output: int | None = None,
    ) -> Child:
        """Start `python -m module` in a session of its own: what is sent to our group must not reach it past us.

        Args:
            output: file descriptor that it writes to instead of our standard output and error.
        """
        argv = [sys.executable, "-m", module, *arguments]
        redirected = [] if output is None else [(os.POSIX_SPAWN_DUP2, output, stream) for stream in (1, 2)]
        return cls(name, os.posix_spawn(sys.executable, argv, dict(environment), setsid=True, file_actions=redirected))

    @property
    def running(self) -> bool:
        """Whether it has not been seen to end."""
        return self.status is None

    def send(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.running:
            os.kill(self.pid, number)  # ours until reaped: the pid is nobody else's

    def kill(self) -> None:
        """SIGKILL it with what it has started in its session, if it runs."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def how_it_ended(self) -> str:
        """Say so for people."""
        if self.status is not None and self.status < 0:
            return f"was ended by {signal.Signals(-self.status).name}"
        return f"ended with status {self.status}"


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent dies, as the first process of a container is by itself.

    Raises:
        OSError: the kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap(children: Sequence[Child]) -> None:
    """Collect every process that has ended: our children, and orphans, which the first process of a container inherits."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        for child in children:
            if child.pid == pid:
                child.status = os.waitstatus_to_exitcode(status)


def children_of(pid: int) -> list[int]:
    """Return the processes whose parent this one is, those that have ended and were not collected left out."""
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdecimal() and (stat := _read(entry / "stat")):
            state, parent = stat.rpartition(")")[2].split()[:2]
            if int(parent) == pid and state not in "ZX":
                found.append(int(entry.name))
    return found


def catches_sigterm(pid: int) -> bool:
    """Say whether a process has a handler for SIGTERM. One that has none would end without a word."""
    for line in _read(_PROC / str(pid) / "status").splitlines():
        name, _, value = line.partition(":")
        if name == "SigCgt":
            return bool(int(value, 16) & _SIGTERM_BIT)
    return False


def is_engine(pid: int) -> bool:
    """Say whether a process runs a flow, and not only its hooks or the preparations."""
    arguments = _read(_PROC / str(pid) / "cmdline").split("\0")
    return any(
        (before == "-m" and this in ("prefect.engine", "flows.health.process"))
        or (before.endswith("_workspace_runtime_bootstrap.py") and this == "engine")
        for before, this in pairwise(arguments)
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # it has ended meanwhile
