"""One deployment from its beginning to SUCCESS, FAILED or REMOVED, in a thread of its own.

The order of things is the platform's (facts: railway.md 2.5, 3): without a volume the old deployment serves until the new one
is healthy, and with one it is stopped first, so that whatever is wrong with the new one is an outage. The health check is asked
here and never again; without one, a container that has been started is a success.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from shared.engines.process import EngineError
from shared.sandbox.railway_api.containers import lives_on, start_container, stop_container
from shared.sandbox.railway_api.deployment_model import Deployment, Event
from shared.sandbox.railway_api.model import Environment, ServiceInstance
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.snapshots import container_spec
from shared.sandbox.railway_runtime.containers import ContainerState, ImageMissing

__all__ = ["Rollout"]

_HEALTH_SECONDS = 300.0


class _GivenUp(Exception):
    """The deployment was cancelled, overtaken, or the platform closes."""


class _Failed(Exception):
    """It cannot become good; says why."""


class Rollout:
    """The way of one deployment.

    Args:
        after: deployments that are to end first, good or bad: sources do not say what follows where one fails.
    """

    def __init__(
        self,
        platform: Platform,
        environment: Environment,
        instance: ServiceInstance,
        deployment: Deployment,
        *,
        after: Sequence[Deployment],
    ) -> None:
        self._platform = platform
        self._environment = environment
        self._instance = instance
        self._deployment = deployment
        self._after = after
        self._closing = platform.closing

    def run(self) -> None:
        """All of it; what goes wrong is the deployment's status and its events."""
        try:
            self._wait_for_others()
            self._build()
            self._deploy()
        except _GivenUp:
            self._end("REMOVED")
        except _Failed:
            self._end("FAILED")
        except BaseException:
            self._end("FAILED")  # the runtime itself is broken: nobody is to wait for this one for ever
            raise

    def _wait_for_others(self) -> None:
        mine = self._instance.deployments
        older = mine[: mine.index(self._deployment)]
        self._wait(lambda: not any(one.in_progress for one in older))
        if self._after:
            self._status("WAITING")
            with self._step("WAIT_FOR_DEPENDENCIES"):
                self._wait(lambda: not any(one.in_progress for one in self._after))

    def _build(self) -> None:
        self._status("INITIALIZING")
        self._status("BUILDING")
        with self._step("BUILD_IMAGE") as event:
            event.payload["skipped"] = True  # the image is somebody else's
            until = time.monotonic() + self._platform.pace.build
            self._wait(lambda: time.monotonic() >= until)

    def _deploy(self) -> None:
        self._status("DEPLOYING")
        with self._platform.lock:
            has_volume = self._environment.volume_of(self._instance.service_id) is not None
        if has_volume:
            with self._step("MIGRATE_VOLUMES"):
                self._end_older()
        self._pull()
        self._pre_deploy()
        with self._step("CREATE_CONTAINER"), self._platform.lock:
            self._check()
            try:
                start_container(self._platform, self._environment, self._deployment)
            except (ImageMissing, EngineError) as error:
                raise _Failed(f"Failed to create container: {error}") from None
        path = self._deployment.snapshot.settings.get("healthcheckPath")
        if path:
            with self._step("HEALTHCHECK") as event:
                self._health(str(path), event)
        with self._platform.lock:
            self._check()
            self._deployment.succeeded = True
            self._status("SUCCESS")
        if not has_volume:
            self._overlap()
            self._end_older()

    def _pull(self) -> None:
        """The platform keeps the images of its own deployments; all others come from a registry, which may have lost them."""
        if self._deployment.snapshot.is_retained:
            return
        image = self._deployment.snapshot.settings.image or ""
        with self._step("PUBLISH_IMAGE"):
            try:
                self._deployment.digest = self._platform.runtime.pull(image)
            except ImageMissing:
                raise _Failed(f"Failed to pull image {image}: manifest unknown") from None
            except EngineError as error:
                raise _Failed(f"Failed to pull image {image}: {error}") from None

    def _pre_deploy(self) -> None:
        """In a container of its own, with network and variables but without the volume."""
        command = self._deployment.snapshot.settings.get("preDeployCommand")
        if not command:
            return
        text = command if isinstance(command, str) else " && ".join(command)
        with self._step("PRE_DEPLOY_COMMAND"):
            with self._platform.lock:
                self._check()
                spec = container_spec(self._platform, self._environment, self._deployment)
                container = self._platform.runtime.start(replace(spec, start_command=text, mount=None, port=None))
            try:
                self._wait(lambda: container.state is not ContainerState.RUNNING)
                self._deployment.earlier_logs.extend(container.logs(1000))
                if container.state is ContainerState.CRASHED:
                    raise _Failed("Pre-deploy command failed")
            finally:
                container.stop(0)

    def _health(self, path: str, event: Event) -> None:
        deployment, variables = self._deployment, self._deployment.snapshot.variables
        seconds = variables.get("RAILWAY_HEALTHCHECK_TIMEOUT_SEC") or deployment.snapshot.settings.get("healthcheckTimeout")
        deadline = time.monotonic() + float(seconds or _HEALTH_SECONDS) * self._platform.pace.health
        while True:
            self._check()
            event.payload["attempt"] = event.payload.get("attempt", 0) + 1
            with self._platform.lock:
                if not lives_on(self._platform, self._environment, deployment):
                    raise _Failed("The container ended before it was healthy")
                container = deployment.container
            status = container.probe(path) if container else None
            if status == 200:
                return
            event.payload["detail"] = f"{path} answered {status}" if status else f"{path} did not answer"
            if time.monotonic() >= deadline:
                raise _Failed("1/1 replicas never became healthy")
            self._closing.wait(self._platform.pace.poll)

    def _overlap(self) -> None:
        """The time in which both serve; none by default."""
        snapshot = self._deployment.snapshot
        seconds = snapshot.variables.get("RAILWAY_DEPLOYMENT_OVERLAP_SECONDS") or snapshot.settings.get("overlapSeconds") or 0
        self._closing.wait(float(seconds))

    def _end_older(self) -> None:
        """SIGTERM and, after their draining seconds, SIGKILL to what ran before."""
        with self._platform.lock:
            older = [one for one in self._instance.deployments if one is not self._deployment and one.is_current]
        for one in older:
            stop_container(self._platform, one, status="REMOVED")

    def _end(self, status: str) -> None:
        if self._deployment.container is not None:
            stop_container(self._platform, self._deployment, status=status)
        else:
            with self._platform.lock:
                self._status(status)
                self._deployment.removed_at = self._platform.clock.now()

    def _status(self, status: str) -> None:
        with self._platform.lock:
            self._deployment.status = status
            self._deployment.status_at = self._deployment.updated_at = self._platform.clock.now()

    def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._check()
            self._closing.wait(self._platform.pace.poll)
        self._check()

    def _check(self) -> None:
        if self._deployment.is_given_up or self._closing.is_set():
            raise _GivenUp

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[Event]:
        event = Event(step=name, created_at=self._platform.clock.now())
        with self._platform.lock:
            self._deployment.events.append(event)
        began = time.monotonic()
        try:
            yield event
        except _Failed as error:
            event.payload["error"] = str(error)
            raise
        finally:
            event.payload["durationMs"] = round((time.monotonic() - began) * 1000)
            event.completed_at = self._platform.clock.now()
