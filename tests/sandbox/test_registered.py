"""What one sandbox has registered with Prefect is there in the next one, and nothing else is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from shared.sandbox.prefect_api import PrefectApi
from shared.sandbox.prefect_server import PrefectServer
from shared.sandbox.registered import digest_of, keep_registered
from shared.sandbox.stack import STATE

CANARY = "canary-2c77-block"


def filled(server: PrefectServer, api: PrefectApi) -> None:
    """A deployment, and what must not be kept: a secret, a variable, a run."""
    api.create_process_pool("ops")
    with httpx.Client(base_url=server.api_url, trust_env=False, timeout=60) as http:

        def made(path: str, body: dict[str, object]) -> dict[str, str]:
            return dict(http.post(path, json=body).raise_for_status().json())

        flow = made("/flows/", {"name": "backup"})["id"]
        schedules = [{"schedule": {"interval": 3600}, "active": True}]
        deployment = {
            "name": "nightly",
            "flow_id": flow,
            "work_pool_name": "ops",
            "concurrency_limit": 1,
            "schedules": schedules,
        }
        run = made("/deployments/", deployment)["id"]
        made(f"/deployments/{run}/create_flow_run", {})
        kind = http.get("/block_types/slug/secret").raise_for_status().json()["id"]
        schema = http.post("/block_schemas/filter", json={"block_schemas": {"block_type_id": {"any_": [kind]}}}).json()[0]["id"]
        document = {"name": "key", "data": {"value": CANARY}, "block_type_id": kind, "block_schema_id": schema}
        made("/block_documents/", document)
        made("/variables/", {"name": "state", "value": CANARY})


@pytest.mark.long
def test_deployments_are_kept_with_their_schedules_and_nothing_that_is_secret_or_ran(tmp_path: Path) -> None:
    kept = tmp_path / "registered-1.sqlite"
    (tmp_path / "registered-0.sqlite").touch()
    first = PrefectServer(tmp_path / "first", STATE / "cache", registered=kept, schedules=False)
    first.start(timeout=280)
    try:
        api = PrefectApi(first.api_url)
        filled(first, api)
        assert (first.is_registered, api.deployments()) == (False, ["backup/nightly"])
        keep_registered(first.database, first.prepared, kept)
        api.close()
    finally:
        first.stop()
    assert [path.name for path in tmp_path.glob("registered-*")] == ["registered-1.sqlite"]
    assert CANARY.encode() not in kept.read_bytes()
    with closing(sqlite3.connect(kept)) as database:
        for table in ("block_document", "variable", "flow_run", "worker", "events", "log"):
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    second = PrefectServer(tmp_path / "second", STATE / "cache", registered=kept, schedules=False)
    second.start(timeout=280)
    try:
        api = PrefectApi(second.api_url)
        assert (second.is_registered, api.deployments()) == (True, ["backup/nightly"])
        api.create_process_pool("ops")
        run = api.start_run("backup/nightly")
        assert api.run(run)["state_type"] == "SCHEDULED"
        api.close()
    finally:
        second.stop()


def test_other_deployments_flows_or_another_prefect_are_registered_anew(tmp_path: Path) -> None:
    deployments, flows = tmp_path / "prefect.yaml", tmp_path / "flows"
    deployments.write_text("deployments: []\n")
    flows.mkdir()
    flow = flows / "one.py"
    flow.write_text("a = 1\n")

    def digest(version: str = "3.9.1") -> str:
        return digest_of(deployments, [flows, deployments], version)

    seen = [digest(), digest("3.9.2")]
    for change in (flow, deployments, flows / "two.py"):
        change.write_text("b = 2\n")
        seen.append(digest())
    flow.rename(flows / "three.py")
    seen.append(digest())
    assert len(set(seen)) == len(seen)
    assert digest() == seen[-1]
