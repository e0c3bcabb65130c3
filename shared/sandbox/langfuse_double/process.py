"""The two programs as engines are: started, stopped, killed, paused."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import httpx

from shared.engines.engine import Engine
from shared.engines.process import ManagedProcess, free_port
from shared.sandbox.langfuse_double.configuration import Behaviour, BehaviourFile, Configuration, Stores

__all__ = ["LangfuseWeb", "LangfuseWorker"]

_REPOSITORY = Path(__file__).resolve().parents[3]


class _Program(Engine):
    """One of the two.

    Args:
        directory: holds the log and the configuration; private to the program.
        stores: where the stores are; they need not run yet.
        version: of Langfuse: 3.225.4 or 4.16.0, or any other of these majors.
        port: default a free one, drawn anew for each object.
        settings: of `Configuration`, for example `lock=2`.
    """

    module: ClassVar[str]
    path: ClassVar[str]

    def __init__(
        self, directory: Path, stores: Stores, *, version: str = "3.225.4", port: int | None = None, **settings: Any
    ) -> None:
        super().__init__(directory)
        self.port = free_port() if port is None else port
        self._behaviour = BehaviourFile(self.directory / "behaviour.json")
        self._file = self.directory / "configuration.json"
        self.configuration = Configuration(self.port, version, stores, str(self._behaviour.path), **settings)
        self._process = ManagedProcess(
            f"langfuse-{self.module}",
            [sys.executable, "-P", "-m", f"shared.sandbox.langfuse_double.{self.module}", str(self._file)],
            log=self.directory / f"{self.module}.log",
            env={"PYTHONPATH": str(_REPOSITORY), "TZ": "UTC"},
        )

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://{self.host}:{self.port}"

    @property
    def version(self) -> str:
        """The version that it is."""
        return self.configuration.version

    def start(self, *, timeout: float = 120.0) -> None:
        """Start it and return when it answers.

        Args:
            timeout: seconds.
        Raises:
            EngineError: with the end of the log.
        """
        if self.running:
            return
        self.configuration.write(self._file)
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            self._process.start(lambda: self._answers(client), timeout=timeout, pause=0.1)

    def upgrade(self, version: str) -> None:
        """Be another version from the next start on."""
        self.configuration = replace(self.configuration, version=version)

    def behave(self, **behaviour: Any) -> None:
        """Misbehave from the next request on, as `Behaviour` says; without arguments: behave. It lasts over a restart."""
        self._behaviour.write(Behaviour(**behaviour))

    def _answers(self, client: httpx.Client) -> bool:
        """Whether it serves, with whatever status: it may have been told to misbehave."""
        try:
            client.get(self.url + self.path)
        except httpx.TransportError:
            return False
        return True


class LangfuseWeb(_Program):
    """langfuse-web: API and ingestion. Postgres and ClickHouse have to run when it starts, for it migrates them."""

    module = "web"
    path = "/api/public/health"


class LangfuseWorker(_Program):
    """langfuse-worker: takes the jobs."""

    module = "worker"
    path = "/api/health"
