"""The worker's container, as real processes: what ends it, and what its flow runs can still do then."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.settings import Settings
from flows.health.published import Outcome, publish
from railway.worker.prefect_http import PrefectHttp
from railway.worker.reaper import Reaper
from shared.engines.process import ManagedProcess, free_port, wait_until
from shared.sandbox.environment import ROOT
from shared.sandbox.sample_history import published
from tests.gateway.serving import now
from tests.worker.conftest import POOL, Prefect

TOKEN = "canary-7d1c"


@contextmanager
def _container(folder: Path, environment: dict[str, str]) -> Iterator[tuple[ManagedProcess, httpx.Client]]:
    """Run `python -m railway.worker`; yields it, and a client of its gateway."""
    port = free_port()
    container = ManagedProcess(
        "container",
        [sys.executable, "-m", "railway.worker", "--gateway-host", "127.0.0.1"],
        log=folder / "container.log",
        env={**environment, "PORT": str(port), "GATEWAY_TOKEN": TOKEN, "PREFECT_WORKER_QUERY_SECONDS": "1", "WORK_POOL": POOL},
        cwd=ROOT,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as gateway:
        container.start(lambda: _answers(gateway), timeout=120)
        try:
            yield container, gateway
        finally:
            container.kill()


def _answers(gateway: httpx.Client) -> bool:
    try:
        return gateway.get("/livez").is_success
    except httpx.TransportError:
        return False


def _pid(container: ManagedProcess, name: str) -> int | None:
    """The pid of the gateway or the worker, as the log says."""
    found = re.search(rf"{name} started as pid (\d+)", container.log.read_text(encoding="utf-8"))
    return int(found[1]) if found else None


def _waiting_run(prefect: Prefect, folder: Path) -> tuple[str, Path]:
    """Start `waiting/here` and return when it waits: its id, and the file in which it leaves its traces."""
    trace = folder / "trace"
    run_id = prefect.api.start_run("waiting/here", {"trace": str(trace)})
    wait_until(trace.exists, timeout=180, what="the flow run to begin")
    return run_id, trace


def test_on_sigterm_flow_runs_clean_up_before_worker_and_gateway_end(prefect: Prefect, tmp_path: Path) -> None:
    with _container(tmp_path, _environment(prefect)) as (container, gateway):
        run_id, trace = _waiting_run(prefect, tmp_path)
        _shows_what_a_sweep_published(prefect, gateway)
        _starts_a_backup(prefect, gateway)
        pids = {name: _pid(container, name) for name in ("gateway", "worker")}
        assert container.pid is not None
        os.kill(container.pid, signal.SIGTERM)
        wait_until(lambda: not container.running, timeout=120, what="the container to end")
        assert trace.read_text(encoding="utf-8").split() == ["begun", "finally", "hook"]
        assert prefect.api.run(run_id)["state_type"] == "CRASHED"
        assert [name for name, pid in pids.items() if pid is None or psutil.pid_exists(pid)] == []
        log = container.log.read_text(encoding="utf-8")
        assert "flow process" in log
        assert TOKEN not in log
        assert [word for name in pids for word in (f"{name} ended", f"{name} was ended") if word in log] == []


def test_when_the_worker_dies_the_container_ends_and_its_flow_runs_clean_up(prefect: Prefect, tmp_path: Path) -> None:
    with _container(tmp_path, _environment(prefect)) as (container, _):
        run_id, trace = _waiting_run(prefect, tmp_path)
        worker = _pid(container, "worker")
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: not container.running, timeout=120, what="the container to end")
        assert "worker was ended by SIGKILL; the container ends" in container.log.read_text(encoding="utf-8")
        assert trace.read_text(encoding="utf-8").split() == ["begun", "finally"], "hooks are the worker's"
    # Its process may have ended without telling its state; then the next container's reaper does.
    with PrefectHttp(Settings(prefect_api_url=prefect.server.api_url)) as api:
        reaper, begun = Reaper(api, POOL), datetime.now(UTC)
        for seconds in range(0, 1000, 100):
            reaper.look(begun + timedelta(seconds=seconds))
    assert prefect.api.run(run_id)["state_type"] == "CRASHED"


def test_without_a_prefect_server_the_gateway_answers_and_its_death_ends_the_container(tmp_path: Path) -> None:
    environment = {"PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api", "PREFECT_HOME": str(tmp_path / "prefect")}
    with _container(tmp_path, environment) as (container, gateway):
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        wait_until(
            lambda: "Prefect&#39;s API failed" in gateway.get("/", headers=bearer).text, timeout=90, what="the page to say so"
        )
        assert gateway.post("/check", headers=bearer).status_code == 503
        pid = _pid(container, "gateway")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not container.running, timeout=90, what="the container to end")
        assert "gateway was ended by SIGKILL; the container ends" in container.log.read_text(encoding="utf-8")
        assert _pid(container, "worker") is None


@pytest.mark.parametrize(("variable", "said"), [("PREFECT_API_URL", "PREFECT_API_URL"), ("PORT", "PORT")])
def test_a_wrong_setting_is_said_in_one_line(tmp_path: Path, variable: str, said: str) -> None:
    environment = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "PORT": "8080", variable: "nonsense"}
    container = ManagedProcess(
        "container", [sys.executable, "-m", "railway.worker"], log=tmp_path / "log", env=environment, cwd=ROOT
    )
    try:
        with pytest.raises(Exception, match=f"setting {said}"):
            container.start(lambda: False, timeout=30)
    finally:
        container.kill()


def _environment(prefect: Prefect) -> dict[str, str]:
    return {**prefect.server.client_environment(), "PATH": os.environ["PATH"]}


def _shows_what_a_sweep_published(prefect: Prefect, gateway: httpx.Client) -> None:
    """Publish as a sweep does, and wait for the page to show it."""
    state = published(now(), {"redis": "down"}, "stack")
    incidents = [told.incident for told in state.open]
    with temporary_settings({PREFECT_API_URL: prefect.server.api_url}):
        asyncio.run(publish(Outcome("stack", state.at, 60, state.verdicts, incidents), None))
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    wait_until(lambda: "Redis is down" in gateway.get("/", headers=bearer).text, timeout=120, what="the page to show the sweep")
    assert gateway.get("/health").status_code == 503


def _starts_a_backup(prefect: Prefect, gateway: httpx.Client) -> None:
    """Press the button; the run waits in a pool that has no worker."""
    answer = gateway.post("/backup", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 202
    run_id = answer.json()["run_id"]
    assert answer.json()["url"].endswith(f"/runs/flow-run/{run_id}")
    assert "gateway" in prefect.http.get(f"/flow_runs/{run_id}").json()["tags"]
    missing = gateway.post("/check", headers={"Authorization": f"Bearer {TOKEN}"})
    assert missing.status_code == 404
    assert "prefect --no-prompt deploy --all" in missing.json()["error"]
