"""A Prefect server of these tests' own, without a worker, and a work pool in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.engines.process import wait_until
from shared.sandbox.prefect_api import PrefectApi
from shared.sandbox.prefect_server import PrefectServer
from shared.sandbox.stack import STATE

POOL = "drain"


@dataclass(frozen=True)
class Prefect:
    """The server. api: what the sandbox asks it. http: everything else, at its REST API."""

    server: PrefectServer
    api: PrefectApi
    http: httpx.Client


@pytest.fixture(scope="session")
def prefect(state_directory: Path) -> Iterator[Prefect]:
    """A server with the deployments `waiting/here` and `backup/on-demand` in the pool of these tests."""
    server = PrefectServer(state_directory / "prefect-of-worker", STATE / "cache", schedules=False)
    server.start(timeout=240)
    try:
        with (
            PrefectApi(server.api_url) as api,
            httpx.Client(
                base_url=server.api_url, trust_env=False, timeout=30, limits=httpx.Limits(max_keepalive_connections=0)
            ) as http,
        ):
            api.create_process_pool(POOL)
            api.create_process_pool("elsewhere")
            deploy(http, "waiting", "here", POOL)
            deploy(http, "waiting", "elsewhere", "elsewhere")
            deploy(http, "backup", "on-demand", "elsewhere")
            yield Prefect(server, api, http)
    finally:
        server.stop()


def deploy(http: httpx.Client, flow: str, name: str, pool: str) -> None:
    """Make a deployment of `tests/worker/waiting.py`, whatever the flow is called."""
    flow_id = _posted(http, "/flows/", {"name": flow})["id"]
    folder = {"prefect.deployments.steps.set_working_directory": {"directory": str(Path(__file__).parent)}}
    document = {"name": name, "flow_id": flow_id, "entrypoint": "waiting.py:waiting", "work_pool_name": pool, "path": "."}
    _posted(http, "/deployments/", {**document, "pull_steps": [folder]})


def _posted(http: httpx.Client, path: str, document: dict[str, Any]) -> dict[str, Any]:
    """Make or update something; a server that is busy with its own start answers 503 on a busy machine."""
    answers: list[httpx.Response] = []

    def taken() -> bool:
        answers.append(http.post(path, json=document))
        return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    wait_until(taken, timeout=60, what=f"Prefect's API to take {path}")
    made: dict[str, Any] = answers[-1].raise_for_status().json()
    return made
