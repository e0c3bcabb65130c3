"""Swapping a restored ClickHouse database in, table by table, and back out again.

Only tables that hold rows are exchanged. An exchanged view would go on naming the scratch database, so the scratch views are
dropped, and the live ones stay, or are defined as the manifest has them. A materialised view without TO knows its hidden
table by UUID and breaks when that is exchanged (measured), so its rows are copied by partition: see `clickhouse_refill`.

One exchange is atomic, several are not, and doing one twice undoes it. So the journal holds what identifies both sides of every
table before the first is touched, and a process that comes later sees from the live table which side it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, StatementFailed, identifier, qualified
from blocks.errors import RestoreFailed, ServiceError
from flows.backup.clickhouse_merges import start_merges
from flows.backup.manifest import ClickHouseDatabase
from flows.compare.clickhouse_tables import Table, inventory, is_inner, stored_in
from flows.restore.clickhouse_plan import plan_swap
from flows.restore.clickhouse_refill import PREVIOUS, RESTORED, copy_rows, put_aside
from flows.restore.journal import Step, TableSwap

__all__ = ["describe_undo", "drop_database", "swap_databases", "undo_swap"]

Save = Callable[[], None]

_ANYWAY = {"check_table_dependencies": 0, "check_referential_table_dependencies": 0}
_ANY_SIZE = {"max_table_size_to_drop": 0, "max_partition_size_to_drop": 0}
_NEEDS_ANOTHER = frozenset({36, 47, 60, 81})
"""What defining a view ends in when something it reads is not there yet."""


def swap_databases(server: ClickHouseServer, component: ClickHouseDatabase, step: Step, save: Save) -> None:
    """Put the restored tables in the live ones' place, and keep those. Finishes where an earlier call died.

    Args:
        component: what the manifest says of the database. step: names; what is done is recorded in it.
        save: writes the journal with the step in it.
    Raises:
        RestoreRefused: it cannot be swapped; nothing was changed.
        RestoreFailed: the live table is neither the one of before nor the restored one.
        ServiceError: ClickHouse failed; call again to go on.
    """
    with server.client(timeout=3600) as client:
        if not step.tables:
            step.tables = plan_swap(client, component, step)
            save()
        client.command(f"CREATE DATABASE IF NOT EXISTS {identifier(step.live)}")
        _clear_staged(client, step)
        for swap in step.tables:
            if swap.how == "exchange":
                _exchange(client, swap, step.live, step.staged)
                _done(swap, save)
        for swap in step.tables:
            if swap.how == "refill" and not swap.saved:
                _save_rows(client, swap, step, save)
        _define_all(client, step, {table.name: table.ddl for table in component.tables})
        for swap in step.tables:
            if swap.how == "refill" and not swap.done:
                _copy_into_view(client, step.staged, swap.name + RESTORED, step.live, swap.name)
            _done(swap, save)
        _wake(client, step.live)
        if step.existed:
            _rename(client, step.staged, step.kept)
        else:
            drop_database(server, step.staged)
        _wake(client, step.kept)


def undo_swap(server: ClickHouseServer, step: Step, undone: str, save: Save) -> None:
    """Put back what was live before, and keep the restored tables, with all writes made since, under the name `undone`.

    Finishes where an earlier call died. Raises as `swap_databases`.
    """
    with server.client(timeout=3600) as client:
        if not step.existed:
            _undo_creation(client, step, undone)
            return
        for swap in reversed(step.tables):
            if swap.done:
                _undo(client, swap, step, save)
                swap.done = False
                save()
        _wake(client, step.live)
        _rename(client, step.kept, undone)
        _wake(client, undone)


def describe_undo(server: ClickHouseServer, step: Step) -> str:
    """Say what an undo would put back, and how many rows written since would leave the live tables."""
    with server.client() as client:
        live = inventory(client, step.live)
        places = {name: stored_in(live, name) for name in live}
    if not step.existed:
        rows = sum(place.rows or 0 for place in places.values() if place)
        return f"clickhouse {step.live}: did not exist before; it becomes {rows} rows put aside, and is gone"
    changes = []
    for swap in step.tables:
        place = places.get(swap.name)
        if swap.how != "define" and swap.done:
            now = (place.rows or 0) if place else 0
            changes.append(f"{swap.name}: {now} rows now, {swap.restored} were restored, {swap.rows} come back")
    return f"clickhouse {step.live}: {'; '.join(changes) or 'no table was swapped'}"


def drop_database(server: ClickHouseServer, database: str) -> None:
    """Drop a database with everything in it, if it exists."""
    with server.client(timeout=3600) as client:
        client.command(f"DROP DATABASE IF EXISTS {identifier(database)} SYNC", {**_ANYWAY, **_ANY_SIZE})


def _clear_staged(client: ClickHouseClient, step: Step) -> None:
    """Drop what must not be swapped from the scratch database; rows of hidden tables are put aside first."""
    staged = inventory(client, step.staged)
    keep = {swap.name for swap in step.tables if swap.how == "exchange"}
    for swap in step.tables:
        if swap.how == "refill" and swap.name in staged and (hidden := stored_in(staged, swap.name)):
            put_aside(client, hidden, step.staged, swap.name + RESTORED)
    for name, table in inventory(client, step.staged).items():
        if name not in keep and not name.endswith((RESTORED, PREVIOUS)) and not is_inner(name):
            _drop(client, table)


def _exchange(client: ClickHouseClient, swap: TableSwap, live_database: str, staged_database: str) -> None:
    """Exchange one table, unless that has happened: then the live one is the one that was staged."""
    name = swap.name
    live, staged = _one(client, live_database, name), _one(client, staged_database, name)
    if live is not None and live.identity == swap.staged:
        return
    if staged is None or staged.identity != swap.staged:
        raise RestoreFailed(
            f"clickhouse {live_database}: the restored table {name} is neither there nor in {staged_database}: somebody moved "
            f"or dropped it; look for {swap.staged}, or undo what was swapped"
        )
    if live is None:
        client.command(f"CREATE TABLE {qualified(live_database, name)} AS {staged.sql}")
    client.command(f"EXCHANGE TABLES {qualified(live_database, name)} AND {staged.sql}")
    _see(client, live_database, name, swap.staged, swapped=True)


def _save_rows(client: ClickHouseClient, swap: TableSwap, step: Step, save: Save) -> None:
    """Put the rows aside that a live materialised view has in its hidden table."""
    live = inventory(client, step.live)
    if swap.previous and swap.name in live and (hidden := stored_in(live, swap.name)):
        put_aside(client, hidden, step.staged, swap.name + PREVIOUS)
    swap.saved = True
    save()


def _see(client: ClickHouseClient, database: str, name: str, restored: str, *, swapped: bool) -> None:
    """Look whether one exchange was made: the driver repeats a request whose connection was reset, and two are none."""
    live = _one(client, database, name)
    if (live is not None and live.identity == restored) is not swapped:
        raise ServiceError(f"clickhouse {database}: table {name} was not exchanged after all; try again")


def _define_all(client: ClickHouseClient, step: Step, definitions: Mapping[str, str]) -> None:
    """Create views as the manifest has them, those first that others read from."""
    waiting = [swap.name for swap in step.tables if swap.how != "exchange" and not swap.done]
    while waiting:
        left = [name for name in waiting if not _defined(client, step.live, name, definitions[name])]
        if len(left) == len(waiting):
            client.command(definitions[left[0]])  # for its error
        waiting = left


def _defined(client: ClickHouseClient, database: str, name: str, ddl: str) -> bool:
    """Create a view or a table without rows if it is not there as it should be; False when what it reads is not there yet."""
    present = _one(client, database, name)
    if present is not None:
        if present.ddl == ddl:
            return True
        _drop(client, present)
    try:
        client.command(ddl)
    except StatementFailed as error:
        if error.code in _NEEDS_ANOTHER:
            return False
        raise
    return True


def _undo(client: ClickHouseClient, swap: TableSwap, step: Step, save: Save) -> None:
    if swap.how == "exchange":
        _undo_exchange(client, swap, step)
        return
    if swap.how == "refill" and swap.saved:
        live = inventory(client, step.live)
        if swap.name in live and (hidden := stored_in(live, swap.name)):
            put_aside(client, hidden, step.kept, swap.name + RESTORED)
        swap.saved = False
        save()
    present = _one(client, step.live, swap.name)
    if present is not None and present.ddl != swap.previous:
        _drop(client, present)
        present = None
    if present is None and swap.previous:
        client.command(swap.previous)
    if swap.how == "refill" and swap.previous:
        _copy_into_view(client, step.kept, swap.name + PREVIOUS, step.live, swap.name)


def _undo_exchange(client: ClickHouseClient, swap: TableSwap, step: Step) -> None:
    live, kept = _one(client, step.live, swap.name), _one(client, step.kept, swap.name)
    if live is not None and live.identity == swap.staged:
        if kept is None:
            raise RestoreFailed(
                f"clickhouse {step.live}: table {swap.name} is not in {step.kept}; there is nothing to put back"
            )
        client.command(f"EXCHANGE TABLES {live.sql} AND {kept.sql}")
        _see(client, step.live, swap.name, swap.staged, swapped=False)
    if not swap.live and (empty := _one(client, step.live, swap.name)) and empty.identity != swap.staged:
        _drop(client, empty)


def _undo_creation(client: ClickHouseClient, step: Step, undone: str) -> None:
    """Move a database that the restore created out of the way: its rows stay, views cannot be renamed with it."""
    live = inventory(client, step.live)
    for name, table in live.items():
        hidden = stored_in(live, name) if table.engine == "MaterializedView" else None
        if hidden is not None:
            put_aside(client, hidden, step.live, name + RESTORED)
    for name, table in live.items():
        if not table.holds_rows and not is_inner(name):
            _drop(client, table)
    _rename(client, step.live, undone)


def _copy_into_view(client: ClickHouseClient, source_database: str, source: str, database: str, view: str) -> None:
    live = inventory(client, database)
    target = stored_in(live, view) if view in live else None
    held = _one(client, source_database, source)
    if target is None or held is None:
        raise RestoreFailed(f"clickhouse {database}: the rows of materialised view {view} are not in {source_database}")
    copy_rows(client, held, target)


def _wake(client: ClickHouseClient, database: str) -> None:
    """Start merges, which stay stopped with a table wherever it goes, and let dictionaries load what they read now."""
    tables = inventory(client, database)
    for table in tables.values():
        if table.in_parts:
            start_merges(client, table)
    _reload(client, (table for table in tables.values() if table.engine == "Dictionary"))


def _reload(client: ClickHouseClient, dictionaries: Iterable[Table]) -> None:
    for dictionary in dictionaries:
        client.command(f"SYSTEM RELOAD DICTIONARY {dictionary.sql}")


def _rename(client: ClickHouseClient, old: str, new: str) -> None:
    names = {str(name) for (name,) in client.rows("SELECT name FROM system.databases")}
    if old in names:
        client.command(f"RENAME DATABASE {identifier(old)} TO {identifier(new)}", _ANYWAY)


def _drop(client: ClickHouseClient, table: Table) -> None:
    kind = "DICTIONARY" if table.engine == "Dictionary" else "TABLE"
    client.command(f"DROP {kind} IF EXISTS {table.sql} SYNC", {**_ANYWAY, **_ANY_SIZE})


def _one(client: ClickHouseClient, database: str, name: str) -> Table | None:
    return inventory(client, database).get(name)


def _done(swap: TableSwap, save: Save) -> None:
    if not swap.done:
        swap.done = True
        save()
