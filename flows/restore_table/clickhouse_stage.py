"""One table or partition of a ClickHouse backup, restored into a database beside the live one and compared."""

from __future__ import annotations

from blocks.clickhouse import ClickHouseServer
from blocks.errors import RestoreFailed, RestoreRefused
from blocks.object_store import BackupStore
from flows.backup.clickhouse_merges import start_merges
from flows.backup.clickhouse_operation import Progress
from flows.backup.manifest import TableContent
from flows.compare.clickhouse_tables import inventory
from flows.restore import clickhouse as on_clickhouse
from flows.restore_table.choose import ClickHouseChoice
from flows.restore_table.clickhouse_partition import column_types, without_ttl
from flows.restore_table.columns import refuse_other_columns


def restore_beside(
    server: ClickHouseServer,
    choice: ClickHouseChoice,
    store: BackupStore,
    prefix: str,
    base: str | None,
    side: str,
    progress: Progress,
) -> None:
    """Restore a table or partition into a database of its own and compare every value with what the backup's parts held.

    Args:
        store, prefix: where the set is. base: key prefix of the set that it is a difference to. side: the new database.
    Raises:
        IntegrityError: a stored object is not what was backed up; nothing was restored.
        RestoreFailed: what was restored is not what the manifest says.
    """
    on_clickhouse.drop_database(server, side)
    name, component = choice.table.name, choice.component
    on_clickhouse.restore_database(
        server, component, store, prefix, base, side, [name], partition=choice.partition, progress=progress
    )
    content = choice.table.content
    if choice.partition:
        content = TableContent(name=name, method="full", rows=choice.rows, checksum=choice.checksum)
    expected = component.model_copy(update={"tables": [choice.table.model_copy(update={"content": content})]})
    differences = on_clickhouse.compare(server, expected, side, tables=[name])
    if differences:
        raise RestoreFailed(f"the restored copy differs: {differences[0]}; the live data was not touched")


def leave_beside(server: ClickHouseServer, side: str, table: str) -> None:
    """Make a restored copy one that a person can work with for as long as it takes: merges on, rows never expire."""
    with server.client() as client:
        copy = inventory(client, side)[table]
        if copy.in_parts:
            without_ttl(client, copy)
            start_merges(client, copy)


def refuse_other_table(server: ClickHouseServer, live: str, side: str, table: str) -> None:
    """Refuse to exchange tables of other columns: who writes to the live one writes its columns.

    Raises:
        RestoreRefused: which columns differ.
    """
    with server.client() as client:
        present, staged = inventory(client, live).get(table), inventory(client, side).get(table)
        if staged is None:
            raise RestoreRefused(f"clickhouse {live}: there is no {side} with table {table}; the live data was not touched")
        if present is not None:
            refuse_other_columns(column_types(client, present), column_types(client, staged), present.sql)
