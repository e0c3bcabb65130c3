"""Schemas that a restore makes in a live database, known by their comment, so that nobody else's is ever dropped."""

from __future__ import annotations

import re

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import RestoreRefused
from blocks.postgres import PINNED, PostgresServer, explained
from flows.restore_table.postgres_family import text

NAME = re.compile(r"(restored|kept|undone)_[a-z0-9]{6}")


def create_schema(connection: Connection[TupleRow], schema: str, note: str, owner: str = "") -> None:
    """Create a schema with a comment that says whose it is.

    Args:
        note: begins with the restore's id. owner: quoted role; empty for our own.
    Raises:
        psycopg.errors.DuplicateSchema: it is there.
    """
    authorization = sql.SQL(f" AUTHORIZATION {owner}") if owner else sql.SQL("")
    with connection.transaction():
        connection.execute(sql.SQL("CREATE SCHEMA {}{}").format(sql.Identifier(schema), authorization))
        connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(schema), sql.Literal(note)))


def note_of(connection: Connection[TupleRow], schema: str) -> str | None:
    """Return the comment on a schema, None where there is no such schema."""
    row = connection.execute(_NOTE, [schema]).fetchone()
    return None if row is None else str(row[0] or "")


def drop_schema(server: PostgresServer, database: str, schema: str, restore_id: str) -> bool:
    """Drop a schema that a restore made, with everything in it.

    Returns: whether there was one.
    Raises:
        RestoreRefused: somebody else's schema has that name.
    """
    if not server.exists(database):
        return False
    settings = PINNED | {"session_replication_role": "replica", "lock_timeout": "30s"}
    with server.connect(database, settings=settings) as connection, explained(database, f"drop schema {schema}"):
        note = note_of(connection, schema)
        if note is None:
            return False
        if not NAME.fullmatch(schema) or not note.startswith(restore_id):
            raise RestoreRefused(
                f"postgres {database}: schema {schema} is not of restore {restore_id}, by its comment; look at it, and drop it"
            )
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    return True


def has_schema(server: PostgresServer, database: str, schema: str) -> bool:
    """Say whether a database has a schema."""
    if not server.exists(database):
        return False
    with server.connect(database) as connection, explained(database, "list schemas"):
        return bool(text(connection, "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", schema))


_NOTE = """
SELECT pg_catalog.obj_description(oid, 'pg_namespace') FROM pg_catalog.pg_namespace WHERE nspname = %s
"""
