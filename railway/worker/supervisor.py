"""Runs the gateway and the worker, tells the Prefect server of this version before the worker starts, ends both when one dies.

The gateway is started first and waits for nothing: its health check is what Railway waits for. How the container ends is told
in `draining.py`; what is done for the worker, and what follows where that fails, in `steps.py`.
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

from blocks.errors import ServiceError, StackError
from blocks.settings import Settings
from blocks.undone import undone_name
from railway.worker.draining import TICK, Draining
from railway.worker.environments import Redactor, of_gateway
from railway.worker.plain_http import no_authorities
from railway.worker.prefect_http import PrefectHttp
from railway.worker.processes import Child, adopt_orphans, reap
from railway.worker.reaper import Reaper
from railway.worker.steps import DEPLOYED_TO, MERGES, REGISTRATION, Step, Steps

__all__ = ["Supervisor"]

REAP_EVERY = 60.0
"""Seconds between two looks for stale runs."""
ASK_EVERY = 2.0
"""Seconds between two questions to a server that does not answer yet."""
SAY_EVERY = 30.0
"""Seconds between two lines that say what is waited for."""

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
        self._environment = {**_HEARTBEATS, **no_authorities(environment), **environment}
        self._children: list[Child] = []
        self._asked = 0
        self._failed = False
        self._prefect = PrefectHttp(settings)
        self._stopping, self._left_behind = threading.Event(), threading.Event()
        registers = settings.work_pool == DEPLOYED_TO
        self._steps = Steps(
            REGISTRATION if registers else (), self._spawn_step, hide=Redactor(environment).hide, tell=self._tell
        )

    def run(self) -> int:
        """Run until a signal comes or a program dies; returns the exit status: 0 after a signal, 1 otherwise."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        adopt_orphans()
        gateway = self.spawn("gateway", "railway.gateway", self._gateway_arguments, of_gateway(self._environment))
        worker = self._start_worker(gateway)
        if worker is not None:
            self._until(self._somebody_died)
        dead = [child for child in self._children if not child.running]
        for child in dead:
            _log.error("%s %s; the container ends", child.name, child.how_it_ended())
        self._stopping.set()
        self._steps.end()
        self.drain(worker, gateway)
        return 1 if dead or self._failed or not self._asked else 0

    def spawn(self, name: str, module: str, arguments: list[str], environment: Mapping[str, str]) -> Child:
        """Start one of the programs whose death ends the container."""
        child = Child.spawn(name, module, arguments, environment)
        self._children.append(child)
        _log.info("%s started as pid %d", name, child.pid)
        return child

    def drain(self, worker: Child | None, gateway: Child) -> None:
        """End everything, flow runs first."""
        Draining(self._children, self._settings.worker_drain_seconds, lambda: self._asked > 1).run(worker, gateway)

    def _start_worker(self, gateway: Child) -> Child | None:
        """Wait for the Prefect server, make it ready for this version, start the worker.

        Returns: None where a signal came first, the gateway died, or the worker could never work.
        """
        if not self._until_or_gone(gateway, self._prefect.is_ready, every=ASK_EVERY, what="the Prefect server"):
            return None
        threading.Thread(target=self._reap_for_ever, name="reaper", daemon=True).start()
        if not self._until_or_gone(gateway, self._has_pool, every=ASK_EVERY, what="the work pool") or self._failed:
            return None
        if not self._until_or_gone(gateway, self._take_turns, what="the registration"):
            return None
        return self.spawn("worker", "prefect", self._worker_arguments(), self._environment)

    def _has_pool(self) -> bool:
        """Make the work pool if it is missing; False where that should be tried again."""
        try:
            self._prefect.ensure_process_pool(self._settings.work_pool)
        except ServiceError as error:
            self._failed = error.permanent
            _log.error("%s", error)
            return error.permanent
        except StackError as error:
            self._failed = True
            _log.error("%s", error)
        return True

    def _somebody_died(self) -> bool:
        self._take_turns()
        return not all(child.running for child in self._children)

    def _take_turns(self) -> bool:
        """Look after the steps; returns whether the worker may run."""
        if self._left_behind.is_set():
            self._left_behind.clear()
            self._steps.add(MERGES)
        return self._steps.turn()

    def _tell(self, undone: Mapping[str, str]) -> bool:
        """Write down for the sweep what could not be done; returns False where Prefect did not take it."""
        try:
            self._prefect.remember(undone_name(self._settings.work_pool), dict(undone))
        except StackError as error:
            _log.warning("the sweep does not hear of it yet: %s", error)
            return False
        return True

    def _spawn_step(self, step: Step, output: int) -> Child:
        return Child.spawn(step.name, step.module, step.arguments, self._environment, output=output)

    def _worker_arguments(self) -> list[str]:
        name = f"{socket.gethostname()}-{os.getpid()}"
        arguments = ["worker", "start", "--pool", self._settings.work_pool, "--type", "process", "--name", name]
        limit = ["--limit", str(self._limit)] if self._limit else []
        return [*arguments, "--install-policy", "never", *limit]

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._asked += 1
        _log.info("%s: %s", signal.Signals(number).name, "ending" if self._asked == 1 else "ending at once")

    def _until_or_gone(self, gateway: Child, condition: Callable[[], bool], *, every: float = TICK, what: str) -> bool:
        """Wait until a condition holds; returns False where a signal came first or the gateway died."""
        return self._until(lambda: not gateway.running or condition(), every=every, what=what) and gateway.running

    def _until(self, condition: Callable[[], bool], *, every: float = TICK, what: str = "") -> bool:
        """Wait until a condition holds; returns False where a signal came first."""
        said = time.monotonic()
        while not self._asked:
            reap([*self._children, *self._steps.children])
            if condition():
                return True
            if what and time.monotonic() - said >= SAY_EVERY:
                said = time.monotonic()
                _log.warning("still waiting for %s", what)
            time.sleep(every)  # a signal's handler runs in between; what it asks for is seen at the next turn
        return False

    def _reap_for_ever(self) -> None:
        with PrefectHttp(self._settings) as prefect:
            reaper = Reaper(prefect, self._settings.work_pool)
            while True:
                if reaper.look_or_say() and self._settings.work_pool == DEPLOYED_TO:
                    self._left_behind.set()
                if self._stopping.wait(REAP_EVERY):
                    return
