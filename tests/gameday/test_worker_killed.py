"""A container that is killed whenever Railway starts it: the platform gives up, the sweep says so, and it is taken back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.railway import RailwayEnvironment
from blocks.railway_api.models import DeploymentStatus
from flows.health.observation import Status
from flows.health.targets import Railway, Targets
from shared.engines.process import wait_until
from shared.gameday.causes.langfuse import WorkerKilled
from shared.gameday.ground import Ground
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from tests.health.looks import look
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator

SERVICE = "langfuse-worker"


class Place(Ground):
    """One service of that name, whose program is as good as any other to be killed."""

    def __init__(self, directory: Path) -> None:
        self.runtime = LocalRuntime(directory / "containers")
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.railway.start()
        operator = Operator(self.railway)
        settings = {"startCommand": "sleep 1000", "restartPolicyType": "ALWAYS"}
        operator.deployed(operator.service("busybox:1.37", name=SERVICE, **settings)[1])
        operator.close()
        token = SecretStr(self.railway.token("workspace"))
        project, environment = self.railway.project_id, self.railway.environment_id
        place = RailwayEnvironment(
            project_id=project, environment_id=environment, token=token, token_kind="workspace", api_url=self.railway.url
        )
        self.api = place.open()
        self.target = Railway(self.railway.url, "workspace", token, project, environment)

    def close(self) -> None:
        self.api.close()
        self.railway.close()

    def bad(self) -> dict[str, Status]:
        return look(Targets(railway=self.target, timeout=20), SERVICE).bad()


@pytest.fixture
def place(state_directory: Path) -> Iterator[Place]:
    made = Place(state_directory / "worker-killed")
    yield made
    made.close()


def test_it_is_killed_until_railway_gives_up_and_is_restarted_for_ever_afterwards(place: Place) -> None:
    assert place.bad() == {}
    cause = WorkerKilled(place)
    cause.undo()
    cause.cause()
    assert (cause.left(), place.bad()) == ("Railway has given up", {"deployment": Status.DOWN})
    newest = place.api.deployments(place.railway.service_id(SERVICE), first=1)[0]
    assert newest.status is DeploymentStatus.CRASHED
    assert place.runtime.containers(SERVICE) == []
    cause.undo()
    assert (cause.left(), place.bad()) == ("", {})
    assert place.api.inventory().services[SERVICE].restart_policy == "ALWAYS"
    (container,) = place.runtime.containers(SERVICE)
    container.kill()
    wait_until(lambda: place.runtime.containers(SERVICE) not in ([], [container]), timeout=20, what="its next start")
