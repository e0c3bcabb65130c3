"""The steps that stop who uses the server, and start them again: with the new one, or, on the way back, with the old one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from blocks.errors import ServiceError
from blocks.railway_api.deployment import Deployment, InstanceStatus
from flows.deploy.rollout import deploy_now
from flows.upgrade.postgres.fence import close_for_writers, open_for_writers
from flows.upgrade.postgres.new_server import SERVED
from flows.upgrade.postgres.orders import Consumer, PostgresPlan
from flows.upgrade.postgres.servers import ACCESS, servers
from flows.upgrade.steps import Context, Step

__all__ = ["StartConsumers", "StopWriters", "in_start_order", "stop"]

_ALIVE = frozenset({InstanceStatus.RUNNING, InstanceStatus.RESTARTING, InstanceStatus.INITIALIZING, InstanceStatus.CREATED})
_STOPPED_S = 900.0
"""Seconds that a consumer may take to end: its draining time, and then some."""


def in_start_order(names: Iterable[str], refers: Mapping[str, Sequence[str]], known: Sequence[str]) -> list[str]:
    """Sort services so that each comes after those that its variables refer to; a pooler so comes before who uses it.

    Args:
        refers: to which services each one's variables refer. known: the project's own order, which decides among equals.
    """
    ordered: list[str] = []
    wanted = sorted(names, key=lambda one: (known.index(one) if one in known else -1, one))

    def visit(name: str, above: frozenset[str]) -> None:
        if name in ordered or name in above:
            return
        for other in wanted:
            if other in refers.get(name, ()):
                visit(other, above | {name})
        ordered.append(name)

    for name in wanted:
        visit(name, frozenset())
    return ordered


@dataclass(frozen=True)
class StopWriters(Step):
    """Stops the consumers, the last to start first, and closes the old server for writers.

    Its undo, the last but what the new server is about, opens it and deploys whoever does not run as before.
    """

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        names = ", ".join(one.service for one in reversed(self.plan.stoppable)) or "nobody"
        return (
            f"the downtime begins: stop {names}; set the old server read-only (default_transaction_read_only, by ALTER SYSTEM) "
            "and end every connection to it"
        )

    def do(self, context: Context) -> str:
        """As in `Step`."""
        for one in reversed(self.plan.stoppable):
            stop(context, one)
        before = close_for_writers(servers(context).old, self.plan.databases)
        context.note(self, written=json.dumps(before))
        return f"{len(self.plan.stoppable)} services are stopped, the old server takes no writes"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        open_for_writers(servers(context).old)
        again = [one.service for one in self.plan.stoppable if self._run_again(context, one)]
        return f"the old server is open; deployed again: {', '.join(again) or 'nobody, all still ran'}"

    def _run_again(self, context: Context, consumer: Consumer) -> bool:
        """Have a consumer run with the variables that are configured now; returns whether it had to be deployed."""
        key = f"deployed back: {consumer.service}"
        begun = context.record(self).facts.get(key, "")
        newest = _newest(context, consumer)
        if newest is not None and newest.id == consumer.deployment and _runs(newest):
            return False
        # What was deployed back before, and is still under way or runs, is waited for; all else has other variables, or ended.
        if not (newest is not None and newest.id == begun and (_runs(newest) or not newest.status.over)):
            begun = deploy_now(context.api, consumer.service_id)
            context.note(self, **{key: begun})
        _wait(context, consumer, begun)
        return True


@dataclass(frozen=True)
class StartConsumers(Step):
    """Deploys the consumers, each after those that it needs. Its undo stops them, so that nobody writes on the way back."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        names = ", ".join(one.service for one in self.plan.stoppable) or "nobody"
        return f"deploy {names}, one by one, each waited for; the downtime ends; from now on the new server is written to"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        known = context.record(self).facts
        before = {one.service: newest.id if (newest := _newest(context, one)) else "" for one in self.plan.stoppable}
        context.journal.record(ACCESS).facts[SERVED] = "yes"
        context.note(self, **{f"before: {name}": seen for name, seen in before.items() if f"before: {name}" not in known})
        for one in self.plan.stoppable:
            _wait(context, one, self._deployed(context, one))
        return f"{len(self.plan.stoppable)} services run with the new server"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        for one in reversed(self.plan.stoppable):
            stop(context, one)
        return "stopped, until they have their old server again"

    def _deployed(self, context: Context, consumer: Consumer) -> str:
        """Deploy a consumer, unless a process before this one has: whatever is newer than when this step began is that."""
        newest, before = _newest(context, consumer), context.record(self).facts[f"before: {consumer.service}"]
        if newest is not None and newest.id != before and (not newest.status.over or _runs(newest)):
            return newest.id
        return deploy_now(context.api, consumer.service_id)


def stop(context: Context, consumer: Consumer) -> None:
    """Stop whatever of a service runs or is about to, and wait until it has ended.

    Raises:
        ServiceError: it does not end.
    """
    deadline = time.monotonic() + _STOPPED_S
    asked: set[str] = set()
    while True:
        found = context.api.deployments(consumer.service_id, first=5)
        alive = [
            one for one in found if not one.status.over or _runs(one) or any(here.status in _ALIVE for here in one.instances)
        ]
        if not alive:
            return
        for one in (one for one in alive if one.id not in asked):
            asked.add(one.id)
            if one.status.over:
                context.api.stop(one.id)
            else:
                context.api.cancel(one.id)
        if time.monotonic() > deadline:
            raise ServiceError(f"{consumer.service}: it still runs {_STOPPED_S:.0f} s after it was stopped; see its dashboard")
        time.sleep(context.pace.poll)


def _wait(context: Context, consumer: Consumer, deployment: str) -> None:
    timeout = context.pace.deployment + consumer.health_seconds
    image = consumer.image or None
    context.api.wait_for_deployment(deployment, timeout=timeout, poll=context.pace.poll, image=image)


def _newest(context: Context, consumer: Consumer) -> Deployment | None:
    return next(iter(context.api.deployments(consumer.service_id, first=1)), None)


def _runs(deployment: Deployment) -> bool:
    return deployment.status.active and not deployment.stopped
