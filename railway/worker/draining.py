"""How the container ends: flow runs first, so that they can clean up and tell their state, then the worker, then the gateway.

A worker's own SIGTERM kills its flow runs: no `finally`, no hook, and the runs stay Running for ever (facts: prefect.md 6).
So the worker is held still, its flow processes get the signal themselves - Prefect raises TerminationSignal in them, they
become Crashed and their hooks run - and only when they are gone, or their time is up, worker and gateway are ended. The time is
one for all of them, those included that a worker begins while hooks run: Railway kills the container after its own.

A worker that was killed leaves its flow processes to us (`processes.adopt_orphans`). They get the signal, too: they tell their
state themselves (`pipes.py`), only their hooks are lost with the worker.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Sequence

from railway.worker.pipes import Listener
from railway.worker.processes import Child, catches_sigterm, children_of, is_engine, reap

__all__ = ["TICK", "Draining"]

TICK = 0.2
"""Seconds between two looks."""
WORKER_GRACE, GATEWAY_GRACE = 10.0, 12.0
"""Seconds that each may take to end."""
KILLED = 1.0
"""Seconds in which a process that was killed goes."""
HOOKS_START, HOOKS_LEAST, HOOKS_LIMIT = 2.0, 6.0, 30.0
"""Seconds in which the worker starts the crash hooks of runs that have just ended, and that these may take (processes each)
when the time to clean up is over, and when it is not. The graces and the least together stay below the 30 s of the README."""

_log = logging.getLogger("railway.worker")


class Draining:
    """Ends the programs of the container.

    Args:
        children: all programs that were started here. seconds: that flow runs have.
        hurry: says whether a second signal came: nothing is waited for any more.
    """

    def __init__(self, children: Sequence[Child], seconds: float, hurry: Callable[[], bool]) -> None:
        self._children = children
        self._seconds = seconds
        self._hurry = hurry
        self._listener = Listener()

    def run(self, worker: Child | None, gateway: Child) -> None:
        """End flow runs, worker and gateway, in this order."""
        if worker is not None:
            self._end_runs(worker, time.monotonic() + self._seconds)
            worker.send(signal.SIGTERM)
            self._end(worker, WORKER_GRACE)
        gateway.send(signal.SIGTERM)
        self._end(gateway, GATEWAY_GRACE)
        self._listener.close()

    def _end_runs(self, worker: Child, deadline: float) -> None:
        while True:
            worker.send(signal.SIGSTOP)  # it takes no new work meanwhile
            self._end_flow_processes(worker, deadline)
            worker.send(signal.SIGCONT)
            if self._let_hooks_run(worker, deadline):
                return
            if time.monotonic() >= deadline:
                _log.warning("the worker begins one flow run after the other; it is ended with the newest one")
                return

    def _end_flow_processes(self, worker: Child, deadline: float) -> None:
        """Send SIGTERM to each flow process once it can handle it, and wait for all of them until the deadline."""
        told: set[int] = set()
        while (runs := self._flow_processes(worker)) and time.monotonic() < deadline and not self._hurry():
            self._listener.listen(runs)
            for pid in runs:
                if pid not in told and catches_sigterm(pid):
                    told.add(pid)
                    _log.info("flow process %d is asked to end", pid)
                    _send(pid, signal.SIGTERM)
            self._pause(TICK)
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
        while worker.running and not self._hurry() and time.monotonic() < end:
            children = children_of(worker.pid)
            if any(is_engine(pid) for pid in children):
                return False
            if not children and time.monotonic() - begun > HOOKS_START:
                return True
            self._pause(TICK)
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
            if time.monotonic() >= deadline or self._hurry():
                child.send(signal.SIGKILL)
            self._pause(TICK / 4)

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)  # a signal's handler runs in between; what it asks for is seen at the next turn
        self._listener.pass_on()
        reap(self._children)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has just ended by itself
