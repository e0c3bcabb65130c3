"""A runbook in a flow run: three visible tasks, the artifact, the approval by pause or parameter."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TypedDict

from prefect import task
from prefect.cache_policies import NO_CACHE, CachePolicy

from flows.approval import approve
from flows.report import Summary
from flows.runbook.audit import Trail
from flows.runbook.frame import Runbook, RunbookRequest
from flows.runbook.heal import Means, Pace, heal
from flows.stack import Stack

__all__ = ["carry_out"]


class _Once(TypedDict):
    timeout_seconds: float
    cache_policy: CachePolicy


_ONCE: _Once = {"timeout_seconds": 3600.0, "cache_policy": NO_CACHE}
"""No retries: an action that fails is followed by the next one, which is larger."""


def carry_out(runbook: Runbook, request: RunbookRequest, stack: Stack, pace: Pace | None = None) -> str:
    """Heal one patient in the flow run that this is called in; as `heal`."""

    def show(summary: Summary) -> None:
        summary.publish(re.sub(r"[^a-z0-9]+", "-", f"runbook-{runbook.name}-{runbook.service}-{stack.name}"))

    means = Means(
        stack=stack.name,
        trail=Trail(stack.store),
        ask=partial(approve, stack.name, request.confirm),
        step=_visibly,
        show=show,
        pace=pace or Pace(),
    )
    return heal(runbook, request, means)


def _visibly(name: str, work: Callable[[], object]) -> object:
    """Do a step as a task, so that the run's page shows when it began, how long it took and what it logged."""

    @task(name=name.partition(" ")[0], task_run_name=name, **_ONCE)
    def step() -> None:
        work()

    return step()
