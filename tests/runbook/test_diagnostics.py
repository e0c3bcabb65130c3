"""The diagnostics bundle on the sandbox: it has what helps, nothing that is secret, and names what it could not have."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.object_store import BackupStore
from flows.runbook.audit import Entry, Trail
from flows.runbook.bundle import secrets_of
from flows.runbook.diagnostics import DiagnosticsRequest, Facts, collect, diagnostics, excerpts, keep
from flows.stack import Stack
from shared.engines.process import free_port
from shared.sandbox.blocks import railway_block, stack_from
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.stack import Sandbox
from tests.deploy.quiet_runtime import QuietRuntime
from tests.patient import patient_client
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.stores import ONE_TRY, seen_through

NOW = datetime.now(UTC)
CANARY = f"canary-{secrets.token_hex(6)}"


@pytest.fixture
def http(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("LITELLM_MASTER_KEY", f"{CANARY}-master")
    with patient_client(sandbox.prefect_api_url) as client, temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url}):
        yield client


@pytest.fixture
def stack(sandbox: Sandbox, store: BackupStore) -> Stack:
    """The sandbox's, with a store of the test's own."""
    return replace(stack_from(sandbox.environment()), store=store)


def failed_run(http: httpx.Client) -> str:
    """A run whose parameters, message and log have secrets in them."""

    def post(path: str, body: object) -> httpx.Response:
        return http.post(path, json=body).raise_for_status()

    flow_id = post("/flows/", {"name": "told"}).json()["id"]
    made = {"flow_id": flow_id, "name": f"run-{secrets.token_hex(4)}", "parameters": {"request": {"password": f"{CANARY}-p"}}}
    run = post("/flow_runs/", {**made, "state": {"type": "RUNNING"}}).json()
    failed = {"type": "FAILED", "message": f"refused {CANARY}-master"}
    post(f"/flow_runs/{run['id']}/set_state", {"state": failed, "force": True})
    line = {"name": "x", "level": 40, "timestamp": NOW.isoformat(), "flow_run_id": run["id"]}
    post("/logs/", [{**line, "message": f"it said {CANARY}-master to postgresql://u:{CANARY}-u@host/db"}])
    return str(made["name"])


def unpacked(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_it_has_what_helps_and_nothing_secret(http: httpx.Client, stack: Stack) -> None:
    name = failed_run(http)
    told = f"set it to {CANARY}-master"
    Trail(stack.store).add(Entry(at=NOW - timedelta(minutes=1), kind="ended", actor="redis-policy", what=told))
    bundle, gaps = collect(Facts(stack, None, datetime.now(UTC) + timedelta(minutes=1)))
    key = keep(stack, bundle.packed(), NOW)
    files = unpacked(stack.store.get(key))
    assert {"README.txt", "versions.json", "settings.json", "runs.json", "audit.json", f"logs/told-{name}.txt"} <= files.keys()
    versions = json.loads(files["versions.json"])
    assert versions["prefect-server"][:2] == "3."
    assert {"prefect", "pydantic"} <= versions["packages"].keys()
    assert any(run["name"] == name and run["state"] == "Failed" for run in json.loads(files["runs.json"]))
    assert files[f"logs/told-{name}.txt"].endswith("it said *** to postgresql://***@host/db\n")
    whole = "\n".join(files.values())
    assert CANARY not in whole
    for block in (stack.store, stack.keys, stack.postgres, stack.postgres_admin, stack.clickhouse, stack.redis):
        for secret in secrets_of([block], {})._values():
            assert secret not in whole
    assert any(gap.startswith("Railway: there is no token") for gap in gaps)
    assert "Railway: there is no token" in files["README.txt"]


def test_what_cannot_be_asked_is_named_and_the_rest_is_there(stack: Stack) -> None:
    gone = seen_through(stack.store, url=f"http://127.0.0.1:{free_port()}", config=ONE_TRY)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        bundle, gaps = collect(Facts(replace(stack, store=gone), None, NOW))
    assert {"versions.json", "settings.json", "README.txt"} <= bundle.parts.keys()
    shown = "\n".join(excerpts(bundle))
    assert "the audit trail: " in shown, "where the zip cannot be kept, the artifact has the beginning of what matters"
    assert '"stack_name"' in shown
    assert len(shown) < 100_000
    missing = [gap.partition(":")[0] for gap in gaps]
    assert {"flow runs", "the sweeps' state", "the audit trail", "version of Prefect's server"} <= set(missing)


def test_the_newest_ten_are_kept(stack: Stack) -> None:
    keys = [keep(stack, b"zip", NOW + timedelta(minutes=number)) for number in range(12)]
    assert [item.key for item in stack.store.list(f"{stack.store.root}diagnostics/")] == keys[2:]


def test_what_services_wrote_on_railway_is_in_it_without_their_variables(
    http: httpx.Client, stack: Stack, tmp_path: Path
) -> None:
    runtime = QuietRuntime()
    with RailwayStandIn(tmp_path, runtime, pace=QUICK, behaviour=PATIENT) as railway:
        operator = Operator(railway)
        command = f"run --password {CANARY}-command"
        _, service = operator.service("app:1", name="litellm", variables={"WORD": f"{CANARY}-v"}, startCommand=command)
        operator.deployed(service)
        runtime.started[-1].lines = ["ready", f"with {CANARY}-v"]
        environment = railway_block(railway)
        bundle, _ = collect(Facts(stack, environment, NOW))
        without, _ = collect(Facts(stack, environment, NOW, service_logs=False))
        operator.close()
    assert [one["image"] for one in json.loads(bundle.parts["railway.json"])] == ["app:1"]
    assert "ready" in bundle.parts["railway/litellm.txt"]
    assert CANARY not in "\n".join(bundle.parts.values())
    assert "railway/litellm.txt" not in without.parts


@pytest.mark.long
def test_the_flow_keeps_a_zip_and_shows_what_is_in_it_and_a_dry_run_keeps_none(
    sandbox: Sandbox, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    kept = stack_from(sandbox.environment()).store
    before = [item.key for item in kept.list(f"{kept.root}diagnostics/")]
    assert diagnostics(DiagnosticsRequest(dry_run=True)) == ""
    assert [item.key for item in kept.list(f"{kept.root}diagnostics/")] == before
    key = diagnostics(DiagnosticsRequest(by="ada"))
    assert "versions.json" in unpacked(kept.get(key))
    shown = sandbox.artifact(f"diagnostics-{sandbox.stack_name}") or ""
    assert key in shown
    assert "Read it before you give it to anybody" in shown
    kept.remove([key])
