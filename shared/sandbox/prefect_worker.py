"""The real Prefect worker, type process, as the worker container runs it."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.engines.process import ManagedProcess
from shared.sandbox.prefect_api import PrefectApi

__all__ = ["PrefectWorker"]


class PrefectWorker:
    """One worker of a pool.

    Args:
        directory: holds its log; its working directory.
        pool: a work pool of type process.
        api: of the server; asked whether the worker has come.
        environment: of the worker and of every flow run it starts.
    """

    def __init__(self, directory: Path, pool: str, api: PrefectApi, environment: Mapping[str, str]) -> None:
        self.directory = directory.resolve()
        self._pool = pool
        self._api = api
        # Ask for work every second: with Prefect's 10 s a run that somebody waits for begins 5 s later.
        self._environment = {**environment, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        self._numbers = itertools.count(1)
        self._process: ManagedProcess | None = None

    @property
    def pid(self) -> int | None:
        """The worker's pid, or None."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> Path:
        """What the worker and its flow runs wrote."""
        return self.directory / "worker.log"

    def pause(self) -> None:
        """SIGSTOP the worker and its flow runs."""
        if self._process is not None:
            self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT them."""
        if self._process is not None:
            self._process.signal(signal.SIGCONT)

    def start(self, *, timeout: float = 120.0) -> None:
        """Start the worker and return when the server has heard of it.

        Args:
            timeout: seconds.
        Raises:
            EngineError: with the end of the log.
        """
        if self._process is not None and self._process.running:
            return
        # A new name each time: the server shows a worker that has gone as online for a while.
        name = f"sandbox-{next(self._numbers)}"
        options = ["--pool", self._pool, "--type", "process", "--name", name, "--install-policy", "never"]
        self._process = ManagedProcess(
            "prefect worker",
            [sys.executable, "-m", "prefect", "worker", "start", *options],
            log=self.log,
            env=self._environment,
            cwd=self.directory,
        )
        self._process.start(lambda: name in self._api.online_workers(self._pool), timeout=timeout, pause=0.2)

    def stop(self) -> None:
        """Stop the worker. As on SIGTERM anywhere, Prefect kills its flow runs and leaves them Running for ever."""
        if self._process is not None:
            self.resume()
            self._process.stop()

    def kill(self) -> None:
        """SIGKILL the worker and its flow runs."""
        if self._process is not None:
            self._process.kill()
