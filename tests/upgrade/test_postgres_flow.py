"""The flow, as the worker runs it: against the sandbox's Prefect server and store, with a Postgres on the sandbox's Railway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from shared.engines.postgres import PostgresEngine
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from shared.sandbox.registry import RegistryDouble
from shared.sandbox.stack import ROOT, Sandbox
from tests.documents import commands
from tests.upgrade.postgres_world import stand_in
from tests.upgrade.test_postgres_on_railway import PASSWORD, Half, start_postgres

pytestmark = pytest.mark.long

PROGRAM = """
import json, sys
from blocks.__main__ import main as save_blocks
from flows.documents import required
from blocks.postgres import PostgresServer
from flows.upgrade.postgres.flow import PostgresRequest, upgrade

save_blocks([])
documents = json.load(sys.stdin)
def run(**request):
    return upgrade(PostgresRequest(confirm="moving", smoke=False, soak_minutes=0, drill=False, rehearse=False, **request))
def dry(action):
    found = [one for one in documents if one["request"].get("action", "upgrade") == action]
    assert found, f"the documents have no command for {action}"
    assert [upgrade(**one) for one in found] == ["nothing"] * len(found)
def port():
    return required(PostgresServer, "moving-restore").url.get_secret_value().rpartition("@")[2]
assert run(action="finish") == "nothing"
dry("upgrade")
before = port()
assert run() == "done"
assert port() != before
dry("undo")
assert run(action="undo") == "undone"
assert port() == before
assert run(action="forget") == "forgotten"
assert run() == "done"
dry("forget")
print("all of it")
"""
"""What UPGRADE.md tells people to type is run, too, each command where it has something to say."""


def test_the_flow_moves_postgres_leads_the_stacks_blocks_with_it_and_goes_back_and_the_documents_commands_work(
    sandbox: Sandbox, state_directory: Path, tmp_path: Path
) -> None:
    asked = [one.parameters for one in commands() if one.deployment == "upgrade/postgres"]
    runtime = Half(LocalRuntime(state_directory / "runtime-upgrade-flow"))
    address = {name: runtime.public_address(name, 5432) for name in ("postgres", "postgres-18")}
    with stand_in(tmp_path, runtime) as railway, RegistryDouble(runtime.local.catalogue) as registry:
        start_postgres(railway, address["postgres"])
        url = f"postgresql://postgres:{PASSWORD}@{address['postgres']}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        told = {
            "STACK_NAME": "moving",
            "POSTGRES_BACKUP_URL": url,
            "POSTGRES_RESTORE_URL": url,
            "POSTGRES_DATABASES": "postgres",
            "POSTGRES_BIN_DIRS": ",".join(str(PostgresEngine.bin_dir_for(major)) for major in (16, 18)),
            "RAILWAY_API_URL": railway.url,
            "RAILWAY_API_TOKEN": railway.token("workspace"),
            "RAILWAY_PROJECT_ID": railway.project_id,
            "RAILWAY_ENVIRONMENT_ID": railway.environment_id,
            "RAILWAY_ROUTES": ",".join(f"{name}.railway.internal:5432={here}" for name, here in address.items()),
            "REGISTRY_URL": registry.url,
        }
        others = ("CLICKHOUSE_HOST", "REDIS_URL", "SOURCE_BUCKETS", "LITELLM_URL", "LANGFUSE_WEB_URL", "LANGFUSE_WORKER_URL")
        environment = {name: value for name, value in sandbox.environment().items() if name not in others}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**environment, **told},
            cwd=ROOT,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=290,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert "all of it" in done.stdout
        assert PASSWORD not in done.stdout + done.stderr
        assert railway.service_names() == ["postgres", "postgres-18"]
    shown = sandbox.artifact("upgrade-moving") or ""
    assert "consumers" in shown
    assert PASSWORD not in shown
