"""LiteLLM, Langfuse and the worker in containers: what their originals do not start with, they do not start with."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest

from shared.engines.postgres import PostgresEngine, client_bin_dirs
from shared.engines.process import wait_until
from shared.sandbox.environment import ROOT
from shared.sandbox.railway_runtime.container import LocalContainer
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState
from shared.sandbox.railway_runtime.images.langfuse import problem_with
from shared.sandbox.railway_runtime.registry import WORKER_IMAGE
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from tests.railway.rendered import rendered, secrets
from tests.railway.stacks import shipped

STACK = shipped()
MADE = secrets(STACK)


@pytest.fixture(scope="module")
def runtime(state_directory: Path) -> Iterator[LocalRuntime]:
    with LocalRuntime(state_directory / "runtime-apps") as one:
        yield one


def text(container: LocalContainer) -> str:
    return "\n".join(line.message for line in container.logs(1000))


def end_of(container: LocalContainer) -> str:
    wait_until(lambda: container.state is not ContainerState.RUNNING, timeout=120, what="the container to end")
    return text(container)


WEB: Mapping[str, str] = rendered(STACK, "langfuse-web", MADE)


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("web", {}, None),
        ("worker", {"NEXTAUTH_SECRET": None, "CLICKHOUSE_MIGRATION_URL": None, "SALT": None}, None),
        ("web", {"NEXTAUTH_SECRET": None}, "NEXTAUTH_SECRET: Required"),
        ("web", {"SALT": ""}, "SALT: Required"),
        ("worker", {"LANGFUSE_S3_EVENT_UPLOAD_BUCKET": None}, "LANGFUSE_S3_EVENT_UPLOAD_BUCKET: Required"),
        ("web", {"NEXTAUTH_URL": "langfuse.example"}, "NEXTAUTH_URL: Invalid url"),
        ("web", {"ENCRYPTION_KEY": "not-hex" * 9 + "x"}, "64 string characters in hex format"),
        ("worker", {"ENCRYPTION_KEY": "ab" * 16}, "64 string characters in hex format"),
        ("worker", {"LANGFUSE_MIGRATION_V4_WRITE_MODE": "both"}, "expected one of legacy, dual, events_only"),
    ],
)
def test_langfuse_says_which_variable_it_does_not_start_with(
    part: str, changes: dict[str, str | None], says: str | None
) -> None:
    variables = {name: value for name, value in {**WEB, **changes}.items() if value is not None}
    problem = problem_with(part, variables)
    assert problem is None if says is None else says in (problem or "")


def test_langfuse_web_ends_where_a_single_clickhouse_is_taken_for_a_cluster(runtime: LocalRuntime) -> None:
    service = STACK.services["langfuse-web"]
    variables = {name: value for name, value in WEB.items() if name != "CLICKHOUSE_CLUSTER_ENABLED"}
    container = runtime.start(ContainerSpec("cluster", service.image, variables, port=3000))
    assert "code: 139" in end_of(container)
    assert container.state is ContainerState.CRASHED


def test_litellm_ends_without_the_file_that_its_start_command_names(runtime: LocalRuntime) -> None:
    command = "litellm --config /tmp/missing.yaml --port 4000"
    container = runtime.start(ContainerSpec("no-file", STACK.services["litellm"].image, {}, command, port=4000))
    assert "Config file not found: /tmp/missing.yaml" in end_of(container)
    keyless = runtime.start(ContainerSpec("no-key", "ghcr.io/berriai/litellm:v1.106.0", {}, command, port=4000))
    assert "LITELLM_MASTER_KEY is not set" in end_of(keyless)


def test_before_1_106_litellm_without_a_master_key_serves_whoever_asks(
    runtime: LocalRuntime, postgres_engine: PostgresEngine
) -> None:
    variables = {"DATABASE_URL": postgres_engine.url()}
    container = runtime.start(ContainerSpec("open", "ghcr.io/berriai/litellm:v1.102.4", variables, "litellm", port=4000))
    url = f"http://{runtime.public_address('open', 4000)}"
    with httpx.Client(base_url=url, trust_env=False, timeout=20) as stranger:

        def ready() -> bool:
            try:
                return stranger.get("/health/readiness").is_success
            except httpx.TransportError:
                return False

        wait_until(ready, timeout=240, what="LiteLLM", pause=0.5)
        assert stranger.get("/v1/models").status_code == 200
        assert stranger.get("/v1/models", headers={"Authorization": "Bearer anything"}).status_code == 200
    assert container.state is ContainerState.RUNNING


def test_the_worker_image_is_this_repository_with_this_environment(runtime: LocalRuntime) -> None:
    names = "'OPS_HOME', 'PORT', 'POSTGRES_BIN_DIRS'"
    code = f"import os, sys, railway.stack; print(os.getcwd(), sys.executable, *map(os.environ.get, [{names}]))"
    container = runtime.start(ContainerSpec("job", WORKER_IMAGE, {}, f'python -c "{code}"', port=8080))
    port = runtime.public_address("job", 8080).rpartition(":")[2]
    clients = ",".join(map(str, client_bin_dirs().values()))
    assert end_of(container).split() == [str(ROOT), sys.executable, str(ROOT), port, clients]
