"""The step that deploys one service and waits until the new image really runs."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.railway_api.deployment import Deployment
from flows.deploy.fingerprint import fingerprint
from flows.deploy.look import look
from flows.deploy.present import DEPLOYED
from flows.deploy.rollout import arrived, deploy_now
from flows.upgrade.orders import ServiceChange
from flows.upgrade.rules import Way
from flows.upgrade.steps import Context, Step
from railway.stack import SERVICES
from railway.stack import Stack as Definition

__all__ = ["RollOut"]


@dataclass(frozen=True)
class RollOut(Step):
    """Deploys a service as it is configured. Its undo stops what must not write while the data is put back."""

    change: ServiceChange

    @property
    def irreversible(self) -> str:
        """As in `Step`."""
        one = self.change
        if one.way is Way.EMPTY or (one.way is Way.VOLUME and not one.has_volume):
            return one.why
        return ""

    def describe(self) -> str:
        """As in `Step`."""
        one = self.change
        words = [f"deploy {one.service} and wait until {one.new} runs"]
        if one.has_volume:
            words.append("the old container ends first: it has a volume, so it is away meanwhile")
        if one.moves:
            words.append("it migrates its database when it starts")
        if one.way is not Way.IMAGE:
            words.append(f"going back needs its {one.way.value}: {one.why}")
        if one.own:
            words.append("this run works in it and ends with it; the next start of the worker looks whether it came up")
        return "; ".join(words)

    def do(self, context: Context) -> str:
        """As in `Step`."""
        one, api = self.change, context.api
        deployment = self._begun(context)
        if deployment is None:
            facts = {"mark": mark_of(context, one)}
            if one.own:
                self._hand_over(context)
            deployment = deploy_now(api, one.service_id)
            context.note(self, deployment=deployment, **facts)
        timeout = context.pace.deployment + one.health_seconds
        found = arrived(api, one.service_id, deployment, image=one.new, timeout=timeout, poll=context.pace.poll)
        api.set_variables(one.service_id, {DEPLOYED: context.record(self).facts.get("mark") or mark_of(context, one)})
        context.journal.phase = "doing"  # also where it had been handed over
        return f"{found.image} runs"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        one, api = self.change, context.api
        if one.way is Way.IMAGE or one.own:
            return "left to the old one, which takes its place"
        newest = next(iter(api.deployments(one.service_id, first=1)), None)
        if newest is None or newest.id == one.deployment or newest.stopped:
            return "nothing of the new one runs"
        if newest.status.active:
            api.stop(newest.id)
        elif not newest.status.over:
            api.cancel(newest.id)
        return "stopped, until its data is as before"

    def _begun(self, context: Context) -> str | None:
        """The deployment that a try before this one has begun, if anything can still come of it."""
        one = self.change
        noted = context.record(self).facts.get("deployment", "")
        newest = next(iter(context.api.deployments(one.service_id, first=1)), None)
        if newest is None or newest.id == one.deployment:
            return None
        # One whose id was never noted, for the process died before that: it is as good where it runs the new image.
        promising = newest.image == one.new and (not newest.status.over or _serves(newest))
        return newest.id if promising and (newest.id == noted or not noted) else None

    def _hand_over(self, context: Context) -> None:
        """From here on this process may be ended by what it asks for."""
        context.journal.phase = "handed over"
        context.save()
        context.tell(f"{self.name}: handed over: this run ends with the container that it runs in")


def mark_of(context: Context, change: ServiceChange) -> str:
    """Recognise what is configured now, as a deploy does (see `flows/deploy/fingerprint.py`)."""
    there = context.api.inventory().services
    services = {name: service for name, service in SERVICES.items() if name in there}
    present = look(context.api, Definition("production", 3, "minio", services))
    return fingerprint(present.services[change.service], change.names, present)


def _serves(deployment: Deployment) -> bool:
    return deployment.status.active and not deployment.stopped
