"""The real LiteLLM gateway, in a virtual environment of its own, with the configuration that ships and models that are mocked.

No database: with one LiteLLM needs Prisma's engines, which no wheel brings. So `/key/*`, `/model/*` and spend answer 500 here,
and everything else as the image does (facts: apps.md 1.2).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from shared.engines.engine import Engine
from shared.engines.files import write_private
from shared.engines.process import EngineError, ManagedProcess, free_port
from shared.engines.redis import RedisEngine

__all__ = ["CONFIGURATION", "MOCK_MODELS", "LiteLLMGateway", "install_litellm"]

_REPOSITORY = Path(__file__).resolve().parents[2]
_PYTHON = _REPOSITORY / ".venv/litellm/bin/python"
_INSTALL_S = 900.0
_INSTALL = _REPOSITORY / "shared/scripts/litellm.sh"

CONFIGURATION = _REPOSITORY / "shared/litellm/config.yaml"
"""What ships to users."""


def _mock(name: str, answer: str) -> dict[str, Any]:
    return {
        "model_name": name,
        "litellm_params": {"model": "openai/gpt-4o-mini", "api_key": "none", "mock_response": answer},
    }


MOCK_MODELS: Sequence[Mapping[str, Any]] = (_mock("mock-gpt", "pong"), _mock("mock-claude", "pong, politely"))
"""Models that answer without a provider."""

_OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    # Whatever else asks for the world is refused at once.
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


def install_litellm(log: Path) -> None:
    """Install what litellm.lock lists into .venv/litellm, unless it is there.

    Args:
        log: gets what the installation says.
    Raises:
        EngineError: it failed; with the end of what it said.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(_INSTALL)], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        status = process.wait(_INSTALL_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # uv, too
        process.wait()
        raise
    if status != 0:
        raise EngineError(
            f"litellm could not be installed; run {_INSTALL.relative_to(_REPOSITORY)}:\n{log.read_text()[-2000:]}"
        )


class LiteLLMGateway(Engine):
    """One gateway.

    Args:
        directory: holds the log and the derived configuration; its HOME.
        master_key, salt_key: LiteLLM's own.
        redis: need not run yet; LiteLLM then takes 8 s longer to start. None where `environment` says where it is.
        langfuse: LANGFUSE_HOST, LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY, or nothing: then no callback is configured.
        models: entries of `model_list`, in the place of those that ship.
        changes: to the rest of the configuration: section -> key -> value; None takes a key out.
        port: default a free one, drawn anew for each object.
        template: the configuration to begin with. environment: further variables; a database must not be among them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        master_key: str,
        salt_key: str,
        redis: RedisEngine | None,
        langfuse: Mapping[str, str] | None = None,
        models: Sequence[Mapping[str, Any]] = MOCK_MODELS,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
        port: int | None = None,
        template: Path = CONFIGURATION,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory)
        self.port = free_port() if port is None else port
        self.master_key = master_key
        self.salt_key = salt_key
        self.models = models
        self.changes = {section: dict(values) for section, values in (changes or {}).items()}
        self._langfuse = dict(langfuse or {})  # with a secret, so in the environment and not in the file
        self._template = template
        self._configuration = self.directory / "config.yaml"
        stores = {"REDIS_HOST": redis.host, "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": redis.password} if redis else {}
        self._process = ManagedProcess(
            "litellm",
            [
                str(_PYTHON),
                "-c",
                "from litellm import run_server; run_server()",
                f"--config={self._configuration}",
                f"--host={self.host}",
                f"--port={self.port}",
                "--num_workers=1",
            ],
            log=self.directory / "litellm.log",
            env={
                **(environment or {}),
                **_OFFLINE,
                "TMPDIR": str(self.directory),
                # Unset is not empty: with an empty one it refuses everybody, without one it serves everybody.
                **({"LITELLM_MASTER_KEY": master_key} if master_key else {}),
                "LITELLM_SALT_KEY": salt_key,
                **stores,
                **self._langfuse,
            },
        )

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://{self.host}:{self.port}"

    @property
    def model_names(self) -> list[str]:
        """What clients may ask for."""
        return [str(model["model_name"]) for model in self.models]

    def configuration(self) -> dict[str, Any]:
        """The template, with these models and changes."""
        shipped: dict[str, Any] = yaml.safe_load(self._template.read_text(encoding="utf-8"))
        shipped["model_list"] = list(self.models)
        callbacks = {} if self._langfuse else {"success_callback": None, "failure_callback": None}
        for section, values in {"litellm_settings": callbacks, **self.changes}.items():
            merged = {**shipped.get(section, {}), **values}
            shipped[section] = {name: value for name, value in merged.items() if value is not None}
        return shipped

    def start(self, *, timeout: float = 240.0) -> None:
        """Start it and return when it is ready.

        Args:
            timeout: seconds; it takes 8 to 16 on a machine that does nothing else.
        Raises:
            EngineError: it is not installed (`install_litellm`), or did not start; with the end of the log.
        """
        if self.running:
            return
        if not _PYTHON.exists():
            raise EngineError(f"{_PYTHON.relative_to(_REPOSITORY)} is not there; run {_INSTALL.relative_to(_REPOSITORY)}")
        write_private(self._configuration, json.dumps(self.configuration(), indent=2))  # every JSON document is YAML
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            self._process.start(lambda: self._is_ready(client), timeout=timeout)

    def _is_ready(self, client: httpx.Client) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex((self.host, self.port)):
                return False  # asked fifty times a second for ten seconds: requests would take a second of the processor
        try:
            return client.get(f"{self.url}/health/readiness").is_success
        except httpx.TransportError:
            return False
