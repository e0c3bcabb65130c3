"""The worker's container as a tree of processes on this machine."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from shared.engines.process import ManagedProcess, free_port, wait_until
from shared.sandbox.environment import ROOT
from tests.worker.image import entrypoint

TOKEN = "canary-gateway-7d1c"


class Container:
    """A container that runs.

    Attributes:
        process: its first program. gateway: a client of its gateway.
    """

    def __init__(self, process: ManagedProcess, gateway: httpx.Client) -> None:
        self.process, self.gateway = process, gateway

    @property
    def log(self) -> str:
        """Everything that its programs wrote."""
        return self.process.log.read_text(encoding="utf-8")

    @property
    def bearer(self) -> dict[str, str]:
        """The header by which the gateway knows us."""
        return {"Authorization": f"Bearer {TOKEN}"}

    def pid(self, name: str) -> int | None:
        """The pid of the gateway or the worker, as the log says."""
        found = re.search(rf"{name} started as pid (\d+)", self.log)
        return int(found[1]) if found else None

    def processes(self) -> list[psutil.Process]:
        """Its first program and every one below."""
        assert self.process.pid is not None
        first = psutil.Process(self.process.pid)
        return [first, *first.children(recursive=True)]

    def send(self, number: int = signal.SIGTERM) -> None:
        """Send its first program a signal, as Railway does."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait_for_end(self, timeout: float = 120) -> None:
        """Wait until it has ended by itself."""
        wait_until(lambda: not self.process.running, timeout=timeout, what="the container to end")

    def wait_for_worker(self) -> int:
        """Wait until it has started its worker; returns the worker's pid."""
        wait_until(lambda: self.pid("worker") is not None or not self.process.running, timeout=180, what="the worker to start")
        pid = self.pid("worker")
        assert pid is not None, self.log[-3000:]
        return pid


@contextmanager
def container(folder: Path, environment: Mapping[str, str], *, root: Path = ROOT) -> Iterator[Container]:
    """Run what the image starts, with the host's Python; it is killed at the end.

    Args:
        folder: for its log. environment: besides what every container here gets. root: the project's folder.
    """
    port = free_port()
    program, *arguments = entrypoint()
    assert program == "python"
    process = ManagedProcess(
        "container",
        [sys.executable, *arguments, "--gateway-host", "127.0.0.1"],
        log=folder / "container.log",
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(port),
            "GATEWAY_TOKEN": TOKEN,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "OPS_HOME": str(root),
            "PYTHONPATH": str(root),
            **environment,
        },
        cwd=root,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as gateway:
        try:
            process.start(lambda: _answers(gateway), timeout=120)
            yield Container(process, gateway)
        finally:
            process.kill()


def _answers(gateway: httpx.Client) -> bool:
    try:
        return gateway.get("/livez").is_success
    except httpx.TransportError:
        return False
