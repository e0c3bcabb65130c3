"""Deploy services and wait until they are up, those of one wave together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from blocks.errors import DeploymentFailed
from blocks.railway_api.api import RailwayApi
from blocks.railway_api.certainty import certainly
from blocks.railway_api.deployment import Deployment, DeploymentStatus
from blocks.railway_api.waiting import SETTLE
from flows.deploy.actions import Deploy
from flows.deploy.carry_out import Hands
from flows.deploy.fingerprint import fingerprint
from flows.deploy.present import DEPLOYED, Present

__all__ = ["Pace", "arrived", "deploy_now", "roll_out"]

_OVERTAKEN = 3
"""So often a deployment may be overtaken while it is waited for; more is somebody who deploys all the time."""


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds.

    Attributes:
        deployment: from the request until it is up, beyond its own health check: pulling the image, migrations.
        poll: between two looks; Railway allows a thousand requests an hour on its smallest plan.
        setup: SETUP may run for so long.
    """

    deployment: float = 900.0
    poll: float = 5.0
    setup: float = 600.0


def roll_out(
    api: RailwayApi,
    hands: Hands,
    deploys: Sequence[Deploy],
    look: Callable[[Collection[str]], Present],
    pace: Pace,
    told: Callable[[Deploy, str], None],
) -> None:
    """Deploy the services of one wave, and note on each what was deployed once it is up.

    Args:
        look: reads what is configured, afresh of the services that it is told: its fingerprint is what is noted, so that a
            change that is made meanwhile is seen next time.
        told: is told the outcome of each.
    Raises:
        DeploymentFailed: one did not come up. The others of the wave are waited for all the same.
    """
    present = look([deploy.service for deploy in deploys])
    failed: list[DeploymentFailed] = []
    begun = []
    for deploy in deploys:
        mark = fingerprint(present.services[deploy.service], deploy.names, present)
        if deploy.last_word:  # from here on this program may be ended by what it asks for
            api.set_variables(hands.id_of(deploy.service), {DEPLOYED: mark})
            deploy_now(api, hands.id_of(deploy.service))
            told(deploy, "handed over: this run ends with the container that it runs in")
            continue
        begun.append((deploy, mark, deploy_now(api, hands.id_of(deploy.service))))
    for deploy, mark, deployment in begun:
        there = present.services[deploy.service]
        try:
            timeout = pace.deployment + (there.shape.health_timeout or 0)
            arrived(api, hands.id_of(deploy.service), deployment, image=there.image, timeout=timeout, poll=pace.poll)
        except DeploymentFailed as error:
            failed.append(error)
            told(deploy, "failed")
            continue
        api.set_variables(hands.id_of(deploy.service), {DEPLOYED: mark})
        told(deploy, "up")
    if failed:
        raise failed[0]


def arrived(
    api: RailwayApi, service_id: str, deployment: str, *, image: str | None, timeout: float, poll: float, settle: float = SETTLE
) -> Deployment:
    """Wait for a deployment, or for one of the same image that took its place: a new image may be deployed by Railway, too.

    Args:
        deployment: its id. image: that has to run; None: whichever, and no other deployment will do.
        timeout, poll, settle: seconds, as in `wait_for_deployment`.
    Raises:
        DeploymentFailed: it did not come up, or was taken down and nothing of the same image came after it.
    """
    for _ in range(_OVERTAKEN):
        try:
            return api.wait_for_deployment(deployment, timeout=timeout, poll=poll, image=image, settle=settle)
        except DeploymentFailed as error:
            newest = next(iter(api.deployments(service_id, first=1)), None)
            overtaken = error.status == DeploymentStatus.REMOVED and newest is not None and newest.id != deployment
            if not overtaken or newest is None or newest.image is None or newest.image != image:
                raise
            deployment = newest.id
    return api.wait_for_deployment(deployment, timeout=timeout, poll=poll, image=image, settle=settle)


def deploy_now(api: RailwayApi, service_id: str) -> str:
    """Deploy a service as it is configured; returns the deployment's id, also where the answer was lost on its way."""
    since = datetime.now(UTC) - timedelta(minutes=1)  # clocks differ
    before = {one.id for one in api.deployments(service_id, first=5)}

    def find() -> str | None:
        newest = next(iter(api.deployments(service_id, first=1)), None)
        return newest.id if newest and newest.id not in before and newest.created_at >= since else None

    return certainly(lambda: api.deploy(service_id), find)
