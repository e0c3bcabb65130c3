"""Langfuse's rows in ClickHouse that are old: whole months are dropped, what is left is deleted row by row.

Dropping a partition takes a moment and rewrites nothing. A lightweight delete marks rows, and merges remove them later: on
tables of Langfuse's size an `ALTER TABLE ... DELETE` rewrites every part instead (facts: apps.md 6, incident 5). Rows of
`blob_storage_file_log` stay: by them Langfuse finds an event's object in the bucket when it deletes its trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, StatementFailed, identifier, literal, qualified
from flows.lease import Lease
from flows.report import line
from flows.runbook.old_rows import Delete, Old

__all__ = ["TABLES", "DeleteTraces", "ends_before", "read_old"]

TABLES: Mapping[str, str] = {
    "traces": "timestamp",
    "observations": "start_time",
    "scores": "timestamp",
    "events_full": "start_time",
    "events_core": "start_time",
}
"""What Langfuse 3 and 4 keep of requests, and the column that says when (facts: apps.md 3.1)."""
_SYNTAX_ERROR = 62
_WAIT = {"lightweight_deletes_sync": 1, "mutations_sync": 1}
_NO_LIMIT = {"max_table_size_to_drop": 0, "max_partition_size_to_drop": 0}
"""ClickHouse refuses to drop more than 50 GB, as a protection against slips of the hand; a person has approved this."""


def read_old(client: ClickHouseClient, databases: Sequence[str], before: datetime) -> list[Old]:
    """Count what is older, by table and partition; partitions without an old row are counted, too, so that totals are right."""
    found = []
    for database, table, key in client.rows(_THERE, {"databases": list(databases), "tables": list(TABLES)}):
        column = TABLES[str(table)]
        bytes_of = {str(name): int(size) for name, size in client.rows(_BYTES, {"database": database, "table": table})}
        monthly = str(key).replace(" ", "") == f"toYYYYMM({column})"
        sql = (
            f"SELECT _partition_id, countIf({identifier(column)} < {_moment(before)}), count() "
            f"FROM {qualified(str(database), str(table))} GROUP BY _partition_id ORDER BY _partition_id"
        )
        for name, rows, total in client.rows(sql):
            whole = monthly and rows == total and ends_before(str(name), before)
            found.append(Old(f"{database}.{table}", int(rows), int(total), bytes_of.get(str(name), 0), whole, str(name)))
    return found


def ends_before(month: str, moment: datetime) -> bool:
    """Say whether a monthly partition, `202610`, can hold nothing as young as a moment."""
    if len(month) != 6 or not month.isdigit() or not 1 <= int(month[4:]) <= 12:
        return False
    year, number = int(month[:4]), int(month[4:])
    following = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return following <= moment


@dataclass(frozen=True)
class DeleteTraces(Delete):
    """Deletes them in ClickHouse."""

    server: ClickHouseServer

    def delete(self, lease: Lease) -> str:
        """As in `Delete`."""
        dropped = deleted = 0
        with self.server.client(timeout=3 * 3600) as client:
            for one in self.found:
                lease.check()
                database, _, table = one.table.rpartition(".")
                if one.whole:
                    client.command(f"ALTER TABLE {qualified(database, table)} DROP PARTITION ID {literal(one.id)}", _NO_LIMIT)
                    dropped += one.rows
                else:
                    self._mark(client, database, table, one.id)
                    deleted += one.rows
                line(f"clickhouse: {one.words}: gone")
        return f"{dropped} rows were dropped with their partitions, {deleted} deleted; merges free the space of the latter"

    def _mark(self, client: ClickHouseClient, database: str, table: str, partition: str) -> None:
        """Delete within one partition; releases before 24.8 know no such clause, and look at the others in vain."""
        where = f"{identifier(TABLES[table])} < {_moment(self.before)}"
        name = qualified(database, table)
        try:
            client.command(f"DELETE FROM {name} IN PARTITION ID {literal(partition)} WHERE {where}", _WAIT)
        except StatementFailed as error:
            if error.code != _SYNTAX_ERROR:
                raise
            client.command(f"DELETE FROM {name} WHERE {where}", _WAIT)


def _moment(moment: datetime) -> str:
    text = moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"toDateTime64({literal(text)}, 3, 'UTC')"


_THERE = """
SELECT database, name, partition_key FROM system.tables
WHERE has({databases:Array(String)}, database) AND has({tables:Array(String)}, name) AND engine LIKE '%MergeTree'
ORDER BY database, name
"""
_BYTES = """
SELECT partition_id, sum(bytes_on_disk) FROM system.parts
WHERE active AND database = {database:String} AND table = {table:String} GROUP BY partition_id
"""
