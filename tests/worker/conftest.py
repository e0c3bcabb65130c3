"""A Prefect server of these tests' own, with the settings of production, without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from railway.secret_values import generate
from railway.stack import Literal, Secret
from railway.variants import build
from shared.engines.process import wait_until
from shared.sandbox.prefect_api import PrefectApi
from shared.sandbox.prefect_server import PrefectServer
from shared.sandbox.stack import STATE

POOL = "drain"
AUTH = "ops:canary-auth-9c2e"
PLACES = {
    "PREFECT_HOME",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL",
    "PREFECT_SERVER_API_HOST",
    "PREFECT_SERVER_API_PORT",
    "PORT",
}
"""Variables that say where the server is: on this machine it is elsewhere."""


@dataclass(frozen=True)
class Prefect:
    """The server. api: what the sandbox asks it. http: everything else, at its REST API."""

    server: PrefectServer
    api: PrefectApi
    http: httpx.Client


def production() -> dict[str, str]:
    """What production tells its Prefect server, but for places and addresses; with secrets."""
    variables = build("production").services["prefect-server"].variables
    literals = {name: value.text for name, value in variables.items() if isinstance(value, Literal) and name not in PLACES}
    secrets = {name: generate(value) for name, value in variables.items() if isinstance(value, Secret)}
    return {**literals, **secrets, "PREFECT_SERVER_API_AUTH_STRING": AUTH}


@pytest.fixture(scope="session")
def prefect(state_directory: Path) -> Iterator[Prefect]:
    """A server with the deployments `waiting/here` and `waiting/elsewhere` in two pools of these tests."""
    server = PrefectServer(
        state_directory / "prefect-of-worker", STATE / "cache", auth=AUTH, schedules=False, settings=production()
    )
    server.start(timeout=240)
    user, _, password = AUTH.partition(":")
    try:
        with (
            PrefectApi(server.api_url, auth=AUTH) as api,
            httpx.Client(
                base_url=server.api_url,
                auth=(user, password),
                trust_env=False,
                timeout=30,
                limits=httpx.Limits(max_keepalive_connections=0),
            ) as http,
        ):
            api.create_process_pool(POOL)
            api.create_process_pool("elsewhere")
            deploy(http, "waiting", "here", POOL)
            deploy(http, "waiting", "elsewhere", "elsewhere")
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
