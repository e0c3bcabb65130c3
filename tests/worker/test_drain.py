"""How the container ends, without a Prefect server: how long draining may take, and what the gateway gets to know."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.settings import Settings
from flows.health.targets import Targets
from railway.worker.environments import GATEWAYS, of_gateway
from shared.engines.process import ManagedProcess, wait_until
from shared.sandbox.environment import ROOT


def test_a_worker_that_begins_one_run_after_the_other_is_drained_in_the_time_of_all(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.worker.restless", "1.5"]
    container = ManagedProcess("container", argv, log=tmp_path / "log", env={}, cwd=ROOT)
    try:
        container.start(lambda: "flow process" in container.log.read_text(encoding="utf-8"), timeout=60)
        wait_until(lambda: not container.running, timeout=60, what="the container to end")
        log = container.log.read_text(encoding="utf-8")
        assert "ended with the newest one" in log
        assert "drained: ended with status 0, gateway was ended by SIGTERM" in log
    finally:
        container.kill()


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
