"""A runbook in a flow run: three visible tasks, the artifact, the approval by pause or parameter."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.approval import approve
from flows.report import Summary, flow_run_id
from flows.runbook.answering import ELSEWHERE, approved_elsewhere
from flows.runbook.audit import Entry, Trail
from flows.runbook.frame import Runbook, RunbookRequest
from flows.runbook.heal import Means, Pace, heal
from flows.stack import Stack

__all__ = ["carry_out", "one_inside"]


def carry_out(
    runbook: Runbook,
    request: RunbookRequest,
    stack: Stack,
    pace: Pace | None = None,
    *,
    longest: float = 3600.0,
    about: str = "",
) -> str:
    """Heal one patient in the flow run that this is called in; as `heal`.

    Args:
        longest: seconds that a step may take.
        about: tells apart what one run does for one service, as for one database of several: each has an artifact of its own.
    """
    of = "-".join(one for one in (runbook.name, runbook.service, about, stack.name) if one)

    def show(summary: Summary) -> None:
        summary.publish(re.sub(r"[^a-z0-9]+", "-", f"runbook-{of}"))

    means = Means(
        stack=stack.name,
        trail=Trail(stack.store),
        ask=partial(approve, stack.name, request.confirm, record=_not_twice),
        step=partial(_visibly, longest),
        show=show,
        pace=pace or Pace(),
    )
    if not request.dry_run and approved_elsewhere():
        means.trail.add(_let_begin(runbook, request))
    return heal(runbook, request, means)


def one_inside(runbook: Runbook, request: RunbookRequest, stack: Stack, pace: Pace) -> str:
    """Heal one patient within an action of another runbook, whose step it is: no step and no artifact of its own; as `heal`."""
    asked = RunbookRequest(confirm=request.confirm, incident=request.incident, by=request.by, why=request.why)
    ask = partial(approve, stack.name, request.confirm, record=_not_twice)
    means = Means(stack.name, Trail(stack.store), ask, pace=pace)
    return heal(runbook, asked, means)


def _not_twice(_: Entry) -> None:
    """What a person decides in the middle of a runbook, the runbook writes down itself, with its patient and its incident."""


def _let_begin(runbook: Runbook, request: RunbookRequest) -> Entry:
    """What is written down of a run that waited for a person, and was resumed where nobody else writes it down."""
    return Entry(
        at=datetime.now(UTC),
        kind="decided",
        actor="approval",
        service=runbook.service,
        what="the run waited to begin",
        result="approved",
        by=ELSEWHERE,
        why=request.why,
        incident=request.incident,
        run=flow_run_id(),
    )


def _visibly(longest: float, name: str, work: Callable[[], object]) -> object:
    """Do a step as a task, so that the run's page shows when it began, how long it took and what it logged.

    It is not retried: an action that fails is followed by the next one, which is larger.
    """

    @task(name=name.partition(" ")[0], task_run_name=name, timeout_seconds=longest, cache_policy=NO_CACHE)
    def step() -> None:
        work()

    return step()
