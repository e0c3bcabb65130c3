"""Runs the gateway and the worker, ends both when either dies, and on SIGTERM lets flow runs clean up first.

A worker's own SIGTERM kills its flow runs: no `finally`, no hook, and the runs stay Running for ever (facts: prefect.md 6).
So on SIGTERM the worker is held still, its flow processes get the signal themselves - Prefect raises TerminationSignal in them,
they become Crashed and their hooks run - and only when they are gone, or their time is up, worker and gateway are ended.
The time is one for all of them, those included that a worker begins while hooks run: Railway kills the container after its own.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

from blocks.settings import Settings
from railway.worker.environments import of_gateway
from railway.worker.prefect_http import PrefectHttp
from railway.worker.processes import Child, adopt_orphans, catches_sigterm, children_of, is_engine, reap
from railway.worker.reaper import Reaper

__all__ = ["Supervisor"]

TICK = 0.2
"""Seconds between two looks."""
REAP_EVERY = 60.0
"""Seconds between two looks for stale runs."""
WORKER_GRACE, GATEWAY_GRACE = 10.0, 12.0
"""Seconds that each may take to end."""
KILLED = 1.0
"""Seconds in which a process that was killed goes."""
HOOKS_START, HOOKS_LEAST, HOOKS_LIMIT = 2.0, 6.0, 30.0
"""Seconds in which the worker starts the crash hooks of runs that have just ended, and that these may take (processes each)
when the time to clean up is over, and when it is not. The graces and the least together stay below the 30 s of the README."""

_HEARTBEATS = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}  # the reaper counts on it; 30 is the least that Prefect allows

_log = logging.getLogger("railway.worker")


class Supervisor:
    """The container's first program.

    Args:
        settings: pool, port, times. environment: of the worker; the gateway's lacks the secrets that it has no use for.
        limit: flow runs at once. gateway_host: address that the gateway listens on; None for every one.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        environment: Mapping[str, str],
        limit: int | None = None,
        gateway_host: str | None = None,
    ) -> None:
        self._settings = settings
        self._limit = limit
        self._gateway_arguments = ["--host", gateway_host] if gateway_host else []
        self._environment = {**_HEARTBEATS, **environment}
        self._children: list[Child] = []
        self._asked = 0
        self._prefect = PrefectHttp(settings)
        self._stopping = threading.Event()

    def run(self) -> int:
        """Run until a signal comes or a program dies; returns the exit status: 0 after a signal, 1 otherwise."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        adopt_orphans()
        gateway = self._spawn("gateway", "railway.gateway", self._gateway_arguments, of_gateway(self._environment))
        worker: Child | None = None
        came = self._until(lambda: not gateway.running or self._prefect.is_ready(), every=2.0, what="the Prefect server")
        if came and gateway.running:
            threading.Thread(target=self._reap_for_ever, name="reaper", daemon=True).start()
            worker = self._spawn("worker", "prefect", self._worker_arguments(), self._environment)
            self._until(lambda: not all(child.running for child in self._children))
        dead = [child for child in self._children if not child.running]
        for child in dead:
            _log.error("%s %s; the container ends", child.name, child.how_it_ended())
        self._stopping.set()
        self._drain(worker, gateway)
        return 1 if dead or not self._asked else 0

    def _spawn(self, name: str, module: str, arguments: list[str], environment: Mapping[str, str]) -> Child:
        child = Child.spawn(name, module, arguments, environment)
        self._children.append(child)
        _log.info("%s started as pid %d", name, child.pid)
        return child

    def _worker_arguments(self) -> list[str]:
        name = f"{socket.gethostname()}-{os.getpid()}"
        arguments = ["worker", "start", "--pool", self._settings.work_pool, "--type", "process", "--name", name]
        limit = ["--limit", str(self._limit)] if self._limit else []
        return [*arguments, "--install-policy", "never", *limit]

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._asked += 1
        _log.info("%s: %s", signal.Signals(number).name, "ending" if self._asked == 1 else "ending at once")

    def _until(self, condition: Callable[[], bool], *, every: float = TICK, what: str = "") -> bool:
        """Wait until a condition holds; returns False where a signal came first."""
        said = time.monotonic()
        while not self._asked:
            reap(self._children)
            if condition():
                return True
            if what and time.monotonic() - said >= 30:
                said = time.monotonic()
                _log.warning("still waiting for %s", what)
            self._pause(every)
        return False

    def _drain(self, worker: Child | None, gateway: Child) -> None:
        if worker is not None:
            deadline = time.monotonic() + self._settings.worker_drain_seconds
            while True:
                worker.send(signal.SIGSTOP)  # it takes no new work meanwhile
                self._end_flow_runs(worker, deadline)
                worker.send(signal.SIGCONT)
                if self._let_hooks_run(worker, deadline):
                    break
                if time.monotonic() >= deadline:
                    _log.warning("the worker begins one flow run after the other; it is ended with the newest one")
                    break
            worker.send(signal.SIGTERM)
            self._end(worker, WORKER_GRACE)
        gateway.send(signal.SIGTERM)
        self._end(gateway, GATEWAY_GRACE)

    def _end_flow_runs(self, worker: Child, deadline: float) -> None:
        """Send SIGTERM to each flow process once it can handle it, and wait for all of them until the deadline."""
        told: set[int] = set()
        while (runs := self._flow_processes(worker)) and time.monotonic() < deadline and self._asked < 2:
            for pid in runs:
                if pid not in told and catches_sigterm(pid):
                    told.add(pid)
                    _log.info("flow process %d is asked to end", pid)
                    _send(pid, signal.SIGTERM)
            self._pause(TICK)
            reap(self._children)
        for pid in runs:
            _log.warning(
                "flow process %d did not end in time and is killed; its run is crashed when it was silent for long", pid
            )
            _send(pid, signal.SIGKILL)
        gone = time.monotonic() + KILLED
        while not set(runs).isdisjoint(self._flow_processes(worker)) and time.monotonic() < gone:
            self._pause(TICK / 4)

    def _let_hooks_run(self, worker: Child, deadline: float) -> bool:
        """Give the worker the moment that it needs to start crash hooks, and these their time to end.

        Returns: False where it has begun another flow run meanwhile.
        """
        begun = time.monotonic()
        end = min(begun + HOOKS_LIMIT, max(deadline, begun + HOOKS_LEAST))
        while worker.running and self._asked < 2 and time.monotonic() < end:
            children = children_of(worker.pid)
            if any(is_engine(pid) for pid in children):
                return False
            if not children and time.monotonic() - begun > HOOKS_START:
                return True
            self._pause(TICK)
            reap(self._children)
        return True

    def _flow_processes(self, worker: Child) -> list[int]:
        """Return the worker's children; those of a worker that has died are ours now."""
        if worker.running:
            return children_of(worker.pid)
        own = {child.pid for child in self._children}
        return [pid for pid in children_of(os.getpid()) if pid not in own]

    def _end(self, child: Child, grace: float) -> None:
        deadline = time.monotonic() + grace
        while child.running:
            reap(self._children)
            if time.monotonic() >= deadline or self._asked > 1:
                child.send(signal.SIGKILL)
            self._pause(TICK / 4)

    def _reap_for_ever(self) -> None:
        with PrefectHttp(self._settings) as prefect:
            reaper = Reaper(prefect, self._settings.work_pool)
            while True:
                reaper.look_or_say()
                if self._stopping.wait(REAP_EVERY):
                    return

    @staticmethod
    def _pause(seconds: float) -> None:
        time.sleep(seconds)  # a signal's handler runs in between; what it asks for is seen at the next turn


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended by itself
