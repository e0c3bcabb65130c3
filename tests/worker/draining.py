"""Starts a worker and a gateway of `programs.py`, and ends them as the container does; run by `test_drain.py`.

Arguments: seconds, role of the worker, a file, and `kill` where the worker is killed before.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from blocks.settings import Settings
from railway.worker.processes import Child, adopt_orphans, children_of, is_engine, reap
from railway.worker.supervisor import Supervisor
from shared.engines.process import wait_until

PATIENCE = 120.0


def main(seconds: str, role: str, trace: str, kill: str) -> None:
    """Start, wait for the first run, perhaps kill the worker, drain."""
    logging.basicConfig(level=logging.INFO)
    adopt_orphans()
    settings = Settings(prefect_api_url="http://127.0.0.1:1/api", worker_drain_seconds=float(seconds))
    supervisor = Supervisor(settings, environment=os.environ)
    worker = supervisor.spawn("worker", "tests.worker.programs", [role, "run", trace], os.environ)
    gateway = supervisor.spawn("gateway", "tests.worker.programs", ["gateway"], os.environ)
    wait_until(lambda: any(is_engine(pid) for pid in children_of(worker.pid)), timeout=PATIENCE, what="the first run")
    if role == "reading":
        wait_until(lambda: Path(trace).exists(), timeout=PATIENCE, what="the run to begin")
    if kill == "kill":
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: _gone(worker, gateway), timeout=PATIENCE, what="the worker's end")
    supervisor.drain(worker, gateway)
    logging.info("drained: %s, gateway %s", worker.how_it_ended(), gateway.how_it_ended())


def _gone(worker: Child, gateway: Child) -> bool:
    reap([worker, gateway])
    return not worker.running


if __name__ == "__main__":
    main(*sys.argv[1:])
