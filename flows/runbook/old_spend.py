"""LiteLLM's logs in Postgres that are old: deleted in batches, each a transaction of its own, then vacuumed.

What keys, teams and users have spent is kept in their own rows and in the Daily tables: it is not lost with the logs
(facts: apps.md 1.8). Rows of LiteLLM_AuditLog stay: who changed a key is asked for years later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.postgres import PostgresServer, explained
from flows.lease import Lease
from flows.report import line
from flows.runbook.old_rows import Delete, Old

__all__ = ["TABLES", "DeleteSpend", "read_old"]

TABLES: Mapping[str, str] = {
    "LiteLLM_SpendLogs": "startTime",
    "LiteLLM_SpendLogToolIndex": "start_time",
    "LiteLLM_SpendLogGuardrailIndex": "start_time",
    "LiteLLM_ErrorLogs": "startTime",
    "LiteLLM_HealthCheckTable": "checked_at",
}
"""Tables that grow with every request or probe, and the column that says when."""
_SETTINGS = {"TimeZone": "UTC", "lock_timeout": "5s", "synchronous_commit": "on"}


def read_old(connection: Connection[TupleRow], before: datetime) -> list[Old]:
    """Count what is older. A partitioned table is counted by its partitions: a row's place is only unique within one."""
    found = []
    for schema, leaf, column, name in connection.execute(_LEAVES, [list(TABLES), list(TABLES.values())]).fetchall():
        counted = sql.SQL("SELECT count(*) FILTER (WHERE {} < %s), count(*), pg_total_relation_size(%s) FROM ONLY {}")
        where = sql.Identifier(schema, leaf)
        row = connection.execute(
            counted.format(sql.Identifier(column), where), [_naive(before), where.as_string(connection)]
        ).fetchone()
        rows, total, size = row or (0, 0, 0)
        found.append(Old(str(name), int(rows), int(total), int(size), id=f"{schema}.{leaf}" if leaf != name else ""))
    return found


@dataclass(frozen=True)
class DeleteSpend(Delete):
    """Deletes them in Postgres.

    Attributes:
        database: LiteLLM's. batch: rows of one transaction.
    """

    server: PostgresServer
    database: str
    batch: int

    def delete(self, lease: Lease) -> str:
        """As in `Delete`."""
        done = []
        with self.server.connect(self.database, settings=_SETTINGS) as connection, explained(self.database, "delete old rows"):
            leaves = connection.execute(_LEAVES, [list(TABLES), list(TABLES.values())]).fetchall()
            wanted = {one.table for one in self.found}
            for schema, leaf, column, name in leaves:
                if name not in wanted:
                    continue
                deleted = self._empty(connection, lease, sql.Identifier(schema, leaf), sql.Identifier(column))
                done.append(f"{leaf} {deleted}")
                line(f"postgres {self.database}: {deleted} rows of {leaf} deleted")
        return f"rows deleted: {', '.join(done)}; their space is used again, and given back by VACUUM FULL only"

    def _empty(self, connection: Connection[TupleRow], lease: Lease, table: sql.Identifier, column: sql.Identifier) -> int:
        statement = sql.SQL(
            "DELETE FROM ONLY {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ONLY {table} WHERE {column} < %s LIMIT %s))"
        ).format(table=table, column=column)
        total = 0
        while True:
            lease.check()
            gone = connection.execute(statement, [_naive(self.before), self.batch]).rowcount
            total += gone
            if gone < self.batch:
                break
        if total:
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(table))
        return total


def _naive(moment: datetime) -> datetime:
    """As Prisma stores times: without a zone, in UTC."""
    return moment.astimezone(UTC).replace(tzinfo=None)


_LEAVES = """
SELECT n.nspname::text, leaf.relname::text, wanted.col, c.relname::text
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS wanted (name, col, place)
JOIN pg_catalog.pg_class c ON c.relname = wanted.name AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace top ON top.oid = c.relnamespace AND top.nspname = 'public'
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = wanted.col AND NOT a.attisdropped
CROSS JOIN LATERAL (
  SELECT c.oid AS relid WHERE c.relkind = 'r'
  UNION ALL SELECT t.relid::oid FROM pg_catalog.pg_partition_tree(c.oid) AS t
  WHERE c.relkind = 'p' AND t.isleaf AND t.relid::oid <> c.oid
) AS one
JOIN pg_catalog.pg_class leaf ON leaf.oid = one.relid AND leaf.relkind = 'r'
JOIN pg_catalog.pg_namespace n ON n.oid = leaf.relnamespace
ORDER BY wanted.place, leaf.relname
"""
"""The index tables come after the logs: a run that dies in between leaves an entry too many, never one too few."""
