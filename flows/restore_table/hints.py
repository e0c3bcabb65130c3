"""The exact SQL with which a person looks at restored rows and copies those that are missing."""

from __future__ import annotations

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.clickhouse_client import ClickHouseClient, identifier
from blocks.postgres import PINNED, PostgresServer, explained
from flows.compare.clickhouse_tables import Table
from flows.restore_table.postgres_family import GENERATED, columns, family, text


def postgres_statements(server: PostgresServer, database: str, live: str, restored: str) -> list[str]:
    """Say in SQL how to see the restored rows, and how to copy those that the live table lacks.

    Args:
        live, restored: qualified and quoted, both in `database`.
    """
    with server.connect(database, settings=PINNED) as connection, explained(database, "look at the restored table"):
        if not family(connection, live):
            schema, _, _ = live.partition(".")
            return [f"SELECT * FROM {restored};", f"ALTER TABLE {restored} SET SCHEMA {schema};"]
        return [f"SELECT * FROM {restored};", _copy(connection, live, restored)]


def _copy(connection: Connection[TupleRow], live: str, restored: str) -> str:
    there = columns(connection, restored)
    both = [name for name, kind in columns(connection, live).items() if name in there and not kind.endswith(GENERATED)]
    names = ", ".join(sql.Identifier(name).as_string(connection) for name in both)
    insert = f"INSERT INTO {live} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {restored}"
    if text(connection, _UNIQUE, live):
        return f"{insert} ON CONFLICT DO NOTHING;"
    return f"{insert} EXCEPT ALL SELECT {names} FROM {live};"  # nothing tells equal rows apart


def clickhouse_statements(client: ClickHouseClient, live: Table | None, restored: Table) -> list[str]:
    """Say in SQL how to see the restored rows, and how to copy those whose sorting key the live table lacks."""
    if live is None:
        return [f"SELECT * FROM {restored.sql};"]
    rows = client.rows(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String} "
        "AND default_kind NOT IN ('ALIAS', 'EPHEMERAL', 'MATERIALIZED') ORDER BY position",
        {"database": live.database, "table": live.name},
    )
    names = ", ".join(identifier(str(name)) for (name,) in rows)
    key = client.row(
        "SELECT sorting_key FROM system.tables WHERE database = {database:String} AND name = {table:String}",
        {"database": live.database, "table": live.name},
    )
    insert = f"INSERT INTO {live.sql} ({names}) SELECT {names} FROM {restored.sql}"
    if key and key[0]:
        copy = f"{insert} WHERE ({key[0]}) NOT IN (SELECT {key[0]} FROM {live.sql});"
    else:
        copy = f"{insert} EXCEPT ALL SELECT {names} FROM {live.sql};"
    return [f"SELECT * FROM {restored.sql};", copy]


_UNIQUE = """
SELECT 1 FROM pg_catalog.pg_index WHERE indrelid = pg_catalog.to_regclass(%s) AND indisunique LIMIT 1
"""
