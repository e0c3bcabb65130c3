"""Taking a table's restore back, finishing one that died, and dropping what was left or kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from psycopg import Connection
from psycopg.rows import TupleRow

from blocks.errors import RestoreRefused
from blocks.postgres import explained
from flows.approval import approve
from flows.health.maintenance import swapping
from flows.report import line
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from flows.restore.journal import pick
from flows.restore_table.clickhouse_partition import undo_partition
from flows.restore_table.journal import OPEN, TableJournal, load_all, save
from flows.restore_table.live import clickhouse_live
from flows.restore_table.postgres_family import family, in_schema, text
from flows.restore_table.postgres_schemas import drop_schema
from flows.restore_table.postgres_swap import Exchange, exchange_rows, kept_as_noted
from flows.restore_table.steps import discard_staged, swap
from flows.restore_table.views import show_restore
from flows.stack import Stack

Action = Literal["restore", "undo", "finish", "forget"]
Hook = Callable[[str], None]


def run(stack: Stack, action: Action, restore_id: str, *, dry_run: bool, confirm: str) -> TableJournal | None:
    """Carry out one of the actions that are not a restore.

    Args:
        action: undo, finish or forget. restore_id: `latest` or an id. dry_run: only say what would happen.
        confirm: the stack's name, or empty to be asked.
    Raises:
        RestoreRefused: there is no such restore, or its state does not allow the action.
    """
    if action == "finish":
        return _finish(stack, dry_run=dry_run)
    journal = find(stack, restore_id)
    what = describe_undo(stack, journal) if action == "undo" else describe_forget(journal)
    line(what)
    if dry_run:
        return None
    approve(stack.name, confirm, what)
    with stack.exclusive("restore"):
        settle(stack)  # it may be this very one that died
        journal = find(stack, journal.id)
        if action == "undo":
            with swapping(stack.name, [journal.kind], f"undo of the restore of table {journal.table}"):
                undo(stack, journal)
        else:
            forget(stack, journal)
    show_restore(stack, journal)
    return journal


def settle(stack: Stack) -> list[TableJournal]:
    """Settle every restore that died: forward where swapping had begun (all of it was verified), back where it had not.

    Returns: the journals that were settled.
    """
    settled = [journal for journal in load_all(stack.store) if journal.phase in OPEN]
    for journal in settled:
        if journal.phase == "staging":
            line(f"{journal.name}: restore {journal.id} died before its swap: {discard_staged(stack, journal)}")
        elif journal.phase == "undoing":
            _finish_undo(stack, journal)
        else:
            _finish_swap(stack, journal)
    return settled


def undo(stack: Stack, journal: TableJournal, hook: Hook = lambda _: None) -> None:
    """Put back the rows that were live before; those that are live now are kept until the restore is forgotten.

    Raises:
        RestoreRefused: it does not fit; the live table is as it was.
    """
    journal.phase = "undoing"
    save(stack.store, journal)
    try:
        _undo(stack, journal, hook)
    except RestoreRefused:
        journal.phase = "done"
        save(stack.store, journal)
        raise
    journal.phase = "undone"
    save(stack.store, journal)
    line(f"{journal.name}: put back, what the restore had put in is in {journal.place('undone')}")


def forget(stack: Stack, journal: TableJournal) -> None:
    """Drop what a restore left beside the live table or kept: from then on there is no undo."""
    for purpose in ("restored", "kept", "undone"):
        place = journal.place(purpose)
        if journal.kind == "postgres":
            dropped = drop_schema(stack.need_postgres_admin(), journal.database, place, journal.id)
        else:
            dropped = on_clickhouse.database_exists(stack.need_clickhouse(), place)
            on_clickhouse.drop_database(stack.need_clickhouse(), place)
        if dropped:
            line(f"{journal.name}: dropped {place}")
    if journal.kind == "postgres":
        on_postgres.drop_database(stack.need_postgres_admin(), journal.side)
    journal.phase = "forgotten"
    save(stack.store, journal)


def find(stack: Stack, restore_id: str) -> TableJournal:
    """Find the restore that a person means; errors as of `pick`."""
    return pick(load_all(stack.store), restore_id, "of a table ")


def describe_undo(stack: Stack, journal: TableJournal) -> str:
    """Say what an undo does, with the numbers of rows.

    Raises:
        RestoreRefused: there is nothing to undo.
    """
    if journal.into == "beside":
        raise RestoreRefused(
            f"restore {journal.id} put {journal.name} beside the live table and changed nothing; forget drops it"
        )
    if journal.phase == "undone":
        raise RestoreRefused(f"restore {journal.id} is undone already; forget drops what it put aside")
    return (
        f"Undo of restore {journal.id} of {journal.name}: what {journal.place('kept')} holds is put back "
        f"({_rows(stack, journal, journal.place('kept'))}). What is live now ({_rows(stack, journal, '')}), with all writes "
        f"since, leaves the live table and is kept in {journal.place('undone')} until the restore is forgotten."
    )


def describe_forget(journal: TableJournal) -> str:
    """Say what forgetting does."""
    if journal.into == "beside":
        return f"Forget restore {journal.id} of {journal.name}: {journal.place('restored')} is dropped with everything in it."
    kept = journal.place("undone" if journal.phase == "undone" else "kept")
    return f"Forget restore {journal.id} of {journal.name}: {kept} is dropped for good. There is no undo after that."


def _rows(stack: Stack, journal: TableJournal, place: str) -> str:
    """Count the live rows, or those in another place."""
    if journal.kind == "postgres":
        server = stack.need_postgres_admin()
        with server.connect(journal.database) as connection, explained(journal.database, f"count the rows of {journal.table}"):
            name = in_schema(connection, place, journal.table) if place else journal.table
            there = bool(family(connection, name))
            return f"{text(connection, f'SELECT count(*) FROM {name}')} rows" if there else "it is gone"
    with stack.need_clickhouse().client() as client:
        live = clickhouse_live(client, place or journal.database, journal.table, journal.partition)
    return f"{live.rows} rows" if live.exists else "no table"


def _undo(stack: Stack, journal: TableJournal, hook: Hook) -> None:
    if journal.kind == "postgres":
        wanted = Exchange(journal.table, journal.place("kept"), journal.place("undone"), journal.id, recorded={})

        def check(connection: Connection[TupleRow]) -> None:
            kept_as_noted(connection, journal.place("kept"))

        for sentence in exchange_rows(stack.need_postgres_admin(), journal.database, wanted, check, hook):
            line(f"{journal.name}: {sentence}")
    elif journal.step is not None:

        def keep() -> None:
            save(stack.store, journal)
            hook("saved")

        if journal.step.swapped or journal.step.tables:
            on_clickhouse.undo_swap(stack.need_clickhouse(), journal.step, journal.place("undone"), keep)
        journal.step.swapped = False
    else:
        undo_partition(stack.need_clickhouse(), journal, lambda: save(stack.store, journal), hook)


def _finish_swap(stack: Stack, journal: TableJournal) -> None:
    try:
        swap(stack, journal)
        line(f"{journal.name}: restore {journal.id} died in its swap: finished")
    except RestoreRefused as error:
        if not error.permanent:  # whether it was swapped is not known before the server answers
            raise
        line(f"{journal.name}: restore {journal.id} died in its swap, and cannot be finished: {error}")
        discard_staged(stack, journal)


def _finish_undo(stack: Stack, journal: TableJournal) -> None:
    try:
        undo(stack, journal)
    except RestoreRefused as error:
        line(f"{journal.name}: the undo of restore {journal.id} died, and cannot be finished: {error}")


def _finish(stack: Stack, *, dry_run: bool) -> TableJournal | None:
    if dry_run:
        waiting = [journal.id for journal in load_all(stack.store) if journal.phase in OPEN]
        line(f"unfinished restores of tables: {', '.join(waiting) or 'none'}")
        return None
    kinds = {journal.kind for journal in load_all(stack.store) if journal.phase in OPEN}
    with stack.exclusive("restore"), swapping(stack.name, kinds, "finishing a restore of a table that died"):
        settled = settle(stack)
    if not settled:
        line("no restore of a table was left unfinished")
        return None
    show_restore(stack, settled[-1])
    return settled[-1]
