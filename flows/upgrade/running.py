"""The first step, and the last of a way back: what runs is noted, and what ran is deployed again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from blocks.errors import DeploymentFailed, RailwayError
from blocks.railway_api.models import DeploymentStatus
from flows.deploy.present import DEPLOYED
from flows.deploy.rollout import arrived, deploy_now
from flows.lease import utc_now
from flows.upgrade.orders import ServiceChange
from flows.upgrade.steps import Context, Step

__all__ = ["REQUESTS", "KeepRunning", "delete_where_set"]

_NOT_THERE = "(none)"
REQUESTS = "requests, and failed ones"
RECENT = timedelta(minutes=30)
"""What the requests of after are compared with."""


@dataclass(frozen=True)
class KeepRunning(Step):
    """Notes which deployments run; its undo deploys the old images again, in order, where they do not run any more.

    By then configuration and data are as they were: their own steps come after this one, and are undone before it.
    """

    changes: tuple[ServiceChange, ...]

    def describe(self) -> str:
        """As in `Step`."""
        return f"note what runs: {', '.join(f'{one.service} {one.old}' for one in self.changes)}"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        noted: dict[str, str] = {}
        for one in self.changes:
            mark = context.api.variables(one.service_id).get(DEPLOYED, _NOT_THERE)
            noted |= {f"mark of {one.service}": mark, f"deployment of {one.service}": one.deployment}
        if (requests := context.outside.requests(utc_now() - RECENT)) is not None:
            noted[REQUESTS] = f"{requests[0]} {requests[1]}"
        known = context.record(self).facts
        context.note(self, **{name: value for name, value in noted.items() if name not in known})  # the first look counts
        return f"{len(self.changes)} services noted"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        again = [one.service for one in self.changes if self._run_again(context, one)]
        return f"{', '.join(again)} deployed with the old image" if again else "what ran still runs"

    def _run_again(self, context: Context, change: ServiceChange) -> bool:
        """Have the old image run; returns whether it had to be deployed."""
        facts = context.record(self).facts
        latest = context.api.inventory().services[change.service].latest
        mark = facts.get(f"mark of {change.service}", _NOT_THERE)
        if mark == _NOT_THERE:
            delete_where_set(context, change.service_id, DEPLOYED)  # first: Railway may deploy because of it
        untouched = latest is not None and latest.id == facts.get(f"deployment of {change.service}")
        if change.own and latest is not None and latest.image == change.old:
            untouched = True  # deployed back by a run that ended with it
        deployed = False
        if not (untouched and latest and latest.status is DeploymentStatus.SUCCESS and not latest.stopped):
            self._deploy(context, change)
            deployed = True
        if mark != _NOT_THERE:
            context.api.set_variables(change.service_id, {DEPLOYED: mark})
        return deployed

    def _deploy(self, context: Context, change: ServiceChange) -> None:
        """Deploy, or go on waiting for what a process before this one has deployed."""
        key = f"deployed back: {change.service}"
        begun = context.record(self).facts.get(key, "")
        if begun and self._is_over(context, begun):
            begun = ""
        if not begun:
            begun = deploy_now(context.api, change.service_id)
            context.note(self, **{key: begun})
        timeout = context.pace.deployment + change.health_seconds
        arrived(context.api, change.service_id, begun, image=change.old, timeout=timeout, poll=context.pace.poll)

    def _is_over(self, context: Context, deployment: str) -> bool:
        try:
            found = context.api.deployment(deployment)
        except (DeploymentFailed, RailwayError) as error:
            if not error.permanent:
                raise
            return True  # Railway does not know it any more
        return found.status.over and not (found.status is DeploymentStatus.SUCCESS and not found.stopped)


def delete_where_set(context: Context, service_id: str, name: str) -> None:
    """Delete a variable, if it is there."""
    if name in context.api.variables(service_id):
        context.api.delete_variable(service_id, name)
