"""Langfuse's worker says that it is well, and takes no jobs; or it is killed as often as it is started."""

from __future__ import annotations

import time

from blocks.railway_api.models import DeploymentStatus, ServiceSettings
from shared.engines.process import EngineError
from shared.gameday.causes.cause import Cause

__all__ = ["WorkerKilled", "WorkerWedged"]

_RETRIES = 3
_KILLED = 137
"""128 + 9: what a container ends with that takes more memory than it may."""
_GIVES_UP_S, _LOOK_S = 120.0, 0.05


class WorkerWedged(Cause):
    """It lost the lock of a queue (langfuse#15509): its health is 200, and jobs wait."""

    key, numbers, what = "worker-wedged", (1, 16), "Langfuse's worker lost its locks: healthy, and no job is taken"
    service, aspects = "langfuse-worker", ("consumption",)
    runbook = "unwedge-worker"
    brews = 20.0

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.behave("langfuse-worker", wedged=True)
        self.ground.send_trace()

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.behave("langfuse-worker")

    def left(self) -> str:
        """As in `Cause`."""
        with self.ground.redis() as client:
            waiting = sum(int(client.llen(key)) for key in client.scan_iter("bull:*ingestion-queue:wait"))
        return f"{waiting} jobs wait" if waiting else ""


class WorkerKilled(Cause):
    """A trace is larger than its heap (langfuse#10367): it is killed whenever it is started, until Railway gives up.

    The service was made in the dashboard, where Railway restarts what fails a few times only; this project's own services
    are restarted for ever. When somebody looks, the job has failed as often as it may, and is not tried again.
    """

    key, numbers, what = "worker-killed", (19,), f"Langfuse's worker is killed (exit {_KILLED}) until Railway gives up"
    service, aspects = "langfuse-worker", ("health", "ready", "deployment")
    runbook = "restart-service"

    def cause(self) -> None:
        """As in `Cause`."""
        self._restarts(ServiceSettings(restart_policy="ON_FAILURE", restart_retries=_RETRIES))
        deadline, killed = time.monotonic() + _GIVES_UP_S, 0
        while not self.left():
            if time.monotonic() > deadline:
                raise EngineError(f"langfuse-worker: killed {killed} times, and Railway still starts it again")
            for container in self.ground.runtime.containers("langfuse-worker"):
                container.kill()
                if container.exit_status != _KILLED:
                    raise EngineError(f"langfuse-worker: ended with {container.exit_status}, expected {_KILLED}")
                killed += 1
            time.sleep(_LOOK_S)

    def undo(self) -> None:
        """As in `Cause`."""
        if self.ground.api.inventory().services["langfuse-worker"].restart_policy != "ALWAYS":
            self._restarts(ServiceSettings(restart_policy="ALWAYS"))

    def left(self) -> str:
        """As in `Cause`."""
        newest = self.ground.api.deployments(self.ground.railway.service_id("langfuse-worker"), first=1)[0]
        return "Railway has given up" if newest.status is DeploymentStatus.CRASHED else ""

    def _restarts(self, settings: ServiceSettings) -> None:
        self.ground.api.update_service(self.ground.railway.service_id("langfuse-worker"), settings)
        self.ground.deploy("langfuse-worker")
