"""What works on its own on the platform: deployments on their way, and containers that end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.containers import lives_on, start_again, stop_container
from shared.sandbox.railway_api.deployment_model import Deployment, Snapshot
from shared.sandbox.railway_api.model import Environment, ServiceInstance
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.references import waits_for
from shared.sandbox.railway_api.rollout import Rollout
from shared.sandbox.railway_api.snapshots import namespaces, take_snapshot

__all__ = ["Machine"]


class Machine:
    """Carries deployments out, each in a thread of its own, and looks after what runs. All end in `join`.

    Methods are called with the platform's lock held, and return before what they begin is done.
    """

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._closing = platform.closing
        self._threads: set[threading.Thread] = set()
        self._keeper = threading.Thread(target=self._keep, name="railway keeper", daemon=True)

    def start(self) -> None:
        """Begin to look after what runs."""
        self._keeper.start()

    def deploy(
        self,
        environment: Environment,
        instance: ServiceInstance,
        *,
        reason: Literal["deploy", "redeploy", "rollback"] = "deploy",
        snapshot: Snapshot | None = None,
        after: Sequence[Deployment] = (),
    ) -> Deployment:
        """Begin a deployment. One that is on its way gives up.

        Args:
            snapshot: what to deploy; default the service as it is configured now. after: deployments to wait for.
        Raises:
            ApiError: the service has no image.
        """
        taken = snapshot or take_snapshot(self._platform, environment, instance)
        if not taken.settings.image:
            raise ApiError("Service has no source to deploy")
        deployment = Deployment(
            environment_id=environment.id,
            service_id=instance.service_id,
            snapshot=taken,
            reason=reason,
            created_at=self._platform.clock.now(),
        )
        for older in instance.deployments:
            older.is_given_up |= older.in_progress
        instance.deployments.append(deployment)
        rollout = Rollout(self._platform, environment, instance, deployment, after=after)
        self.spawn(rollout.run)
        return deployment

    def deploy_batch(self, environment: Environment, service_ids: Iterable[str]) -> list[Deployment]:
        """Deploy several services, each after those that its variables refer to; those without an image stay as they are.

        Single deployments are never ordered: there is no depends_on (facts: railway.md 1.4).
        """
        names = {
            self._platform.service_name(environment, one): one
            for one in service_ids
            if one in environment.instances and environment.instances[one].settings.image
        }
        order = waits_for(namespaces(self._platform, environment), names)
        begun: dict[str, Deployment] = {}
        for name in sorted(names, key=lambda one: len(order[one])):  # who waits for another waits for more than that one
            after = [begun[one] for one in order[name]]
            begun[name] = self.deploy(environment, environment.instances[names[name]], after=after)
        return list(begun.values())

    def restart(self, environment: Environment, deployment: Deployment) -> None:
        """The same image with the same variables, whatever was set since.

        Raises:
            ApiError: it is not active; or it was stopped, and the platform does not start those.
        """
        if not deployment.is_current:
            raise ApiError("Deployment is not active and cannot be restarted")
        if deployment.instance_status == "STOPPED" and not self._platform.behaviour.restart_starts_stopped:
            raise ApiError("Deployment is stopped and cannot be restarted")

        def again() -> None:
            stop_container(self._platform, deployment, instance="RESTARTING")
            with self._platform.lock:
                if deployment.is_current and not self._closing.is_set():
                    deployment.restarts = 0
                    deployment.status = "SUCCESS"
                    start_again(self._platform, environment, deployment)

        deployment.instance_status = "RESTARTING"
        self.spawn(again)

    def stop(self, deployment: Deployment) -> None:
        """Stop its containers and keep it.

        Raises:
            ApiError: it is not active.
        """
        if not deployment.is_current:
            raise ApiError("Deployment is not active and cannot be stopped")
        self.spawn(lambda: stop_container(self._platform, deployment))

    def remove(self, deployment: Deployment) -> None:
        """Stop it and move it to history. One on its way gives up; one that is gone stays so."""
        if deployment.in_progress:
            deployment.is_given_up = True
        elif deployment.is_current:
            deployment.status = "REMOVING"
            self.spawn(lambda: stop_container(self._platform, deployment, status="REMOVED"))

    def cancel(self, deployment: Deployment) -> None:
        """Let one on its way give up.

        Raises:
            ApiError: it is not on its way.
        """
        if not deployment.in_progress:
            raise ApiError("Deployment is not in progress and cannot be cancelled")
        deployment.is_given_up = True

    def end(self, instance: ServiceInstance) -> None:
        """Remove all deployments of a service that is deleted."""
        for deployment in instance.deployments:
            self.remove(deployment)

    def spawn(self, work: Callable[[], None]) -> None:
        """Do something beside the requests, in a thread that `join` waits for."""
        self._threads = {one for one in self._threads if one.is_alive()}
        thread = threading.Thread(target=work, name="railway work", daemon=True)
        self._threads.add(thread)
        thread.start()

    def give_up(self) -> None:
        """Let everything that is on its way give up, and nothing begin."""
        self._closing.set()

    def join(self) -> None:
        """Wait until all threads have ended. Called without the lock."""
        with self._platform.lock:
            threads = [self._keeper, *self._threads]
        for thread in threads:
            thread.join()

    def _keep(self) -> None:
        """Look at what runs, and start what ended again, or say that it did."""
        while not self._closing.wait(self._platform.pace.poll):
            with self._platform.lock:
                for environment in self._platform.environments():
                    for instance in environment.instances.values():
                        for deployment in instance.deployments:
                            self._look(environment, deployment)

    def _look(self, environment: Environment, deployment: Deployment) -> None:
        watched = deployment.restart_at is not None or deployment.instance_status in ("RUNNING", "CRASHED")
        if self._closing.is_set() or not deployment.is_active or not watched:
            return
        if not lives_on(self._platform, environment, deployment) and deployment.instance_status == "CRASHED":
            deployment.status = "CRASHED"
            deployment.status_at = deployment.updated_at = self._platform.clock.now()
