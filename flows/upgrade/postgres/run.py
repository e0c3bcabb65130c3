"""From a request to its end: plan, approval, lock, steps, report; and what is done about an upgrade that was begun before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from flows.approval import approve
from flows.health.maintenance import maintenance
from flows.report import flow_run_id, line
from flows.upgrade.carry_out import WINDOW
from flows.upgrade.journal import UpgradeJournal
from flows.upgrade.look import Eyes
from flows.upgrade.plan import plan_hash, refuse_changed
from flows.upgrade.postgres import carry
from flows.upgrade.postgres.carry import RECIPE, Hands, steps_of
from flows.upgrade.postgres.orders import PostgresPlan, PostgresRequest
from flows.upgrade.postgres.plan import make_plan
from flows.upgrade.steps import Pace
from flows.upgrade.views import described, show_plan, show_report

__all__ = ["Run"]


class Run:
    """One run of the flow.

    Args:
        eyes: the stack, its environment, and the world beside. request: what is asked for.
        counter: makes, of a number of steps, what is called after each. pace: how long things may take.
        documents: this project's own blocks are kept on a Prefect server.
    """

    def __init__(
        self,
        eyes: Eyes,
        request: PostgresRequest,
        *,
        counter: Callable[[int], Callable[[], None]] = lambda _: lambda: None,
        pace: Pace | None = None,
        documents: bool = True,
    ) -> None:
        self._eyes, self._request, self._counter = eyes, request, counter
        self._pace, self._documents = pace or Pace(), documents

    def carry_out(self) -> str:
        """Do what is asked for; returns how it ended, as the flow does."""
        action = self._request.action
        if action == "upgrade":
            return self._upgrade()
        return self._finish() if action == "finish" else self._take_back(action)

    def _upgrade(self) -> str:
        request, stack = self._request, self._eyes.stack
        carry.refuse_open(stack)
        plan = make_plan(self._eyes, request, documents=self._documents)
        steps = steps_of(plan)
        refuse_changed(plan, request.plan_hash)
        show_plan(plan, steps, dry_run=request.dry_run)
        if request.dry_run:
            return "nothing"
        approve(stack.name, request.confirm, described(plan, steps))
        with self._at_work(plan) as hands:
            refuse_changed(make_plan(self._eyes, request, documents=self._documents), plan_hash(plan))  # since it was approved
            journal = carry.upgrade(hands, plan)
            self._leave(hands, journal, plan)
        line(f"upgrade {journal.id} is done; back with action: undo; the old server is kept until action: forget")
        return journal.phase

    def _finish(self) -> str:
        """Go on with an upgrade that died; that needs no approval, which was given when it began."""
        found = carry.unfinished(self._eyes.stack, self._request.upgrade_id)
        line(f"upgrade {found.id} is {found.phase}" if found else "no upgrade of Postgres was left unfinished")
        if found is None or self._request.dry_run:
            return "nothing"
        plan = PostgresPlan.model_validate(found.plan)
        with self._at_work(plan) as hands:
            journal = carry.unfinished(self._eyes.stack, found.id)  # as it is now that nobody else works on it
            if journal is None:
                line(f"upgrade {found.id} has been finished meanwhile")
                return "nothing"
            carry.finish(hands, journal)
            self._leave(hands, journal, plan)
        return journal.phase

    def _take_back(self, action: Literal["undo", "forget"]) -> str:
        """Undo what was done before, or let go of what was kept for that."""
        stack, request = self._eyes.stack, self._request
        journal = carry.find(stack, request.upgrade_id, action)
        plan = PostgresPlan.model_validate(journal.plan)
        with stack.exclusive("upgrade") as lease:
            look = Hands(stack, self._eyes.api, self._eyes.outside, lease)
            text = carry.describe_undo(look, journal) if action == "undo" else carry.forget(look, journal, dry_run=True)
        line(text)
        if request.dry_run:
            return "nothing"
        approve(stack.name, request.confirm, text)
        with self._at_work(plan) as hands:
            journal = carry.find(stack, journal.id, action)
            if action == "forget":
                line(carry.forget(hands, journal))
                return "forgotten"
            line(f"undone: {carry.undo(hands, journal)}")
            self._leave(hands, journal, plan)
        return journal.phase

    @contextmanager
    def _at_work(self, plan: PostgresPlan) -> Iterator[Hands]:
        """Hold the stack's lock, and tell the watch to expect it; outside a flow run there is no window."""
        stack = self._eyes.stack
        services = RECIPE.services(plan.model_dump(mode="json"))
        with stack.exclusive("upgrade") as lease:
            progress = self._counter(len(steps_of(plan)))
            hands = Hands(stack, self._eyes.api, self._eyes.outside, lease, self._pace, progress)
            if not flow_run_id():
                yield hands
                return
            with maintenance(stack.name, services, "upgrade of Postgres", WINDOW + plan.soak_minutes, who="upgrade"):
                yield hands

    def _leave(self, hands: Hands, journal: UpgradeJournal, plan: PostgresPlan) -> None:
        """Report, and deploy what operates the stack as the very last."""
        show_report(hands.stack.name, journal)
        carry.hand_over(hands, plan)
