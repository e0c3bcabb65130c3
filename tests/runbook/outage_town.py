"""A Railway with several services, whose containers are small processes; some listen where the checks look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.railway import RailwayEnvironment
from blocks.settings import Settings
from flows.health.targets import Railway, Targets
from flows.runbook.restarting import Waits
from flows.stack import Stack
from shared.engines.process import free_port, wait_until
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from tests.runbook.cases import CANARY
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessContainer, ProcessRuntime

__all__ = ["WAITS", "Services"]

WAITS = Waits(deployment=120, settle=30, poll=0.05)
CHANGES = ("deploymentRestart", "deploymentRedeploy", "serviceInstanceDeployV2", "serviceInstanceLimitsUpdate")
_PATCH = "environmentPatchCommit"


class Services:
    """The services of one test.

    Args:
        images: by service. volumes: services that have one.
    """

    def __init__(
        self, directory: Path, store: BackupStore, keys: BackupKeys, images: Mapping[str, str], volumes: tuple[str, ...] = ()
    ) -> None:
        self.ports = {name: free_port() for name in images}
        self.runtime = ProcessRuntime(directory, self.ports)
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.store, self.images, self.volumes = store, images, volumes
        self.stack = Stack(store.stack, Settings(), store, keys, None, None, None, None)

    def __enter__(self) -> Services:
        self.railway.start()
        self.operator = Operator(self.railway)
        self.ids: dict[str, str] = {}
        for name, image in self.images.items():
            _, self.ids[name] = self.operator.service(
                image, name=name, volume=name in self.volumes, variables={"PASSWORD": CANARY}, restartPolicyType="NEVER"
            )
            self.operator.deployed(self.ids[name])
        wait_until(
            lambda: all(self.container(name).probe("/") is not None for name in self.images), timeout=60, what="all to listen"
        )
        self.mark()
        return self

    def __exit__(self, *_: object) -> None:
        self.operator.close()
        self.railway.close()

    def container(self, name: str) -> ProcessContainer:
        """The newest of a service."""
        return self.runtime.of(name)[-1]

    def block(self) -> RailwayEnvironment:
        return railway_block(self.railway)

    def targets(self) -> Targets:
        """Langfuse by HTTP where it is there, and all by what Railway says of their deployments."""
        token = SecretStr(self.railway.token("workspace"))
        there = Railway(self.railway.url, "workspace", token, self.railway.project_id, self.railway.environment_id)
        urls = {name: f"http://127.0.0.1:{port}" for name, port in self.ports.items()}
        return Targets(
            timeout=5.0,
            langfuse_web=urls.get("langfuse-web", ""),
            langfuse_worker=urls.get("langfuse-worker", ""),
            railway=there,
        )

    def crash(self, name: str) -> None:
        """Let the container end, and Railway notice."""
        self.container(name).kill()
        wait_until(lambda: not self.railway.running(name), timeout=20, what="Railway to notice")

    def mark(self) -> None:
        """Count changes from now on."""
        self._before = len(self._all_changes())

    def changes(self) -> list[str]:
        """What was asked of Railway since the services came up, in order."""
        return self._all_changes()[self._before :]

    def _all_changes(self) -> list[str]:
        return [name for one in self.railway.received() for name in (*CHANGES, _PATCH) if name in one.fields]

    def begun(self) -> list[str]:
        """The services whose containers were started, in order."""
        return [one.spec.service for one in self.runtime.containers]
