"""A rebuild to its end: everything is lost but the second store and the keys, the rebuild is killed, and goes on to equality.

The new project is on the sandbox's Railway, whose containers are nothing but names; its Prefect server is the sandbox's, so
that the restore is a real one, on the real engines.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pyrage
import pytest
from pydantic import SecretStr

from flows import journals
from flows.deploy.rollout import Pace
from flows.runbook.rebuild_facts import FOLDER, RebuildJournal
from flows.runbook.rebuild_stack import Rebuild, RebuildRequest, rebuild_of
from flows.runbook.rebuilding import Patience
from flows.stack import Stack
from shared.engines.process import wait_until
from shared.sandbox.blocks import stack_from
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Pace as PlatformPace
from tests.deploy.quiet_runtime import QuietRuntime
from tests.forks import Forked
from tests.nights.night import Night
from tests.runbook.cases import PACE, Desk

pytestmark = pytest.mark.long

SALT = "canary-salt-77aa"


class Runtime(QuietRuntime):
    """Containers that are nothing; the Prefect server among them is the sandbox's."""

    prefect = ""

    def public_address(self, service: str, port: int) -> str:
        return self.prefect if service == "prefect-server" else super().public_address(service, port)


def stack_of(night: Night, railway: RailwayStandIn) -> Stack:
    """The stack as its backups are read where a rebuild is run: connections of its own, for a process of its own."""
    found = stack_from(night.environment)
    told = {
        "railway_api_url": railway.url,
        "railway_api_token": SecretStr(railway.token("workspace")),
        "worker_image": "ghcr.io/acme/stack-operations:0.1.0",
    }
    return replace(found, settings=found.settings.model_copy(update=told))


def rebuild(night: Night, railway: RailwayStandIn, recovery: str) -> Rebuild:
    request = RebuildRequest(project="again", workspace=railway.workspace_id, smoke=False, by="a test")
    keys = {"SALT": SALT, "BACKUP_RECOVERY_RECIPIENT": recovery}
    made = rebuild_of(stack_of(night, railway), request, {**night.environment, **keys})
    made.builder.pace, made.builder.patience = Pace(deployment=120, poll=0.05, setup=60), Patience(300, 900, 0.5)
    return made


def test_everything_is_rebuilt_from_the_copies_and_the_keys_although_it_is_killed_half_way(
    night: Night, tmp_path: Path
) -> None:
    night.call("backup")
    night.call("copy")
    manifest, objects = night.newest(), night.bucket()
    night.execute("DROP DATABASE langfuse WITH (FORCE)", "DROP DATABASE litellm WITH (FORCE)")
    night.clickhouse_command("TRUNCATE TABLE langfuse.observations")
    night.source.remove(list(objects))
    night.store.remove([item.key for item in night.store.list(night.store.root)])
    runtime, recovery = Runtime(), str(pyrage.x25519.Identity.generate().to_public())
    runtime.prefect = urlsplit(night.sandbox.prefect_api_url).netloc
    copies = night.stack.need_copy()

    def phases() -> list[str]:
        return [one.phase for one in journals.load_all(copies, FOLDER, RebuildJournal)]

    def run() -> str:
        made = rebuild(night, railway, recovery)
        return Desk(made.stack.store, pace=PACE).heal(made, made.request)

    try:
        with RailwayStandIn(tmp_path, runtime, pace=PlatformPace(build=0.0, poll=0.01)) as railway:
            with Forked(run) as process:
                wait_until(lambda: len(runtime.names()) > 2 or not process.running, timeout=300, what="it to deploy")
                process.kill()
            assert phases() == ["made"]
            assert run() == "healed"
            assert phases() == ["done"]
            assert run() == "nothing to do"
            made = [one for one in railway.received() if "projectCreate" in one.fields]
            restarted = [one for one in railway.received() if "deploymentRestart" in one.fields]
        assert (len(made), len(restarted)) == (1, 3)
        assert night.differences(manifest) == []
        assert night.bucket().keys() == objects.keys()
        assert runtime.last("langfuse-web").variables["SALT"] == SALT
    finally:
        copies.remove([item.key for item in copies.list(copies.root) if f"/{FOLDER}/" in item.key])
        night.call("restore", action="forget", confirm="sandbox")
