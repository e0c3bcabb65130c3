"""Look, plan, ask, do: until there is nothing left to do.

There is no journal of our own: at the first deploy there is no store to keep one in. Railway's state says at any moment what
was done (see `present.py` for what is noted there), it is read again at every start, and the plan is made anew from it. So a
deploy that was killed at any step is continued by running it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from blocks.errors import GuardRefused, StackError, Uncertain
from blocks.railway_api.api import RailwayApi
from blocks.retry import is_transient
from flows.deploy.actions import Action, Deploy, RunSetup
from flows.deploy.carry_out import Hands
from flows.deploy.look import look
from flows.deploy.plan import Order, Plan, make_plan
from flows.deploy.present import Present
from flows.deploy.refuse import reasons
from flows.deploy.rollout import Pace, roll_out
from flows.deploy.setup_service import run_setup
from flows.deploy.standing_in import standing_in

__all__ = ["Done", "Report", "converge", "preview"]

ATTEMPTS = 4
PAUSE = 10.0
"""Seconds before a plan is made again after a fault: a change whose answer was lost arrives meanwhile."""


@dataclass(frozen=True)
class Done:
    """A step that was done. line: as in the plan. seconds: it took. outcome: a word or two."""

    line: str
    seconds: float
    outcome: str


@dataclass
class Report:
    """What a deploy did.

    Attributes:
        plan: as it was approved. done: steps, in order. setup: what SETUP wrote.
    """

    plan: Plan
    done: list[Done] = field(default_factory=list)
    setup: list[str] = field(default_factory=list)


def preview(api: RailwayApi, order: Order) -> Plan:
    """Say what a deploy would do; changes nothing.

    Raises:
        GuardRefused: it would not begin, and why.
    """
    order = standing_in(api, order)
    present = look(api, order.stack)
    if why := reasons(order, present):
        raise GuardRefused("deploy: nothing was changed: " + "; ".join(why))
    return make_plan(order, present)


def converge(
    api: RailwayApi,
    order: Order,
    *,
    approve: Callable[[Plan], None],
    told: Callable[[Done], None] = lambda _: None,
    prove: Callable[[Report], None] = lambda _: None,
    pace: Pace = Pace(),
) -> Report:
    """Bring an environment to what is asked for.

    Args:
        approve: is shown the plan, and raises where it is not to be done. Not asked again when a fault makes us plan anew.
        told: of each step that was done.
        prove: is called once when everything is up; where this program's own service is deployed, before that: it is the end.
    Raises:
        GuardRefused: it must not begin, or somebody else changes the same environment meanwhile.
        DeploymentFailed: a service did not come up; what was done before stays, and running it again goes on from there.
        StackError: after everything was done there is still a difference.
    """
    order = standing_in(api, order)
    plan = preview(api, order)
    report = Report(plan)
    if plan.actions:
        approve(plan)
    worker = _Worker(api, order, report, (told, prove), pace)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            worker.carry_out(plan.actions)
            left = preview(api, order)
        except StackError as error:
            if attempt == ATTEMPTS or not (is_transient(error) or isinstance(error, Uncertain)):
                raise
            told(Done(f"! {error}", 0.0, "planning anew"))
            time.sleep(min(PAUSE, pace.poll * 2))
            plan = preview(api, order)
            if more := plan.keys() - report.plan.keys():
                raise GuardRefused(
                    f"deploy: the plan now also wants {' '.join(min(more))}, which was not approved: somebody else changes "
                    "this project; deploy again when they are done"
                ) from None
            continue
        if left.actions and not any(isinstance(one, Deploy) and one.last_word for one in plan.actions):
            lines = left.lines() or ["a deployment that was announced"]
            raise StackError(
                f"deploy: everything was done, and still there is a difference: {lines[0]}; see Railway's dashboard"
            )
        worker.prove()
        return report
    raise AssertionError("the last attempt returns or raises")


class _Worker:
    def __init__(
        self,
        api: RailwayApi,
        order: Order,
        report: Report,
        listeners: tuple[Callable[[Done], None], Callable[[Report], None]],
        pace: Pace,
    ) -> None:
        self._api, self._order, self._report, self._pace = api, order, report, pace
        self._told, self._prove = listeners
        self._proven = False
        self._present: Present | None = None
        self._hands = Hands(api, order.given)

    def prove(self) -> None:
        """Prove it, once."""
        if not self._proven:
            self._proven = True
            self._prove(self._report)

    def carry_out(self, actions: Sequence[Action]) -> None:
        """Do the steps in order, the deployments of a wave together."""
        self._present = None
        for wave, group in groupby(actions, key=lambda one: one.wave if isinstance(one, Deploy) else -1):
            steps = list(group)
            if wave >= 0:
                self._deploy([one for one in steps if isinstance(one, Deploy)])
                continue
            for step in steps:
                self._one(step)

    def _look(self, fresh: Collection[str]) -> Present:
        self._present = look(self._api, self._order.stack, before=self._present, fresh=fresh)
        return self._present

    def _deploy(self, deploys: Sequence[Deploy]) -> None:
        if any(deploy.last_word for deploy in deploys):
            self.prove()
        begun = time.monotonic()
        roll_out(self._api, self._hands, deploys, self._look, self._pace, lambda deploy, word: self._note(deploy, begun, word))

    def _one(self, step: Action) -> None:
        begun = time.monotonic()
        if isinstance(step, RunSetup):
            self._report.setup = run_setup(self._api, self._hands, step, self._look, self._pace)
        else:
            self._hands.do(step)
        self._note(step, begun, "done")

    def _note(self, step: Action, begun: float, word: str) -> None:
        for line in step.lines():
            done = Done(line, time.monotonic() - begun, word)
            self._report.done.append(done)
            self._told(done)
