"""The flows of the campaign, and a process for each run of one."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from shared.engines.process import EngineError, wait_until

__all__ = ["FLOWS", "FlowEntry", "FlowName", "FlowProcess", "FlowProcesses"]

FlowName = str
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class FlowEntry:
    """Where a flow is."""

    module: str
    function: str
    request: str


_KNOWN = {
    "backup": FlowEntry("flows.backup.flow", "backup", "BackupRequest"),
    "restore": FlowEntry("flows.restore.flow", "restore", "RestoreRequest"),
    "drill": FlowEntry("flows.drill.flow", "drill", "DrillRequest"),
    "prune": FlowEntry("flows.prune.flow", "prune", "PruneRequest"),
    "copy": FlowEntry("flows.copy.flow", "copy", "CopyRequest"),
}


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


FLOWS: Mapping[FlowName, FlowEntry] = {name: entry for name, entry in _KNOWN.items() if _exists(entry.module)}
"""By name; those that this version of the project has."""


class FlowProcess:
    """One run of a flow, in a process and session of its own.

    Args:
        name: of the flow. pid: of the process. log: where its output goes.
    """

    def __init__(self, name: FlowName, pid: int, log: Path) -> None:
        self.name = name
        self.pid = pid
        self._log = log
        self._ended = threading.Event()
        self.status: int | None = None
        self.killed = False

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.is_set()

    @property
    def output(self) -> str:
        """What it printed and logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def error(self) -> str:
        """What it ended by, as one line; empty when it succeeded."""
        found = re.findall(r"^ENDED BY (.*)$", self.output, re.MULTILINE)
        return found[-1] if found else ""

    def kill(self) -> None:
        """SIGKILL this process, and it alone: its children find out by themselves."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def kill_when(self, condition: Callable[[], bool], what: str) -> None:
        """SIGKILL it, and it alone, at the moment a condition holds.

        Args:
            what: the condition in words.
        Raises:
            EngineError: it ended before.
        """
        wait_until(lambda: condition() or not self.running, timeout=120, what=what)
        if not self.running:
            raise EngineError(f"{self.name} ended before {what}:\n{self.output[-3000:]}")
        self.kill()
        self._ended.wait(30)

    def wait(self, timeout: float = 300.0) -> int | None:
        """Wait for its end; returns the exit status (negative: the signal), None when it has not ended in time."""
        self._ended.wait(timeout)
        return self.status

    def ended(self, status: int) -> None:
        """Take note of its end."""
        self.status = status
        self._ended.set()

    def survivors(self) -> list[str]:
        """Name the processes of its session that live."""
        found = []
        for process in psutil.process_iter(["pid", "name", "status"]):
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == self.pid and process.info["status"] != psutil.STATUS_ZOMBIE:
                    found.append(f"{process.info['name']} ({process.pid})")
        return found

    def end(self) -> None:
        """Make sure nothing of its session stays."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._ended.wait(10)


class FlowProcesses:
    """Starts flows. A context manager; what still runs at its end is killed.

    Args:
        environment: of every flow: the stack's and Prefect's. folder: for their logs.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = dict(environment)
        self._folder = folder
        self._started: list[FlowProcess] = []
        self._announced: list[int] = []
        self._mutex = threading.Lock()
        self._ready = False

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "runner.log").open("wb") as log:
            self._runner = subprocess.Popen(
                [sys.executable, "-m", "shared.faults.runner"],
                env=self._environment,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._reader = threading.Thread(target=self._listen, name="flow-processes", daemon=True)
        self._reader.start()
        wait_until(lambda: self._ready or self._runner.poll() is not None, timeout=60, what="the flows to be imported")
        if self._runner.poll() is not None:
            raise EngineError(f"the flows could not be imported; see {self._folder / 'runner.log'}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._started:
            if process.running:
                process.end()
        if self._runner.stdin is not None:
            self._runner.stdin.close()
        self._runner.wait(20)
        self._reader.join()
        if self._runner.stdout is not None:
            self._runner.stdout.close()

    def start(
        self, name: FlowName, request: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, file_limit: int = 0
    ) -> FlowProcess:
        """Start a flow.

        Args:
            request: its parameters. environment: variables that differ from the others'.
            file_limit: no file may grow beyond so many bytes; 0 for no limit.
        """
        log = self._folder / f"{name}-{len(self._started)}.log"
        order = {
            "flow": name,
            "request": dict(request),
            "environment": dict(environment or {}),
            "log": str(log),
            "file_limit": file_limit,
        }
        if self._runner.stdin is None:
            raise EngineError("the flows' runner has no input")
        self._runner.stdin.write(json.dumps(order).encode() + b"\n")
        self._runner.stdin.flush()
        wait_until(lambda: bool(self._announced), timeout=30, what=f"{name} to be started")
        with self._mutex:
            process = FlowProcess(name, self._announced.pop(), log)
            self._started.append(process)
        return process

    def _listen(self) -> None:
        if self._runner.stdout is None:
            return
        for line in self._runner.stdout:
            said = json.loads(line)
            if "ready" in said:
                self._ready = True
            elif "status" not in said:
                self._announced.append(said["pid"])
            else:
                wait_until(lambda: self._of(said["pid"]) is not None, timeout=30, what="a flow to be known")  # noqa: B023
                process = self._of(said["pid"])
                if process is not None:
                    process.ended(said["status"])

    def _of(self, pid: int) -> FlowProcess | None:
        with self._mutex:
            return next((process for process in self._started if process.pid == pid and process.running), None)
