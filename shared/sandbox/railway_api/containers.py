"""The container of a deployment: started, watched, started again as its restart policy says, and stopped."""

from __future__ import annotations

import time

from shared.engines.process import EngineError
from shared.sandbox.railway_api.deployment_model import Deployment
from shared.sandbox.railway_api.model import Environment
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.snapshots import container_spec
from shared.sandbox.railway_runtime.containers import ContainerState, ImageMissing

__all__ = ["keep_logs", "lives_on", "start_again", "start_container", "stop_container"]

_KEPT_LINES = 5000


def start_container(platform: Platform, environment: Environment, deployment: Deployment) -> None:
    """Start it with what the deployment was made from. Holds the lock; the runtime returns at once.

    Raises:
        ImageMissing, EngineError: the runtime cannot.
    """
    keep_logs(deployment)
    deployment.container = platform.runtime.start(container_spec(platform, environment, deployment))
    deployment.instance_status = "RUNNING"


def start_again(platform: Platform, environment: Environment, deployment: Deployment) -> None:
    """Start it again; where the runtime cannot, it has crashed. Holds the lock."""
    deployment.restart_at = None
    try:
        start_container(platform, environment, deployment)
    except (ImageMissing, EngineError):
        deployment.instance_status = "CRASHED"


def keep_logs(deployment: Deployment) -> None:
    """Keep what the container wrote, as it is about to be replaced."""
    if deployment.container is not None:
        deployment.earlier_logs.extend(deployment.container.logs(_KEPT_LINES))
        deployment.container = None


def lives_on(platform: Platform, environment: Environment, deployment: Deployment) -> bool:
    """Look at a deployment's container and, where it has ended, do as the restart policy says. Holds the lock.

    Returns: whether it runs, or is about to again.
    """
    if deployment.restart_at is not None:
        if time.monotonic() >= deployment.restart_at:
            deployment.restarts += 1
            start_again(platform, environment, deployment)
        return deployment.instance_status != "CRASHED"
    if deployment.container is None or deployment.instance_status != "RUNNING":
        return False
    state = deployment.container.state
    if state is ContainerState.RUNNING:
        return True
    settings = deployment.snapshot.settings
    policy, crashed = settings.restart_policy, state is ContainerState.CRASHED
    if policy == "ALWAYS" or (policy == "ON_FAILURE" and crashed and deployment.restarts < settings.restarts):
        deployment.instance_status = "RESTARTING"
        deployment.restart_at = time.monotonic() + platform.pace.restart
        return True
    deployment.instance_status = state.value
    return False


def stop_container(platform: Platform, deployment: Deployment, *, status: str | None = None, instance: str = "STOPPED") -> None:
    """Stop it, waiting for as long as the deployment may drain. Does not hold the lock meanwhile.

    Args:
        status: what the deployment is then, `REMOVED` or `FAILED`; None leaves it as it is.
        instance: what its instance is from now on, where the deployment stays.
    """
    variables = deployment.snapshot.variables
    named = variables.get("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "")
    grace = float(named) if named.isdigit() else deployment.snapshot.settings.draining_seconds
    with platform.lock:
        container, deployment.restart_at = deployment.container, None
        if status == "REMOVED":
            deployment.status = "REMOVING"
        deployment.instance_status = "REMOVING" if status else instance
    if container is not None:
        container.stop(grace)
    with platform.lock:
        now = platform.clock.now()
        keep_logs(deployment)
        deployment.instance_status = "REMOVED" if status else instance
        if status:
            deployment.status, deployment.removed_at = status, now
        deployment.status_at = deployment.updated_at = now
