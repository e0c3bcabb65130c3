"""The steps that look whether the new version is as good as the old one: health, a request through the stack, and a while."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from blocks.errors import ServiceError, UpgradeFailed
from blocks.railway_api.deployment import Deployment, DeploymentStatus, InstanceStatus
from flows.lease import utc_now
from flows.upgrade.orders import ServiceChange, ServicePlan
from flows.upgrade.outside import Fault
from flows.upgrade.running import REQUESTS
from flows.upgrade.steps import Context, Step

__all__ = ["BeWell", "Requests", "Smoke", "Soak", "too_many_fail", "wait_until_well", "worse"]

_BEARABLE = 0.02
"""So many of the gateway's requests may fail more than before."""
_FEW = 20
"""Of fewer requests a share says nothing."""

Requests = tuple[int, int]
"""How many, and how many of them failed."""


def worse(known: Collection[str], now: Sequence[Fault]) -> list[Fault]:
    """Return the faults that were not there before.

    Args:
        known: names of those that were.
    """
    return [one for one in now if one.name not in known]


def too_many_fail(before: Requests | None, now: Requests | None) -> str:
    """Say so where clearly more of the gateway's requests fail than before; empty where not, or where nobody can tell."""
    if now is None or now[0] < _FEW:
        return ""
    rate = now[1] / now[0]
    then = before[1] / before[0] if before and before[0] else 0.0
    if rate <= max(then * 2, then + _BEARABLE):
        return ""
    return f"{now[1]} of {now[0]} requests of the gateway have failed ({rate:.0%}), before it were {then:.0%}"


def wait_until_well(context: Context, plan: ServicePlan, what: str) -> str:
    """Wait until nothing is worse than before.

    Raises:
        UpgradeFailed: it still is after `pace.settle` seconds.
    """
    deadline = time.monotonic() + context.pace.settle
    while True:
        try:
            found = worse(plan.known, context.outside.faults(plan.concerned))
            said = found[0].sentence if found else ""
        except ServiceError as error:
            if error.permanent:
                raise
            said = str(error)
        if not said:
            return f"{', '.join(plan.concerned)}: as well as before"
        if time.monotonic() + context.pace.look > deadline:
            raise UpgradeFailed(f"{what}: not well after {context.pace.settle:.0f} s: {said}")
        time.sleep(context.pace.look)


@dataclass(frozen=True)
class BeWell(Step):
    """Waits until every service concerned is as well as before."""

    plan: ServicePlan

    def describe(self) -> str:
        """As in `Step`."""
        known = f"; known before: {', '.join(self.plan.known)}" if self.plan.known else ""
        return f"wait until {', '.join(self.plan.concerned)} are as well as before{known}"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        return wait_until_well(context, self.plan, "health")

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        return "nothing to undo"


@dataclass(frozen=True)
class Smoke(Step):
    """Sends a request through the whole stack."""

    def describe(self) -> str:
        """As in `Step`."""
        return "send a request through the whole stack: a completion, its trace, its spend"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        return context.outside.smoke()

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        return "nothing to undo"


@dataclass(frozen=True)
class Soak(Step):
    """Watches for a while: health, containers that end, and how many of the gateway's requests fail."""

    plan: ServicePlan

    def describe(self) -> str:
        """As in `Step`."""
        return f"watch for {self.plan.soak_minutes:g} minutes: health, restarts, and how many requests of the gateway fail"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        begun = utc_now()
        before = _before(context)
        ends = time.monotonic() + 60 * self.plan.soak_minutes
        bad = 0
        while True:
            said = self._look(context, begun, before)
            bad = bad + 1 if said else 0
            if bad >= 2:  # one bad look is a hiccup
                raise UpgradeFailed(f"soak: {said}")
            left = ends - time.monotonic()
            if left <= 0 and not bad:
                return f"{self.plan.soak_minutes:g} minutes without anything worse than before"
            time.sleep(min(context.pace.look, max(left, 0.0)) if not bad else context.pace.look)

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        return "nothing to undo"

    def _look(self, context: Context, begun: datetime, before: Requests | None) -> str:
        """Say what is worse, empty where nothing is."""
        try:
            found = worse(self.plan.known, context.outside.faults(self.plan.concerned))
            if found:
                return found[0].sentence
            services = context.api.inventory().services
            for one in self.plan.changes:
                if said := _ended(one, services[one.service].latest):
                    return said
            return too_many_fail(before, context.outside.requests(begun))
        except ServiceError as error:  # whoever cannot look has not seen anything bad
            if error.permanent:
                raise
            context.tell(f"soak: {error}")
            return ""


def _before(context: Context) -> Requests | None:
    """The requests of the time before the upgrade, as its first step noted them."""
    for one in context.journal.steps:
        if found := one.facts.get(REQUESTS):
            every, _, failed = found.partition(" ")
            return int(every), int(failed)
    return None


def _ended(change: ServiceChange, latest: Deployment | None) -> str:
    if latest is None:
        return f"{change.service}: it has no deployment any more"
    if latest.image != change.new:
        return f"{change.service}: it runs {latest.image}, expected {change.new}; did somebody else deploy?"
    states = {one.status for one in latest.instances}
    bad = states & {InstanceStatus.CRASHED, InstanceStatus.RESTARTING}
    if latest.status is not DeploymentStatus.SUCCESS or latest.stopped or bad:
        return f"{change.service}: its deployment is {latest.status}{f', a container {min(bad)}' if bad else ''}"
    return ""
