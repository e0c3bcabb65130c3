"""The live table as it is now: what a preview tells, and what would refuse a swap before anything is staged."""

from __future__ import annotations

from dataclasses import dataclass, field

from blocks.clickhouse_client import ClickHouseClient
from blocks.errors import RestoreRefused
from blocks.postgres import PINNED, PostgresServer, explained
from flows.compare.clickhouse_tables import inventory
from flows.restore_table.clickhouse_partition import column_types, partition_rows
from flows.restore_table.postgres_family import columns, family, text
from flows.restore_table.postgres_keys import foreign_keys
from flows.restore_table.postgres_swap import refuse_unfit

COUNTED_BYTES = 1 << 30
"""A larger live table is not counted for the preview, only estimated."""


@dataclass(frozen=True)
class Live:
    """The live table now.

    Attributes:
        exists: there is one. rows: their number, `about` it where it was too large to count. bytes: with indexes.
        columns: type by name. referring: tables that refer to it, which nobody may write to during a swap either.
    """

    exists: bool = False
    rows: int = 0
    about: bool = False
    bytes: int = 0
    columns: dict[str, str] = field(default_factory=dict)
    referring: tuple[str, ...] = ()


def postgres_live(server: PostgresServer, database: str, table: str, *, swap: bool) -> tuple[Live, set[str]]:
    """Look at a live Postgres table.

    Args:
        swap: its rows are to be replaced: refuse what forbids that.
    Returns: what it is like, and its name with those of its partitions and inheritance children.
    Raises:
        RestoreRefused: it is not there, or something would happen beside the exchange of rows.
    """
    with server.connect(database, settings=PINNED) as connection, explained(database, f"look at {table}"):
        members = family(connection, table)
        if not members:
            if swap:
                raise RestoreRefused(
                    f"there is no live table {table} to swap rows into; restore it beside, then ALTER TABLE ... SET SCHEMA"
                )
            return Live(), set()
        oids = [member.oid for member in members]
        keys = foreign_keys(connection, oids)
        if swap:
            refuse_unfit(connection, members[:1], keys)
        total = int(text(connection, _BYTES, oids))
        about = total > COUNTED_BYTES
        rows = int(text(connection, _ESTIMATE, oids) if about else text(connection, f"SELECT count(*) FROM {table}"))
        referring = tuple(sorted({key.table for key in keys} | {key.other for key in keys} - {table}))
        return (
            Live(True, rows, about, total, columns(connection, table), tuple(name for name in referring if name != table)),
            {member.name for member in members},
        )


def clickhouse_live(client: ClickHouseClient, database: str, name: str, partition: str) -> Live:
    """Look at a live ClickHouse table.

    Args:
        partition: id of the partition to count; empty for the whole table.
    """
    table = inventory(client, database).get(name)
    if table is None:
        return Live()
    used = client.row(
        "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = {database:String} AND "
        "table = {table:String} AND ({partition:String} = '' OR partition_id = {partition:String})",
        {"database": database, "table": name, "partition": partition},
    )
    rows = partition_rows(client, table, partition) if partition else table.rows or 0
    return Live(True, rows, bytes=int(used[0] or 0) if used else 0, columns=column_types(client, table))


def partition_values(client: ClickHouseClient, database: str, name: str) -> dict[str, str]:
    """Return the partitions that a table has: id -> value as ClickHouse prints it."""
    values = client.rows(
        "SELECT DISTINCT partition_id, partition FROM system.parts WHERE active AND database = {database:String} "
        "AND table = {table:String}",
        {"database": database, "table": name},
    )
    return {str(key): str(value) for key, value in values}


_BYTES = """
SELECT coalesce(sum(pg_catalog.pg_total_relation_size(oid)), 0) FROM unnest(%s::pg_catalog.oid[]) found (oid)
"""
_ESTIMATE = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_catalog.pg_class WHERE oid = ANY (%s) AND relkind = 'r'
"""
