"""Starts flows as processes that a campaign kills: one program that has imported everything forks once for each run.

`python -m shared.faults.runner` reads orders from stdin, a JSON line each, and answers with JSON lines on stdout:
`{"flow", "request", "environment", "log", "file_limit"}` -> `{"pid"}`, and `{"pid", "status"}` when that process has ended.
To import Prefect anew takes 3 s of a run that takes 2. It ends when its stdin does, and its flows with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import sys
import traceback
from typing import Any

from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from shared.faults.flows import FLOWS, FlowName

PATIENCE = 0.02
"""Seconds between two looks for flows that ended."""
LATE = ("anyio._backends._asyncio", "boto3.s3.inject", "fastapi", "prefect.utilities.visualization")
"""What a run would import by itself, a second later."""


def main() -> int:
    """Fork a flow for each order until stdin ends; returns the exit status, that of the flow in a forked process."""
    for module in (*LATE, *(entry.module for entry in FLOWS.values())):
        importlib.import_module(module)
    gc.freeze()
    alive: set[int] = set()
    _say({"ready": True})
    buffer = b""
    while True:
        readable, _, _ = select.select([0], [], [], PATIENCE if alive else None)
        if readable:
            data = os.read(0, 65536)
            if not data:
                break
            buffer += data
        while b"\n" in buffer:
            order, _, buffer = buffer.partition(b"\n")
            pid = os.fork()
            if pid == 0:
                return _run(json.loads(order))
            alive.add(pid)
            _say({"pid": pid})
        for pid in list(alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                alive.discard(pid)
                _say({"pid": pid, "status": os.waitstatus_to_exitcode(status)})
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return 0


def _run(order: dict[str, Any]) -> int:
    """Be the flow's process."""
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.environ.update(order["environment"])
    if order["file_limit"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], order["file_limit"]))
    flow, request = _load(order["flow"])
    try:
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):  # its thread would end up to a second later
            flow(request(**order["request"]))
    except BaseException as error:  # noqa: BLE001 - whatever it was is in the log, and in the exit status
        traceback.print_exc()
        sys.stderr.write(f"\nENDED BY {type(error).__name__}: {error}\n")
        return 1
    return 0


def _load(name: FlowName) -> tuple[Any, Any]:
    """Import a flow; returns it and the class of its request."""
    entry = FLOWS[name]
    module = importlib.import_module(entry.module)
    return getattr(module, entry.function), getattr(module, entry.request)


def _say(answer: dict[str, Any]) -> None:
    os.write(1, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main())
