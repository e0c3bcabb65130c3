"""What the restore of a table shows in the Prefect UI."""

from __future__ import annotations

from collections.abc import Sequence

from flows.report import Summary, line
from flows.restore_table.journal import TableJournal
from flows.restore_table.plan import TablePlan, describe
from flows.stack import Stack


def show_plan(stack: Stack, plan: TablePlan, *, dry_run: bool) -> None:
    """Publish what will happen, and log it."""
    line(describe(plan))
    journal, live = plan.journal, plan.live
    title = f"Restore of {journal.name} of {journal.set_id}{' (dry run: nothing was changed)' if dry_run else ''}"
    summary = Summary(title, ("what", "rows in the set", "rows live now", "restored into", "kept as"))
    now = f"{'about ' if live.about else ''}{live.rows}" if live.exists else "there is none"
    kept = journal.place("kept") if journal.into == "swap" else "not touched"
    summary.row(journal.name, "?" if plan.rows is None else plan.rows, now, journal.place("restored"), kept)
    summary.note(describe(plan))
    summary.publish(f"table-restore-plan-{stack.name}")


def show_restore(stack: Stack, journal: TableJournal, statements: Sequence[str] = ()) -> None:
    """Publish the state of a restore, how it is taken back, and the SQL to copy rows with."""
    summary = Summary(f"Restore {journal.id} of {journal.name}: {journal.phase}", ("what", "of set", "how", "where"))
    place = {"undone": "undone", "done": "restored" if journal.into == "beside" else "kept"}.get(journal.phase)
    where = journal.place(place) if place else "nothing is left"  # type: ignore[arg-type]  # one of the three
    summary.row(journal.name, journal.set_id, "swapped in" if journal.into == "swap" else "beside the live table", where)
    if statements:
        summary.note("To look at the rows, and to copy those that are missing:")
        summary.note("```sql\n" + "\n".join(statements) + "\n```")
    if journal.phase == "done":
        for action in ("undo", "forget") if journal.into == "swap" else ("forget",):
            parameters = f'{{"request": {{"action": "{action}", "restore_id": "{journal.id}"}}}}'
            summary.note(f"{action}: `prefect deployment run restore-table/on-demand --params '{parameters}'`")
    summary.publish(f"table-restore-{stack.name}")
