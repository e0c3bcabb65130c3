"""The automations of a stack on the real Prefect server, with sinks behind its notification blocks; taken away at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import PrefectClient

from blocks.settings import Settings
from flows.automations.upsert import Change, upsert
from flows.automations.wanted import tag_of
from shared.engines.process import wait_until
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.stack import Sandbox
from tests.patient import patient_client


@dataclass
class Site:
    """A Prefect server that watches a stack.

    Attributes:
        first, second: what two upserts in a row did.
    """

    sandbox: Sandbox
    sinks: AlertSinks
    settings: Settings
    http: httpx.Client
    first: list[Change]
    second: list[Change]

    def post(self, path: str, body: dict[str, Any] | list[dict[str, Any]]) -> Any:
        answer = self.http.post(path, json=body).raise_for_status()
        return answer.json() if answer.content else None

    def delete(self, path: str) -> None:
        wait_until(lambda: self.http.delete(path).status_code in (204, 404), timeout=60, what=f"{path} to be deleted")

    def run(self, flow: str, state: str, state_type: str, message: str = "") -> str:
        """A run of a flow in the work pool that went through Running to this state; nobody executes it."""
        flow_id = self.post("/flows/", {"name": flow})["id"]
        body = {"name": "watched", "flow_id": flow_id, "work_pool_name": "ops", "entrypoint": "nowhere.py:nothing"}
        deployment = self.post("/deployments/", body)["id"]
        run_id = str(self.post(f"/deployments/{deployment}/create_flow_run", {"state": {"type": "PENDING"}})["id"])
        for change in ({"type": "RUNNING"}, {"type": state_type, "name": state, "message": message}):
            self.post(f"/flow_runs/{run_id}/set_state", {"state": change, "force": True})
        return run_id

    def emit(self, event: str, resource: dict[str, str]) -> None:
        """An event as the server itself would emit it."""
        body = {"event": event, "resource": resource, "occurred": datetime.now(UTC).isoformat(), "id": str(uuid4())}
        self.post("/events", [body])

    def upsert(self, *, dry_run: bool = False, prune: bool = False) -> list[Change]:
        async def act() -> list[Change]:
            async with PrefectClient(self.sandbox.prefect_api_url) as client:
                return await upsert(client, self.settings, dry_run=dry_run, prune=prune)

        return asyncio.run(act())


@pytest.fixture(scope="module")
def site(sandbox: Sandbox) -> Iterator[Site]:
    """Intervals are shorter than any that the settings allow, so that the absence of sweeps shows in seconds."""
    with (
        AlertSinks() as sinks,
        patient_client(sandbox.prefect_api_url) as http,
    ):
        fields = {name.lower(): value for name, value in sinks.environment().items()}
        settings = Settings(stack_name="watched", **fields).model_copy(update={"check_interval": 4})  # type: ignore[arg-type]  # text
        made = Site(sandbox, sinks, settings, http, [], [])
        try:
            made.first = made.upsert()
            made.second = made.upsert()
            yield made
        finally:
            for one in made.post("/automations/filter", {"limit": 200}):
                if tag_of(settings) in one["tags"]:
                    made.delete(f"/automations/{one['id']}")
            for block in made.post("/block_documents/filter", {"limit": 200}):
                if str(block["name"]).startswith("watched-watch-"):
                    made.delete(f"/block_documents/{block['id']}")
