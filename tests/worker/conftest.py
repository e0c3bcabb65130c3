"""A Prefect server of these tests' own, with the settings of production, without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from railway.secret_values import generate
from railway.stack import Literal, Secret
from railway.variants import build
from shared.sandbox.prefect_api import PrefectApi
from shared.sandbox.prefect_server import PrefectServer
from shared.sandbox.stack import STATE
from tests.patient import patient_client

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
    try:
        with (
            PrefectApi(server.api_url, auth=AUTH) as api,
            patient_client(server.api_url, AUTH) as http,
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
    flow_id = http.post("/flows/", json={"name": flow}).raise_for_status().json()["id"]
    folder = {"prefect.deployments.steps.set_working_directory": {"directory": str(Path(__file__).parent)}}
    document = {"name": name, "flow_id": flow_id, "entrypoint": "waiting.py:waiting", "work_pool_name": pool, "path": "."}
    http.post("/deployments/", json={**document, "pull_steps": [folder]}).raise_for_status()
