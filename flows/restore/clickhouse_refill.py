"""Copying a table's rows by partition: hard links on the same disk, and the same result however often it is done."""

from __future__ import annotations

from blocks.clickhouse_client import ClickHouseClient, literal, qualified
from blocks.errors import RestoreRefused
from flows.compare.clickhouse_tables import Table, inventory

__all__ = ["PREVIOUS", "RESTORED", "copy_rows", "put_aside"]

RESTORED = " (restored rows)"
PREVIOUS = " (previous rows)"
"""Ends of the names of plain tables that hold the rows of a materialised view's hidden table."""


def put_aside(client: ClickHouseClient, source: Table, database: str, name: str) -> None:
    """Copy the rows of a hidden table into a plain one, which is made if it is not there.

    Raises:
        RestoreRefused: the hidden table is not of the MergeTree family.
    """
    client.command(f"CREATE TABLE IF NOT EXISTS {qualified(database, name)} AS {source.sql}")
    copy_rows(client, source, inventory(client, database)[name])


def copy_rows(client: ClickHouseClient, source: Table, target: Table) -> None:
    """Make `target` hold exactly the rows of `source`, which is defined alike.

    Raises:
        RestoreRefused: they are not of the MergeTree family.
    """
    if not (source.in_parts and target.in_parts):
        raise RestoreRefused(
            f"clickhouse: the rows of {source.sql} ({source.engine}) cannot be copied by partition; insert them by hand"
        )
    there = _partitions(client, source)
    for partition in sorted(there):
        client.command(f"ALTER TABLE {target.sql} REPLACE PARTITION ID {literal(partition)} FROM {source.sql}")
    for partition in sorted(_partitions(client, target) - there):
        client.command(f"ALTER TABLE {target.sql} DROP PARTITION ID {literal(partition)}")


def _partitions(client: ClickHouseClient, table: Table) -> set[str]:
    rows = client.rows(
        "SELECT DISTINCT partition_id FROM system.parts "
        "WHERE database = {database:String} AND table = {table:String} AND active",
        {"database": table.database, "table": table.name},
    )
    return {str(partition) for (partition,) in rows}
