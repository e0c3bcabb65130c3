"""Small programs that stand for worker, flow run and gateway; run by `draining.py` beside this file."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

RUN = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); signal.pause()"
"""A flow run as far as draining goes: it catches SIGTERM, and is called like Prefect's engine."""
LOUD = 300_000
"""Bytes: several times what a pipe holds."""


def restless() -> None:
    """A worker that begins one run after the other until SIGTERM, which ends the newest too."""
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


def reading(role: str, trace: str) -> None:
    """A worker that reads what its one run writes, as Prefect's does, and ends after it."""
    argv = [sys.executable, "-m", "tests.worker.programs", role, trace, "-m", "prefect.engine"]
    run = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.stdout is not None
    for line in run.stdout:
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
    run.wait()


def logging_run(trace: str) -> None:
    """A run that logs as Prefect does, before it tells its state at the end: a file stands for the server."""
    from rich.console import Console

    console = Console(stderr=True, soft_wrap=True)

    def end(*_: object) -> None:
        console.print("Crash detected!")
        console.print("x" * LOUD, highlight=False)
        Path(trace).write_text("told", encoding="utf-8")
        sys.exit()

    signal.signal(signal.SIGTERM, end)
    Path(trace).write_text("begun", encoding="utf-8")
    while True:
        signal.pause()


def main(role: str, *arguments: str) -> None:
    """Play a role."""
    if role == "restless":
        restless()
    elif role == "reading":
        reading(*arguments)
    elif role == "run":
        logging_run(arguments[0])
    else:
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
