"""What people see of an upgrade: the preview, and the report."""

from __future__ import annotations

from collections.abc import Sequence

from flows.report import Summary, flow_run_id, line
from flows.upgrade.journal import UpgradeJournal
from flows.upgrade.plan import Plan, plan_hash
from flows.upgrade.steps import Step

__all__ = ["described", "preview_lines", "show_plan", "show_report"]


def preview_lines(plan: Plan, steps: Sequence[Step]) -> list[str]:
    """List the facts, every step, which of them are irreversible, and the plan's hash."""
    facts = [f"{name}: {value}" for name, value in {**plan.facts, **plan.passing}.items()]
    listed = [
        f"{number}. {step.describe()}" + (f" [irreversible: {step.irreversible}]" if step.irreversible else "")
        for number, step in enumerate(steps, start=1)
    ]
    return [*facts, *listed, f"plan_hash: {plan_hash(plan)}"] if steps else facts


def described(plan: Plan, steps: Sequence[Step]) -> str:
    """Say what will happen, for the person who approves it."""
    lines = "\n".join(f"- {one}" for one in preview_lines(plan, steps))
    return (
        f"Upgrade {plan.kind} of {plan.stack}:\n\n{lines}\n\nWhatever fails is undone by itself, in reverse order. Way back "
        "later: the same flow with action undo."
    )


def show_plan(plan: Plan, steps: Sequence[Step], *, dry_run: bool) -> None:
    """Log the preview, and make the artifact `upgrade-plan-<stack>` in a flow run."""
    for one in preview_lines(plan, steps):
        line(one)
    if not flow_run_id():
        return
    shown = Summary(f"Upgrade {plan.kind} of {plan.stack}{' (dry run)' if dry_run else ''}", ("Step", "What", "Irreversible"))
    for step in steps:
        shown.row(step.name, step.describe(), step.irreversible or "no")
    for name, value in {**plan.facts, **plan.passing}.items():
        shown.note(f"{name}: {value}")
    shown.note(f"plan_hash: `{plan_hash(plan)}`" if steps else "Nothing to do.")
    shown.publish(f"upgrade-plan-{plan.stack}")


def show_report(stack: str, journal: UpgradeJournal) -> None:
    """Log how it ended, and make the artifact `upgrade-<stack>` in a flow run: each step, its state, what came of it."""
    line(f"upgrade {journal.id} of {journal.kind}: {journal.phase}" + (f": {journal.fault}" if journal.fault else ""))
    if not flow_run_id():
        return
    shown = Summary(f"Upgrade {journal.kind} of {stack}: {journal.phase}", ("Step", "State", "Outcome", "Seconds"))
    for one in journal.steps:
        shown.row(one.name, one.state, one.outcome, f"{one.seconds:.0f}")
    for name, (old, new) in journal.images.items():
        shown.note(f"{name}: {old} -> {new}")
    shown.note(f"Upgrade {journal.id}, begun {journal.begun_at:%Y-%m-%d %H:%M} UTC; backup set {journal.set_id or 'none'}.")
    if journal.fault:
        shown.note(f"Why it was undone: {journal.fault}")
    shown.publish(f"upgrade-{stack}")
