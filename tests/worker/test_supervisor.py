"""The worker's container, as real processes: what ends it, and what its flow runs can still do then. Also see tests/nights."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from shared.engines.process import ManagedProcess, free_port, wait_until
from shared.sandbox.environment import ROOT
from tests.worker.conftest import POOL, Prefect
from tests.worker.container import container


@pytest.mark.long
def test_when_the_worker_is_killed_the_container_ends_and_its_run_tells_its_own_state(prefect: Prefect, tmp_path: Path) -> None:
    environment = {**prefect.server.client_environment(), "WORK_POOL": POOL}
    trace = tmp_path / "trace"
    with container(tmp_path, environment) as running:
        run_id = prefect.api.start_run("waiting/here", {"trace": str(trace)})
        wait_until(trace.exists, timeout=180, what="the flow run to begin")
        os.kill(running.wait_for_worker(), signal.SIGKILL)
        running.wait_for_end()
        assert "worker was ended by SIGKILL; the container ends" in running.log
        assert trace.read_text(encoding="utf-8").split()[:2] == ["begun", "finally"]  # its hook may follow, or not any more
        run = prefect.api.run(run_id)
        assert run["state_type"] == "CRASHED"
        assert re.match(r"Execution was (aborted by a termination signal|cancelled by the runtime)", run["state"]["message"])
        assert "Crash detected!" in running.log


@pytest.mark.long
def test_without_a_prefect_server_the_gateway_answers_and_its_death_ends_the_container(tmp_path: Path) -> None:
    environment = {
        "PREFECT_API_URL": f"http://127.0.0.1:{free_port()}/api",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "WORK_POOL": POOL,
    }
    with container(tmp_path, environment) as running:
        wait_until(
            lambda: "Prefect&#39;s API failed" in running.gateway.get("/", headers=running.bearer).text,
            timeout=90,
            what="the page to say so",
        )
        assert running.gateway.post("/check", headers=running.bearer).status_code == 503
        pid = running.pid("gateway")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        running.wait_for_end()
        assert "gateway was ended by SIGKILL; the container ends" in running.log
        assert running.pid("worker") is None


@pytest.mark.long
@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PREFECT_API_URL", "nonsense", "setting PREFECT_API_URL: "),
        ("PORT", "nonsense", "setting PORT: "),
        ("WORK_POOL", "ops", "setting MINIO_ACCESS_KEY is not set; "),
    ],
)
def test_a_wrong_setting_is_said_in_one_line_before_anything_starts(
    tmp_path: Path, variable: str, value: str, said: str
) -> None:
    environment = {"PREFECT_API_URL": "http://127.0.0.1:1/api", "WORK_POOL": POOL, variable: value}
    process = ManagedProcess(
        "container", [sys.executable, "-m", "railway.worker"], log=tmp_path / "log", env=environment, cwd=ROOT
    )
    try:
        with pytest.raises(Exception, match=r"container"):
            process.start(lambda: False, timeout=30)
        (line,) = process.log.read_text(encoding="utf-8").splitlines()
        assert line.startswith(f"worker: {said}")
    finally:
        process.kill()
