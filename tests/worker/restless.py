"""A worker that begins a flow run whenever it has none, and the program that drains it; run by `test_drain.py`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading

from blocks.settings import Settings
from railway.worker.processes import adopt_orphans, children_of, is_engine
from railway.worker.supervisor import Supervisor
from shared.engines.process import wait_until

RUN = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()"
"""A flow run as far as draining goes: it catches SIGTERM, and is called like Prefect's engine."""


def work() -> None:
    """Begin one run after the other until SIGTERM, which ends the newest too."""
    ended = threading.Event()
    runs: list[subprocess.Popen[bytes]] = []

    def end(*_: object) -> None:
        ended.set()
        for run in runs:
            run.kill()

    signal.signal(signal.SIGTERM, end)
    while not ended.is_set():
        runs[:] = [subprocess.Popen([sys.executable, "-I", "-S", "-c", RUN, "-m", "prefect.engine"])]
        runs[0].wait()


def drain(seconds: float) -> None:
    """Start that worker and a gateway that only waits, and end them as the container does on SIGTERM."""
    logging.basicConfig(level=logging.INFO)
    adopt_orphans()
    supervisor = Supervisor(
        Settings(prefect_api_url="http://127.0.0.1:1/api", worker_drain_seconds=seconds), environment=os.environ
    )
    worker, gateway = (supervisor._spawn(role, "tests.worker.restless", [role], os.environ) for role in ("worker", "gateway"))
    wait_until(lambda: any(is_engine(pid) for pid in children_of(worker.pid)), timeout=30, what="the first run")
    supervisor._drain(worker, gateway)
    logging.info("drained: %s, gateway %s", worker.how_it_ended(), gateway.how_it_ended())


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        work()
    elif sys.argv[1] == "gateway":
        signal.pause()
    else:
        drain(float(sys.argv[1]))
