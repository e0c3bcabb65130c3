"""The rows about the watch: how long a sweep looks at a healthy stack and at one that hangs, and what a whole run costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from flows.health.observation import Observation, Status
from railway.stack import PRODUCTION
from shared.sandbox.applications import service
from shared.sandbox.bench.measure import Measurements
from shared.sandbox.stack import ROOT, Sandbox

__all__ = ["watch_rows"]

HEALTHY_S, DEAD_S, CPU_S = 2.0, 12.0, 5.0
"""Goals: seconds of looking at nine services that are well, and at nine that hang; processor seconds of a whole run."""

_LOOK = """
import asyncio, json, time
from blocks.settings import Settings
from flows.health.observe import observe
from flows.health.targets import Targets
begun = time.monotonic()
found = asyncio.run(observe(Targets.from_settings(Settings.load())))
print(json.dumps([time.monotonic() - begun, [one.model_dump(mode="json") for one in found]]))
"""
"""What a flow run does, in a process that has looked at nothing before; its imports apart."""


def watch_rows(bench: Measurements) -> None:
    """Start the whole stack with its applications and Prefect, and sweep it."""
    with Sandbox(ROOT / ".sandbox" / "bench-watch", applications=True) as stack:
        looks = [_look(stack) for _ in range(bench.repeats)]
        for _, found in looks:
            _expect(found, Status.OK)
        bench.add("sweep_healthy", min(seconds for seconds, _ in looks), HEALTHY_S, "s", at_most=1.0)
        bench.add("sweep_cpu", min(_cpu_of_a_run(stack) for _ in range(bench.repeats)), CPU_S, "CPU-s", at_most=1.0)
        with _paused(stack):
            seconds, found = _look(stack)
        _expect(found, Status.DOWN)
        bench.add("sweep_dead", seconds, DEAD_S, "s", at_most=1.0)


def _look(stack: Sandbox) -> tuple[float, list[Observation]]:
    """Look once, in a new process; returns the seconds and what was seen."""
    done = subprocess.run(
        [sys.executable, "-c", _LOOK], env=stack.environment(), cwd=ROOT, capture_output=True, timeout=120, check=True
    )
    seconds, found = json.loads(done.stdout)
    return float(seconds), [Observation.model_validate(one) for one in found]


def _expect(found: list[Observation], status: Status) -> None:
    """A sweep that did not see what is there has measured nothing. Backups there are none, and a dead API hides the workers."""
    for name in PRODUCTION:
        seen = [one for one in found if one.service == name]
        worst = {one.status for one in seen} - {Status.OK} or {Status.OK}
        if not seen or (worst != {status} and not (status is Status.DOWN and name == "prefect-worker")):
            sentences = "; ".join(one.sentence for one in seen if one.status is not status)
            raise AssertionError(f"{name} should be {status}: {sentences or 'nobody looked at it'}")


@contextmanager
def _paused(stack: Sandbox) -> Iterator[None]:
    """Every service accepts connections and answers none."""
    services = [service(stack, name) for name in PRODUCTION]
    try:
        for one in services:
            one.pause()
        yield
    finally:
        for one in services:
            one.resume()


def _cpu_of_a_run(stack: Sandbox) -> float:
    """Processor seconds of one run of `health/sweep`: the worker's share, and every process that it starts for it."""
    before = _tree_cpu(stack)
    result = stack.run_deployment("health/sweep")
    if result.state_type not in ("COMPLETED", "FAILED"):
        raise AssertionError(f"the sweep did not run to its end: {result.state_name}: {result.message}")
    return _tree_cpu(stack) - before


def _tree_cpu(stack: Sandbox) -> float:
    """Processor seconds of the worker and of all that it has started so far, also of what has ended."""
    worker = psutil.Process(stack.worker.pid)
    total = 0.0
    for process in [worker, *worker.children(recursive=True)]:
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total
