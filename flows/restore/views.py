"""What a restore shows in the Prefect UI."""

from __future__ import annotations

from flows.report import Summary, line
from flows.restore.journal import RestoreJournal
from flows.restore.plan import RestorePlan, describe
from flows.stack import Stack


def show_plan(stack: Stack, plan: RestorePlan, *, dry_run: bool) -> None:
    """Publish what will happen, and log it."""
    line(describe(plan))
    title = f"Restore of {plan.set_id}{' (dry run: nothing was changed)' if dry_run else ''}"
    summary = Summary(title, ("what", "restored into", "live now", "kept as"))
    for planned in plan.steps:
        live = "does not exist" if not planned.step.existed else "empty" if planned.empty else "holds data"
        summary.row(planned.name, planned.step.staged, live, planned.step.kept if planned.step.existed else "nothing")
    summary.note(describe(plan))
    summary.publish(f"restore-plan-{stack.name}")


def show_restore(stack: Stack, journal: RestoreJournal) -> None:
    """Publish the state of a restore and how it is taken back."""
    summary = Summary(f"Restore {journal.id} of set {journal.set_id}: {journal.phase}", ("what", "live now", "kept as"))
    for step in journal.steps:
        state = "the restored data" if step.swapped else "what was there before"
        summary.row(f"{step.kind} {step.live}", state, step.kept if step.existed else "nothing")
    if journal.phase == "done":
        parameters = f'{{"request": {{"action": "undo", "restore_id": "{journal.id}"}}}}'
        summary.note(f"Undo: `prefect deployment run restore/on-demand --params '{parameters}'`")
    summary.publish(f"restore-{stack.name}")
