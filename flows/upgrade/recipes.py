"""From a plan to the steps, and to the look afterwards: by these alone another process goes on with what a dead one began."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blocks.errors import GuardRefused
from flows.upgrade.configure import Configure
from flows.upgrade.data import SecureData
from flows.upgrade.engine import Prove
from flows.upgrade.journal import UpgradeJournal
from flows.upgrade.orders import KINDS, ServicePlan
from flows.upgrade.rollout import RollOut
from flows.upgrade.running import KeepRunning
from flows.upgrade.steps import Context, Step
from flows.upgrade.watching import BeWell, Smoke, Soak, wait_until_well

__all__ = ["Recipe", "recipe_of", "service_steps", "services_of"]


@dataclass(frozen=True)
class Recipe:
    """How one kind of upgrade is done.

    Attributes:
        steps: makes them of the plan, as JSON; always the same ones. prove: looks whether the stack is well after a way back.
        services: that change, for the maintenance window.
    """

    steps: Callable[[Mapping[str, Any]], Sequence[Step]]
    prove: Callable[[Mapping[str, Any]], Prove]
    services: Callable[[Mapping[str, Any]], Sequence[str]]


def service_steps(plan: ServicePlan) -> list[Step]:
    """Name the steps of an upgrade by image.

    What a way back does last comes first, for it goes backwards: stop what is new, put the configuration back, then the data,
    then deploy what ran before.
    """
    steps: list[Step] = [KeepRunning("what runs", plan.changes), SecureData("the data", plan)]
    for one in plan.changes:
        steps += [
            Configure(f"configuration of {one.service}", one),
            RollOut(f"deployment of {one.service}", one),
            BeWell(f"health after {one.service}", plan),
        ]
    if plan.smoke:
        steps.append(Smoke("smoke test"))
    if plan.soak_minutes:
        steps.append(Soak("soak", plan))
    return steps


def services_of(plan: ServicePlan) -> list[str]:
    """Name the services that may be away meanwhile."""
    return list(plan.concerned) or [one.service for one in plan.changes]


def _prove(plan: ServicePlan) -> Prove:
    def look(context: Context) -> str:
        return wait_until_well(context, plan, "after the way back")

    return look


_BY_IMAGE = Recipe(
    steps=lambda plan: service_steps(ServicePlan.model_validate(plan)),
    prove=lambda plan: _prove(ServicePlan.model_validate(plan)),
    services=lambda plan: services_of(ServicePlan.model_validate(plan)),
)

RECIPES: dict[str, Recipe] = dict.fromkeys(KINDS, _BY_IMAGE)
"""By kind; `flows/upgrade/postgres` adds its own."""


def recipe_of(journal: UpgradeJournal) -> Recipe:
    """Return how an upgrade is done.

    Raises:
        GuardRefused: this version of the project does not know how.
    """
    found = RECIPES.get(journal.kind)
    if found is None:
        raise GuardRefused(
            f"upgrade {journal.id}: nobody here knows the steps of {journal.kind!r}; finish it with the version of the project "
            "that began it"
        )
    return found
