"""The gateway and its front as one engine: started, stopped, killed, paused together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx

from shared.engines.engine import Engine
from shared.engines.process import ManagedProcess, free_port
from shared.sandbox.litellm_front.configuration import Configuration
from shared.sandbox.litellm_gateway import LiteLLMGateway

__all__ = ["LiteLLMFront"]

_REPOSITORY = Path(__file__).resolve().parents[3]


class LiteLLMFront(Engine):
    """LiteLLM as a service of the stack: what clients reach is the front.

    Args:
        directory: holds the front's log and configuration.
        gateway: the real one, which only the front speaks to; started and stopped with it.
        database_url: of LiteLLM's database, as its owner; need not run yet. An empty database gets LiteLLM's schema.
        port: default a free one. settings: of `Configuration`, for example `batch=1.0`.

    Attributes:
        gateway: as given. front_log: what the front wrote; `log` and `pid` are the gateway's.
    """

    def __init__(
        self, directory: Path, gateway: LiteLLMGateway, *, database_url: str, port: int | None = None, **settings: Any
    ) -> None:
        super().__init__(directory)
        self.gateway = gateway
        self.port = free_port() if port is None else port
        self.configuration = Configuration(
            self.port, gateway.url, gateway.master_key, gateway.salt_key, database_url, **settings
        )
        self._file = self.directory / "front.json"
        self.front_log = self.directory / "front.log"
        self._process = ManagedProcess(
            "litellm-front",
            [sys.executable, "-P", "-m", "shared.sandbox.litellm_front", str(self._file)],
            log=self.front_log,
            env={"PYTHONPATH": str(_REPOSITORY), "TZ": "UTC"},
        )

    @property
    def url(self) -> str:
        """Base URL, for clients."""
        return f"http://{self.host}:{self.port}"

    @property
    def master_key(self) -> str:
        """LITELLM_MASTER_KEY."""
        return self.gateway.master_key

    @property
    def model_names(self) -> list[str]:
        """What clients may ask for, without the models that are stored in Postgres."""
        return self.gateway.model_names

    @property
    def running(self) -> bool:
        """Whether both are alive."""
        return self._process.running and self.gateway.running

    @property
    def pid(self) -> int | None:
        """The gateway's pid, or None."""
        return self.gateway.pid

    @property
    def log(self) -> Path:
        """What the gateway wrote."""
        return self.gateway.log

    def start(self, *, timeout: float = 600.0) -> None:
        """Start both and return when they are ready.

        Args:
            timeout: seconds.
        Raises:
            EngineError: one of them did not start; with the end of its log.
        """
        self.gateway.start(timeout=timeout)
        if self._process.running:
            return
        self.configuration.write(self._file)
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            self._process.start(lambda: self._answers(client), timeout=timeout)

    def stop(self, *, grace: float | None = None) -> None:
        """Stop both; the front first, so that nobody is served a half."""
        super().stop(grace=grace)
        self.gateway.stop(grace=grace)

    def kill(self) -> None:
        """SIGKILL both; spend that was not written yet is lost, as with LiteLLM."""
        super().kill()
        self.gateway.kill()

    def pause(self) -> None:
        """SIGSTOP both."""
        super().pause()
        self.gateway.pause()

    def resume(self) -> None:
        """SIGCONT both."""
        super().resume()
        self.gateway.resume()

    def _answers(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.url}/health/liveliness").is_success
        except httpx.TransportError:
            return False
