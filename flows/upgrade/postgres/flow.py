"""Move all of Postgres to a new server, another major version or another place, and lead everybody there; with a way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prefect import flow

from blocks.railway import PROTECTED
from flows.approval import approve
from flows.deploy.flow import environment_of
from flows.health.maintenance import maintenance
from flows.report import line
from flows.stack import Stack
from flows.upgrade.carry_out import WINDOW
from flows.upgrade.flow import counted
from flows.upgrade.journal import UpgradeJournal
from flows.upgrade.live import Live
from flows.upgrade.look import Eyes
from flows.upgrade.plan import plan_hash, refuse_changed
from flows.upgrade.postgres import carry
from flows.upgrade.postgres.carry import RECIPE, Hands, steps_of
from flows.upgrade.postgres.orders import PostgresPlan, PostgresRequest
from flows.upgrade.postgres.plan import make_plan
from flows.upgrade.views import described, show_plan, show_report

__all__ = ["upgrade"]


# No retries: each step is tried again inside, and what a dead run leaves another one finishes or undoes.
@flow(name="upgrade", validate_parameters=True, timeout_seconds=24 * 3600)
def upgrade(request: PostgresRequest = PostgresRequest()) -> str:
    """Gate, back up, make the new server, rehearse, stop writers, copy, compare, lead everybody there, verify, watch.

    Args:
        request: to which server, and how.
    Returns: how it ended: done, undone, forgotten, or nothing.
    Raises:
        GuardRefused, RestoreRefused, VersionMismatch: it does not begin, and why; nothing was changed.
        ApprovalMissing: nobody approved; nothing was changed.
        LeaseHeld: a backup, restore or other upgrade is under way.
        UpgradeFailed: it broke off; says what was undone, and that the stack is well again.
    """
    stack = Stack.load()
    with environment_of(stack.settings).open(allow=PROTECTED) as api:
        eyes = Eyes(stack, api, Live(stack))
        if request.action == "finish":
            return _finish(eyes, request)
        if request.action != "upgrade":
            return _take_back(eyes, request, request.action)
        carry.refuse_open(stack)
        plan = make_plan(eyes, request)
        steps = steps_of(plan)
        refuse_changed(plan, request.plan_hash)
        show_plan(plan, steps, dry_run=request.dry_run)
        if request.dry_run:
            return "nothing"
        approve(stack.name, request.confirm, described(plan, steps))
        with _at_work(eyes, plan) as hands:
            refuse_changed(make_plan(eyes, request), plan_hash(plan))  # since it was approved
            journal = carry.upgrade(hands, plan)
            show_report(stack.name, journal)
            carry.hand_over(hands, plan)
    line(f"upgrade {journal.id} is done; back with action: undo; the old server is kept until action: forget")
    return journal.phase


def _finish(eyes: Eyes, request: PostgresRequest) -> str:
    """Go on with an upgrade that died; that needs no approval, which was given when it began."""
    found = carry.unfinished(eyes.stack, request.upgrade_id)
    line(f"upgrade {found.id} is {found.phase}" if found else "no upgrade of Postgres was left unfinished")
    if found is None or request.dry_run:
        return "nothing"
    plan = PostgresPlan.model_validate(found.plan)
    with _at_work(eyes, plan) as hands:
        journal = carry.unfinished(eyes.stack, found.id)  # as it is now that nobody else works on it
        if journal is None:
            line(f"upgrade {found.id} has been finished meanwhile")
            return "nothing"
        carry.finish(hands, journal)
        _leave(hands, journal, plan)
    return journal.phase


def _take_back(eyes: Eyes, request: PostgresRequest, action: Literal["undo", "forget"]) -> str:
    """Undo what was done before, or let go of what was kept for that."""
    stack = eyes.stack
    journal = carry.find(stack, request.upgrade_id, action)
    plan = PostgresPlan.model_validate(journal.plan)
    with stack.exclusive("upgrade") as lease:
        look = Hands(stack, eyes.api, eyes.outside, lease)
        undoing = action == "undo"
        text = carry.describe_undo(look, journal) if undoing else carry.forget(look, journal, dry_run=True)
    line(text)
    if request.dry_run:
        return "nothing"
    approve(stack.name, request.confirm, text)
    with _at_work(eyes, plan) as hands:
        journal = carry.find(stack, journal.id, action)
        if not undoing:
            line(carry.forget(hands, journal))
            return "forgotten"
        line(f"undone: {carry.undo(hands, journal)}")
        _leave(hands, journal, plan)
    return journal.phase


@contextmanager
def _at_work(eyes: Eyes, plan: PostgresPlan) -> Iterator[Hands]:
    """Hold the stack's lock, and tell the watch to expect it."""
    services = RECIPE.services(plan.model_dump(mode="json"))
    with eyes.stack.exclusive("upgrade") as lease:
        minutes = WINDOW + plan.soak_minutes
        with maintenance(eyes.stack.name, services, "upgrade of Postgres", minutes, who="upgrade"):
            yield Hands(eyes.stack, eyes.api, eyes.outside, lease, progress=counted(len(steps_of(plan))))


def _leave(hands: Hands, journal: UpgradeJournal, plan: PostgresPlan) -> None:
    show_report(hands.stack.name, journal)
    carry.hand_over(hands, plan)


if __name__ == "__main__":
    upgrade()
