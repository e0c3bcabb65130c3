"""A backup runs in the worker's container when that ends: in order, as Railway replaces it, or killed with all it runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from blocks.settings import Settings
from railway.worker.prefect_http import PrefectHttp
from railway.worker.reaper import Reaper
from railway.worker.steps import MERGES
from shared.engines.process import wait_until
from shared.sandbox.environment import ROOT
from tests.nights.night import Night
from tests.patient import patient_client
from tests.worker.container import Container, container

pytestmark = pytest.mark.long

POOL = "container"
WAITING = ROOT / "tests" / "worker"
DRAIN_SECONDS = 60
_OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture(scope="module")
def deployed(loaded: Night) -> None:
    """The deployments `backup/container` and `waiting/container`, in another pool than that of the sandbox's worker."""
    loaded.sandbox.api.create_process_pool(POOL)
    with patient_client(loaded.sandbox.prefect_api_url) as http:
        _deploy(http, "backup", "flows/backup/flow.py:backup", ROOT)
        _deploy(http, "waiting", "waiting.py:waiting", WAITING)


@pytest.fixture
def running(night: Night, deployed: None, tmp_path: Path) -> Iterator[Container]:
    """A container whose worker serves that pool."""
    drain = {"WORK_POOL": POOL, "WORKER_DRAIN_SECONDS": str(DRAIN_SECONDS)}
    with container(tmp_path, night.environment | drain) as one:
        one.wait_for_worker()
        yield one


def _deploy(http: httpx.Client, flow: str, entrypoint: str, folder: Path) -> None:
    flow_id = http.post("/flows/", json={"name": flow}).raise_for_status().json()["id"]
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}]
    document: dict[str, Any] = {"name": "container", "flow_id": flow_id, "entrypoint": entrypoint, "path": "."}
    http.post("/deployments/", json={**document, "work_pool_name": POOL, "pull_steps": steps}).raise_for_status()


def _in_the_middle(night: Night) -> str:
    """Start a backup and return its run's id when ClickHouse's merges are held and its files are on their way."""
    api = night.sandbox.api
    run_id = api.start_run("backup/container")
    wait_until(lambda: _writes(night) or api.run(run_id)["state_type"] in _OVER, timeout=180, what="ClickHouse writes")
    assert _writes(night), f"{api.run(run_id)['state']}: {api.logs(run_id)}"
    return run_id


def _writes(night: Night) -> bool:
    return any("/clickhouse/" in key for key in night.objects())


def test_on_sigterm_a_running_backup_cleans_up_and_tells_its_state_before_the_worker_ends(
    night: Night, running: Container, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    api = night.sandbox.api
    other_id = api.start_run("waiting/container", {"trace": str(trace)})
    wait_until(trace.exists, timeout=180, what="the other run to begin")
    run_id = _in_the_middle(night)
    processes = running.processes()
    begun = time.monotonic()
    running.send(signal.SIGTERM)
    running.wait_for_end()
    assert time.monotonic() - begun < DRAIN_SECONDS + 30
    for run in (api.run(run_id), api.run(other_id)):
        assert run["state_type"] == "CRASHED"
        assert re.match(r"Execution was (aborted by a termination signal|cancelled by the runtime)", run["state"]["message"])
    assert [key for key in night.objects() if "/sets/" in key or "/packs/" in key] == []
    assert list(night.store.uploads(night.store.root)) == []
    assert night.merges_stopped() == [], api.logs(run_id)
    assert night.lease_holder() == ""
    assert trace.read_text(encoding="utf-8").split() == ["begun", "finally", "hook"]
    assert not any(process.is_running() for process in processes)
    assert "killed" not in running.log
    for name in ("gateway", "worker"):
        assert f"{name} ended" not in running.log
        assert f"{name} was ended" not in running.log


def test_after_the_whole_container_was_killed_its_run_is_crashed_and_the_next_backup_and_prune_mend_all(
    night: Night, running: Container
) -> None:
    api = night.sandbox.api
    run_id = _in_the_middle(night)
    running.process.kill()
    assert night.sets() == []
    assert night.halves() != []
    assert api.run(run_id)["state_type"] == "RUNNING", "nobody was left to say otherwise"
    with PrefectHttp(Settings(prefect_api_url=night.sandbox.prefect_api_url)) as prefect:
        reaper, now = Reaper(prefect, POOL), datetime.now(UTC)
        crashed = [name for seconds in range(0, 1000, 100) for name in reaper.look(now + timedelta(seconds=seconds))]
    assert crashed == [api.run(run_id)["name"]]
    assert "the worker that ran it was killed" in api.run(run_id)["state"]["message"]
    wait_until(lambda: _merges_start(night), timeout=60, what="the dead run's lock to run out")
    assert night.merges_stopped() == []
    night.call("backup", components=["clickhouse", "postgres/langfuse"])
    assert len(night.sets()) == 1
    night.call("prune", grace_hours=0)
    assert night.halves() == []
    assert list(night.store.uploads(night.store.root)) == []
    assert len(night.sets()) == 1


def _merges_start(night: Night) -> bool:
    """Run what the container runs after a death; it is refused as long as the dead run's lock stands."""
    command = [sys.executable, "-m", MERGES.module, *MERGES.arguments]
    done = subprocess.run(
        command, env={**os.environ, **night.environment}, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 or "the stack's lock is held by backup" in done.stderr, done.stderr
    return done.returncode == 0
