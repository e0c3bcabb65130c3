"""How the container ends, without a Prefect server; who hears what flow runs say then; what the gateway gets to know."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.settings import Settings
from flows.health.targets import Targets
from railway.worker.environments import GATEWAYS, Redactor, of_gateway
from shared.engines.process import ManagedProcess, wait_until
from shared.sandbox.environment import ROOT
from tests.worker.programs import LOUD


def _drained(folder: Path, seconds: float, worker: str, *, kill: bool = False) -> str:
    """Run `draining.py`; returns its log."""
    arguments = [str(seconds), worker, str(folder / "trace"), "kill" if kill else "live"]
    argv = [sys.executable, "-m", "tests.worker.draining", *arguments]
    container = ManagedProcess("container", argv, log=folder / "log", env={}, cwd=ROOT)
    try:
        container.start(lambda: "flow process" in container.log.read_text(encoding="utf-8"), timeout=120)
        wait_until(lambda: not container.running, timeout=120, what="the container to end")
        return container.log.read_text(encoding="utf-8")
    finally:
        container.kill()


@pytest.mark.long
def test_a_worker_that_begins_one_run_after_the_other_is_drained_in_the_time_of_all(tmp_path: Path) -> None:
    log = _drained(tmp_path, 1.5, "restless")
    assert "ended with the newest one" in log
    assert "drained: ended with status 0, gateway was ended by SIGTERM" in log


@pytest.mark.long
@pytest.mark.parametrize("kill", [False, True], ids=["held still", "killed"])
def test_a_run_whose_worker_does_not_read_its_log_says_all_of_it_and_tells_its_state(tmp_path: Path, kill: bool) -> None:
    log = _drained(tmp_path, 60, "reading", kill=kill)
    assert (tmp_path / "trace").read_text(encoding="utf-8") == "told"
    assert "Crash detected!" in log
    assert log.count("x") >= LOUD
    assert "killed" not in log
    assert ("drained: was ended by SIGKILL" in log) is kill
    assert "gateway was ended by SIGTERM" in log


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_the_gateway_gets_no_secret_that_it_has_no_use_for(case: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    environment = {case(name): f"canary-{name}" for name in secrets}
    left = of_gateway({**environment, "PATH": "/bin", "STACK_NAME": "prod", "MINIO_ACCESS_KEY": "key"})
    assert {name.lower() for name in left} == {"path", "stack_name", "minio_access_key", *GATEWAYS}
    assert secrets > GATEWAYS
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    store = Targets.from_settings(settings).store
    assert settings.gateway_token == SecretStr("canary-gateway_token")
    assert store is not None
    assert store.place.secret_key == SecretStr("canary-minio_secret_key")


def test_what_programs_say_is_passed_on_without_the_secrets_of_the_environment() -> None:
    environment = {
        "POSTGRES_BACKUP_URL": "postgresql://backup:canary%2Fone@db:5432/x",
        "PREFECT_API_AUTH_STRING": "ops:canary-two",
        "gateway_token": "canary-three",
        "MINIO_SECRET_KEY": "ab",
        "STACK_NAME": "prod-stack",
    }
    said = "canary/one canary%2Fone ops:canary-two canary-two canary-three {POSTGRES_BACKUP_URL} ab prod-stack"
    assert Redactor(environment).hide(said.format_map(environment)) == "*** *** *** *** *** *** ab prod-stack"
