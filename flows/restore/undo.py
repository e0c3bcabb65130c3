"""Taking a restore back, finishing one that died, and dropping what was kept."""

from __future__ import annotations

from typing import Literal

from flows import catalogue
from flows.approval import approve
from flows.copy.catalogue import holding
from flows.health.maintenance import swapping
from flows.report import line
from flows.restore import clickhouse as on_clickhouse
from flows.restore import objects, postgres_swap
from flows.restore import postgres as on_postgres
from flows.restore.choose import side_name
from flows.restore.journal import OPEN, RestoreJournal, Step, load_all, pick, save
from flows.restore.steps import discard_staged, swap_all
from flows.restore.views import show_restore
from flows.stack import Stack

Action = Literal["restore", "undo", "finish", "forget"]


def run(stack: Stack, action: Action, restore_id: str, *, dry_run: bool, confirm: str) -> RestoreJournal | None:
    """Carry out one of the actions that are not a restore.

    Args:
        action: undo, finish or forget. restore_id: `latest` or an id. dry_run: only say what would happen.
        confirm: the stack's name, or empty to be asked.
    Raises:
        RestoreRefused: there is no such restore, or its state does not allow the action.
    """
    if action == "finish":
        return _finish(stack, dry_run=dry_run)
    journal = pick(load_all(stack.store), restore_id)
    text = _describe_undo(stack, journal) if action == "undo" else _describe_forget(journal)
    line(text)
    if dry_run:
        return None
    approve(stack.name, confirm, text)
    with stack.exclusive("restore"):
        if action == "undo":
            with swapping(stack.name, journal.parts, f"undo of restore {journal.id}"):
                undo(stack, journal)
        else:
            forget(stack, journal)
    show_restore(stack, journal)
    return journal


def settle(stack: Stack) -> list[RestoreJournal]:
    """Settle every restore that died: forward where swapping had begun (all of it was verified), back where it had not.

    Returns: the journals that were settled.
    """
    settled = [journal for journal in load_all(stack.store) if journal.phase in OPEN]
    for journal in settled:
        if journal.phase == "staging":
            line(f"restore {journal.id} died before its swap: {discard_staged(stack, journal)}")
        elif journal.phase == "undoing":
            undo(stack, journal)
        else:
            with holding(stack, journal.set_id) as source:
                manifest = catalogue.load_manifest(source.store, source.keys, journal.set_id)
                swap_all(stack, source.store, catalogue.with_definitions(source.store, source.keys, manifest), journal)
            line(f"restore {journal.id} died in its swap: finished")
    return settled


def undo(stack: Stack, journal: RestoreJournal) -> None:
    """Put back what was there before; the restored data, with all writes made since, is kept under another name."""
    journal.phase = "undoing"
    save(stack.store, journal)
    for bucket in journal.buckets:
        objects.take_back(stack, bucket, journal.id)
    for step in reversed(journal.steps):
        if step.swapped:
            _undo_step(stack, journal, step)
            step.swapped = False
            save(stack.store, journal)
            line(f"{step.kind} {step.live}: put back; the restored one is {_undone(journal, step)}")
    journal.phase = "undone"
    save(stack.store, journal)


def forget(stack: Stack, journal: RestoreJournal) -> None:
    """Drop what a restore kept: from then on there is no undo."""
    for step in journal.steps:
        for name in (step.kept, _undone(journal, step)):
            if step.kind == "postgres":
                on_postgres.drop_database(stack.need_postgres_admin(), name)
            else:
                on_clickhouse.drop_database(stack.need_clickhouse(), name)
            line(f"{step.kind}: dropped {name}")
    for bucket in journal.buckets:
        objects.forget(stack, bucket, journal.id)
    journal.phase = "forgotten"
    save(stack.store, journal)


def _undo_step(stack: Stack, journal: RestoreJournal, step: Step) -> None:
    if step.kind == "postgres":
        server = stack.need_postgres_admin()
        postgres_swap.undo_swap(server, step.live, step.kept, _undone(journal, step), existed=step.existed)
    else:
        undone = _undone(journal, step)
        on_clickhouse.undo_swap(stack.need_clickhouse(), step, undone, lambda: save(stack.store, journal))


def _undone(journal: RestoreJournal, step: Step) -> str:
    return side_name(step.live, "undone", journal.id)


def _finish(stack: Stack, *, dry_run: bool) -> RestoreJournal | None:
    if dry_run:
        waiting = [journal.id for journal in load_all(stack.store) if journal.phase in OPEN]
        line(f"unfinished restores: {', '.join(waiting) or 'none'}")
        return None
    parts = {part for journal in load_all(stack.store) if journal.phase in OPEN for part in journal.parts}
    with stack.exclusive("restore"), swapping(stack.name, parts, "finishing a restore that died"):
        settled = settle(stack)
    if not settled:
        line("no restore was left unfinished")
        return None
    show_restore(stack, settled[-1])
    return settled[-1]


def _describe_undo(stack: Stack, journal: RestoreJournal) -> str:
    lines = [f"Undo of restore {journal.id} (of set {journal.set_id}): what was there before is put back."]
    for step in reversed(journal.steps):
        if not step.swapped:
            lines.append(f"- {step.kind} {step.live}: nothing to undo")
        elif step.kind == "postgres":
            lines.append(
                f"- {postgres_swap.describe_undo(stack.need_postgres_admin(), step.live, step.kept, existed=step.existed)}"
            )
        else:
            lines.append(f"- {on_clickhouse.describe_undo(stack.need_clickhouse(), step)}")
    lines += [
        f"- bucket {bucket}: objects that were overwritten are put back, added ones removed" for bucket in journal.buckets
    ]
    lines.append("Writes made since the restore leave the live database; they are kept until the restore is forgotten.")
    return "\n".join(lines)


def _describe_forget(journal: RestoreJournal) -> str:
    kept = [*(step.kept for step in journal.steps), *(f"what was overwritten in bucket {name}" for name in journal.buckets)]
    return f"Forget restore {journal.id}: dropped for good: {', '.join(kept)}. There is no undo after that."
