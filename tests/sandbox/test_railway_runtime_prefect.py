"""Prefect's server and the worker in containers of the sandbox's Railway: what the stack says of them is enough to work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from blocks.settings import Settings
from blocks.undone import undone_name
from railway.worker.prefect_http import PrefectHttp
from shared.engines.process import wait_until
from shared.sandbox.environment import ROOT
from shared.sandbox.prefect_api import PrefectApi
from shared.sandbox.railway_runtime.container import LocalContainer
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, Mount
from shared.sandbox.railway_runtime.registry import WORKER_IMAGE
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from tests.railway.rendered import rendered, secrets
from tests.railway.stacks import shipped

STACK = shipped(prefect_worker=WORKER_IMAGE)
MADE = secrets(STACK)
SERVER, WORKER = STACK.services["prefect-server"], STACK.services["prefect-worker"]

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def runtime(state_directory: Path) -> Iterator[LocalRuntime]:
    with LocalRuntime(state_directory / "runtime-prefect") as one:
        one.pull(SERVER.image)
        yield one


@pytest.fixture(scope="module")
def server(runtime: LocalRuntime, state_directory: Path) -> LocalContainer:
    """Prefect's server, on its volume."""
    assert SERVER.volume is not None
    assert SERVER.health is not None
    path = SERVER.health.path
    mount = Mount(state_directory / "volume-of-prefect", SERVER.volume.mount)
    variables = rendered(STACK, "prefect-server", MADE)
    spec = ContainerSpec("prefect-server", SERVER.image, variables, SERVER.start_command, mount, SERVER.port)
    container = runtime.start(spec)
    wait(lambda: container.probe(path) == 200, container, "Prefect's server")
    return container


@pytest.fixture(scope="module")
def worker(runtime: LocalRuntime, server: LocalContainer) -> LocalContainer:
    """The worker's container, as its image starts it."""
    assert server.state is ContainerState.RUNNING
    assert WORKER.start_command is None, "what runs is the image's own entrypoint"
    assert runtime.catalogue.find(WORKER.image).command == ("python", "-m", "railway.worker")
    variables = rendered(STACK, "prefect-worker", MADE)
    return runtime.start(ContainerSpec("prefect-worker", WORKER.image, variables, port=WORKER.port))


def wait(condition: Callable[[], bool], container: LocalContainer, what: str) -> None:
    wait_until(lambda: condition() or container.state is not ContainerState.RUNNING, timeout=400, what=what)
    assert container.state is ContainerState.RUNNING, text(container)


def text(container: LocalContainer) -> str:
    return "\n".join(line.message for line in container.logs(1000))


def api(runtime: LocalRuntime) -> PrefectApi:
    auth = MADE["prefect-server", "PREFECT_SERVER_API_AUTH_STRING"]
    return PrefectApi(f"http://{runtime.public_address('prefect-server', 4200)}/api", auth=auth)


def test_a_run_that_is_scheduled_there_is_run_by_the_worker_that_registered_everything(
    runtime: LocalRuntime, worker: LocalContainer
) -> None:
    assert WORKER.health is not None
    path = WORKER.health.path
    wait(lambda: worker.probe(path) == 200, worker, "the gateway")
    wait(lambda: "worker started as pid" in text(worker), worker, "the worker to be started")
    said = text(worker)
    steps = ("blocks", "deployments", "deployments of earlier versions", "automations")
    assert [step for step in steps if f"done: {step} (" not in said] == [], said
    with api(runtime) as prefect:
        wanted = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
        assert len(prefect.deployments()) == len(wanted)
        run = prefect.start_run("maintenance/on-demand", {"request": {"action": "list"}})
        wait(lambda: prefect.run(run)["state_type"] in ("COMPLETED", "FAILED", "CRASHED"), worker, "the run's end")
        assert prefect.run(run)["state_type"] == "COMPLETED", prefect.logs(run)
        wait(lambda: "no maintenance window is open" in prefect.logs(run), worker, "what it logged")  # logs come in bulk


def test_its_sweep_is_told_what_could_not_be_done_without_a_store(runtime: LocalRuntime, worker: LocalContainer) -> None:
    assert worker.state is ContainerState.RUNNING
    variables = rendered(STACK, "prefect-worker", MADE)
    url = f"http://{runtime.public_address('prefect-server', 4200)}/api"
    settings = Settings(prefect_api_url=url, prefect_api_auth_string=SecretStr(variables["PREFECT_API_AUTH_STRING"]))
    with PrefectHttp(settings) as prefect:
        wait(lambda: prefect.recall(undone_name("ops")) is not None, worker, "the last step to fail")
        assert set(prefect.recall(undone_name("ops"))) == {"unfinished upgrades"}


def test_a_deployment_of_it_ends_it_in_order(worker: LocalContainer) -> None:
    worker.stop(grace=120)
    assert (worker.state, worker.exit_status) == (ContainerState.EXITED, 0), text(worker)
    for secret in ("BACKUP_SIGNING_KEY", "GATEWAY_TOKEN"):
        assert MADE["prefect-worker", secret] not in text(worker)
