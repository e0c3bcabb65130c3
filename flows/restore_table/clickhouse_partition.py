"""Exchanging one partition of a live ClickHouse table, and exchanging it back.

Two moves of parts: the live partition goes out, the other one comes in. A move is made of hard links and takes a moment.
Between the two, readers see the partition empty, but a row that is inserted meanwhile stays. REPLACE PARTITION would leave no
gap and lose such a row for good: it drops whatever the partition holds then, and a copy made just before does not have it.

Moving out again after the other rows have come in would take these, so the journal says what has been done, and is written
before the rows come in.
"""

from __future__ import annotations

from collections.abc import Callable

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, StatementFailed, identifier, literal, qualified
from blocks.errors import RestoreFailed, RestoreRefused
from flows.backup.clickhouse_merges import start_merges
from flows.compare.clickhouse_tables import Table, inventory
from flows.restore.clickhouse_swap import drop_database
from flows.restore_table.columns import refuse_other_columns
from flows.restore_table.journal import Moved, TableJournal

Save = Callable[[], None]
Hook = Callable[[str], None]


def swap_partition(server: ClickHouseServer, journal: TableJournal, save: Save, hook: Hook = lambda _: None) -> None:
    """Put the restored partition in the live one's place, and keep that. Finishes where an earlier call died.

    Args:
        journal: what is done is recorded in it. save: writes it. hook: told the name of each step before it is done.
    Raises:
        RestoreRefused: it does not fit; the live table is as it was.
        ServiceError: ClickHouse failed; call again to go on.
    """
    moved = _moved(journal)
    with server.client(timeout=3600) as client:
        live = _live(client, journal)
        if not moved.live_out:
            staged = _one(client, journal.side, journal.table)
            if staged is None:
                raise RestoreRefused(f"{journal.name}: there is no {journal.side} to swap in; the live data was not touched")
            _refuse_other_structure(client, live, staged)
            moved.rows = partition_rows(client, live, journal.partition)
            kept = _place(client, journal.place("kept"), live)
            hook("move out")
            _move(client, live, kept, journal.partition)
            moved.live_out = True
            save()
        hook("move in")
        _move_in(client, journal, live, save)
        hook("drop")
    drop_database(server, journal.side)


def undo_partition(server: ClickHouseServer, journal: TableJournal, save: Save, hook: Hook = lambda _: None) -> None:
    """Put back the partition that was live before; what is live now, with all rows written since, is kept as undone.

    Raises as `swap_partition`.
    """
    moved = _moved(journal)
    with server.client(timeout=3600) as client:
        live = _live(client, journal)
        kept = _one(client, journal.place("kept"), journal.table)
        if not moved.restored_out:
            if kept is None:
                raise RestoreRefused(f"{journal.name}: {journal.place('kept')} is gone, there is nothing to put back")
            _refuse_other_structure(client, live, kept)
            undone = _place(client, journal.place("undone"), live)
            hook("move out")
            _move(client, live, undone, journal.partition)
            moved.restored_out = True
            save()
        hook("move in")
        if kept is not None:
            _move(client, kept, live, journal.partition)
        hook("drop")
    drop_database(server, journal.place("kept"))


def partition_rows(client: ClickHouseClient, table: Table, partition: str) -> int:
    """Count the rows that a table has in a partition."""
    row = client.row(
        "SELECT sum(rows) FROM system.parts WHERE active AND database = {database:String} AND table = {table:String} "
        "AND partition_id = {partition:String}",
        {"database": table.database, "table": table.name, "partition": partition},
    )
    return int(row[0] or 0) if row else 0


def without_ttl(client: ClickHouseClient, table: Table) -> None:
    """Let a copy keep rows that are past the table's time to live: it is there to be read from, however old they are."""
    if " TTL " in table.ddl.split(" ENGINE = ", 1)[-1]:
        client.command(f"ALTER TABLE {table.sql} REMOVE TTL")


def _move_in(client: ClickHouseClient, journal: TableJournal, live: Table, save: Save) -> None:
    """Move the restored partition in; where ClickHouse refuses that for good, the one that went out comes back."""
    staged = _one(client, journal.side, journal.table)
    if staged is None:  # an earlier call has moved it in and dropped what was left
        return
    try:
        _move(client, staged, live, journal.partition)
    except StatementFailed as error:
        if not error.permanent:
            raise
        kept = _one(client, journal.place("kept"), journal.table)
        if kept is not None:
            _move(client, kept, live, journal.partition)
        _moved(journal).live_out = False
        save()
        raise RestoreRefused(f"{journal.name}: {error}; what was live was put back; restore beside and insert rows") from None
    start_merges(client, live)


def _refuse_other_structure(client: ClickHouseClient, live: Table, other: Table) -> None:
    """Refuse what cannot be moved from one table to the other, before anything is.

    Raises:
        RestoreRefused: what differs.
    """
    refuse_other_columns(column_types(client, live), column_types(client, other), live.sql)
    for what in ("partition_key", "sorting_key", "primary_key", "storage_policy"):
        here, there = (_property(client, table, what) for table in (live, other))
        if here != there:
            raise RestoreRefused(f"{live.sql}: its {what} is {here!r} and was {there!r}; restore beside and insert rows")


def column_types(client: ClickHouseClient, table: Table) -> dict[str, str]:
    """Return the type of each column by name; of those that are computed it says how."""
    rows = client.rows(
        "SELECT name, type, default_kind FROM system.columns WHERE database = {database:String} AND table = {table:String}",
        {"database": table.database, "table": table.name},
    )
    computed = ("ALIAS", "EPHEMERAL", "MATERIALIZED")
    return {str(name): f"{kind} {how}" if how in computed else str(kind) for name, kind, how in rows}


def _property(client: ClickHouseClient, table: Table, what: str) -> str:
    row = client.row(
        f"SELECT {what} FROM system.tables WHERE database = {{database:String}} AND name = {{table:String}}",
        {"database": table.database, "table": table.name},
    )
    return str(row[0]) if row else ""


def _place(client: ClickHouseClient, database: str, like: Table) -> Table:
    """Make an empty table of the same structure in a database of its own, if it is not there."""
    client.command(f"CREATE DATABASE IF NOT EXISTS {identifier(database)} ENGINE = Atomic")
    if _one(client, database, like.name) is None:
        client.command(f"CREATE TABLE {qualified(database, like.name)} AS {like.sql}")
    made = _one(client, database, like.name)
    if made is None:
        raise RestoreFailed(f"clickhouse {database}: table {like.name} vanished; is somebody dropping what restores made?")
    without_ttl(client, made)
    return made


def _move(client: ClickHouseClient, source: Table, target: Table, partition: str) -> None:
    client.command(f"ALTER TABLE {source.sql} MOVE PARTITION ID {literal(partition)} TO TABLE {target.sql}")


def _live(client: ClickHouseClient, journal: TableJournal) -> Table:
    live = _one(client, journal.database, journal.table)
    if live is None:
        raise RestoreRefused(f"{journal.name}: there is no live table; restore the whole table, without a partition")
    return live


def _one(client: ClickHouseClient, database: str, name: str) -> Table | None:
    return inventory(client, database).get(name)


def _moved(journal: TableJournal) -> Moved:
    if journal.moved is None:
        raise RestoreFailed(f"{journal.name}: its journal is not that of a partition's swap; look at it")
    return journal.moved
