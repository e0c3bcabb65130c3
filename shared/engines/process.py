"""Processes that never outlive the program that started them, and the small tools to wait for them.

Every engine runs below a supervisor (see `supervisor.py`) that ends it, and everything it forked, as soon as this
program ends for whatever reason. The supervisor's PID file, beside the log, lets the next start on the same directory
end what survived even the supervisor.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import random
import signal as signals
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from shared.engines import supervisor

__all__ = ["EngineError", "ManagedProcess", "free_port", "is_port_free", "wait_until"]

_POLL_SECONDS = 0.02
_SUPERVISOR = Path(supervisor.__file__)
_LOG_TAIL_BYTES = 2000


class EngineError(Exception):
    """An engine did not start, did not stop, or answered wrongly. One line, then the end of its log if it has one."""


class ManagedProcess:
    """One program with its descendants, in a session of its own, its output in a log file.

    Args:
        name: for messages.
        argv: the program and its arguments. Never put a secret here: every user can read it.
        log: file to which stdout and stderr are appended. `<log>` with the suffix `.pid` lies beside it while it runs.
        env: variables beyond PATH, HOME (the log's directory) and LANG. Nothing else is inherited.
        cwd: working directory; default the log's directory.
        stop_signal: how this program is asked to end.
        litter: files that the program makes elsewhere and does not remove; removed when it has ended, however.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: int = signals.SIGTERM,
        litter: Sequence[Path] = (),
    ) -> None:
        self.name = name
        self.litter = tuple(litter)
        self.stop_signal = stop_signal
        self.argv = list(argv)
        self.log = log.absolute()
        self.pid_file = self.log.with_suffix(".pid")
        self.cwd = cwd
        self.env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.log.parent),
            "LANG": "C.UTF-8",
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._orders = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The program's own pid (not the supervisor's), or None when it is not running."""
        return self._pid if self.running else None

    @property
    def running(self) -> bool:
        """Whether the program, or anything it left behind, is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """How the program ended by itself, 128 + n for signal n; None while it runs, and after `stop` and `kill`."""
        return None if self._process is None else self._process.poll()

    def start(self, ready: Callable[[], bool], *, timeout: float = 30.0, pause: float = _POLL_SECONDS) -> None:
        """Start the program and return once `ready()` is true.

        Args:
            ready: must not block for long.
            timeout: seconds.
            pause: seconds from one `ready()` to the next.
        Raises:
            EngineError: it runs already, ended, or was not ready in time (then it is killed). Carries the log's end.
        """
        self._make_way()
        log_start = self.log.stat().st_size if self.log.exists() else 0
        try:
            self._spawn()
            wait_until(lambda: not self.running or ready(), timeout=timeout, what=f"{self.name} to be ready", pause=pause)
        except EngineError as error:
            self.kill()
            raise EngineError(f"{error}{self._log_tail(log_start)}") from None
        except BaseException:
            self.kill()
            raise
        if self._process is None or (status := self._process.poll()) is not None:
            self.kill()
            raise EngineError(f"{self.name} ended with status {status} while it started{self._log_tail(log_start)}")

    def launch(self) -> None:
        """Start the program and return at once, whatever becomes of it.

        Raises:
            EngineError: it runs already.
        """
        self._make_way()
        try:
            self._spawn()
        except BaseException:
            self.kill()
            raise

    def end_left_over(self) -> None:
        """End what an earlier, now dead, program left running on this directory. `start` does it first of all.

        Raises:
            EngineError: the program that started it is alive: it is in use, not left over.
        """
        try:
            record = json.loads(self.pid_file.read_text())
        except FileNotFoundError:
            return
        if record["boot"] == supervisor.boot_id():
            survivors = [pid for pid, started in (record["supervisor"], record["engine"]) if _is_alive(pid, started)]
            if _is_alive(*record["supervisor"]) and _is_alive(*record["owner"]):
                raise EngineError(
                    f"{self.name} already runs in {self.log.parent}, started by pid {record['owner'][0]}; "
                    "stop that one or use another directory"
                )
            for pid in survivors:
                supervisor.kill_tree(pid)
            wait_until(
                lambda: not any(_is_alive(*record[role]) for role in ("supervisor", "engine")),
                timeout=10,
                what=f"{self.name}, left over in {self.log.parent}, to end",
            )
        for path in (*record["litter"], self.pid_file):  # its litter, which is not ours: names may follow the ports
            Path(path).unlink(missing_ok=True)

    def stop(self, *, grace: float = 10.0, signal: int | None = None) -> None:
        """Ask the program's process group to end, wait, and kill what is left after `grace` seconds.

        Args:
            grace: seconds.
            signal: default the process' `stop_signal`, SIGTERM unless it was made with another.
        """
        self.signal(self.stop_signal if signal is None else signal)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the program and all its descendants, and return when they are gone."""
        process = self._process
        if process is None:
            return
        self.signal(signals.SIGKILL)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            supervisor.kill_tree(process.pid)  # the supervisor itself hangs, or was stopped
            process.wait(10.0)
        _close(process.stdin)
        _close(process.stdout)
        self._process = self._pid = None
        _live.discard(self)

    def signal(self, number: int) -> None:
        """Send a signal to the program's process group, if it runs."""
        with self._orders:
            process = self._process
            if process is None or process.stdin is None or process.stdin.closed:
                return
            try:
                process.stdin.write(f"{number}\n".encode())
            except BrokenPipeError:
                return  # it has ended

    def _make_way(self) -> None:
        if self.running:
            raise EngineError(f"{self.name} is already running as pid {self._pid}; stop it first")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.end_left_over()

    def _spawn(self) -> None:
        files = [str(path) for path in (self.pid_file, *self.litter)]
        argv = [sys.executable, "-I", "-S", str(_SUPERVISOR), *files, "--", *self.argv]
        # Errors that engines log quote data, so the log is as private as the data.
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self.env,
                cwd=self.cwd or self.log.parent,
                start_new_session=True,
                bufsize=0,
            )
        self._process = process
        _live.add(self)
        reported = process.stdout.readline().strip() if process.stdout else b""
        self._pid = int(reported) if reported else None

    def _log_tail(self, start: int) -> str:
        """The end of what this run wrote to the log, to hang on a message."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(start, size - _LOG_TAIL_BYTES))
            text = log.read().decode(errors="replace").strip()
        return f"; its log ({self.log}) ends:\n{text}" if text else f"; its log ({self.log}) is empty"


def wait_until(condition: Callable[[], bool], *, timeout: float, what: str, pause: float = _POLL_SECONDS) -> None:
    """Ask again and again until the condition holds.

    Args:
        condition: must not block for long.
        timeout: seconds.
        what: completes "waited ... for", for the message.
        pause: seconds from one question to the next; more than the default where a question costs the asked one something.
    Raises:
        EngineError: it did not hold in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise EngineError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(pause)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, each at most once per process.

    Below the range from which the kernel picks ports for outgoing connections (32768 and up by default), so that no
    client takes it between this answer and the engine's start; drawn at random, so that two programs seldom collide.
    """
    with _ports_lock:
        for _ in range(len(_PORTS)):
            port = random.choice(_PORTS)  # noqa: S311 - chance is only to spread
            if port not in _ports_given and is_port_free(port):
                _ports_given.add(port)
                return port
    raise EngineError("no free TCP port between 12000 and 32767 on 127.0.0.1; stop what holds them")


def is_port_free(port: int) -> bool:
    """Whether nothing listens on this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger do not count
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_PORTS = range(12000, 32768)
_ports_given: set[int] = set()
_ports_lock = threading.Lock()
_live: set[ManagedProcess] = set()


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None:
        pipe.close()


def _is_alive(pid: int, started: int) -> bool:
    """Whether this very process lives, and not a later one under the same pid."""
    return supervisor.start_time(pid) == started


def _stop_all() -> None:
    """At a normal exit: what was not stopped is asked to, all at once, and killed when it takes longer than 5 s."""
    for process in list(_live):
        process.signal(process.stop_signal)
    deadline = time.monotonic() + 5.0
    while any(process.running for process in _live) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for process in list(_live):
        process.kill()


def _disown_all() -> None:
    """In a forked child: drop the inherited pipes, so that the engines' life hangs on the parent alone."""
    for process in list(_live):
        if process._process is not None:
            _close(process._process.stdin)
            _close(process._process.stdout)
        process._process = process._pid = None
    _live.clear()


atexit.register(_stop_all)
os.register_at_fork(after_in_child=_disown_all)
