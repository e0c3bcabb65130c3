"""Applies migrations to a scratch database, one by one, and looks what they do: how long, what they lock, what they drop."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import SettingsError
from blocks.postgres import PostgresServer, explained
from flows.upgrade.rehearsal.pending import Recorded
from flows.upgrade.rehearsal.wheel import Migration

__all__ = ["Applied", "Shape", "apply", "recorded", "shape"]

Outcome = Literal["applied", "already there", "failed"]

_ALREADY = (
    psycopg.errors.DuplicateTable,
    psycopg.errors.DuplicateColumn,
    psycopg.errors.DuplicateObject,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedObject,
)
_COMMENT = re.compile(rb"--[^\n]*")
_OUTSIDE = re.compile(
    rb"\bCONCURRENTLY\b|\bVACUUM\b|^\s*(?:BEGIN|COMMIT|START\s+TRANSACTION)\s*(?:WORK|TRANSACTION)?\s*;", re.I | re.M
)


@dataclass(frozen=True)
class Applied:
    """What came of one migration.

    Attributes:
        seconds: it took. blocked: tables that nobody could write to, or read, meanwhile; empty where that is not known.
        said: why it failed, or what was there already.
    """

    name: str
    seconds: float
    outcome: Outcome
    blocked: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True)
class Shape:
    """A database, as far as something may get lost in it.

    Attributes:
        tables: rows of each. columns: `table.column`. bytes: size of the database.
    """

    tables: Mapping[str, int]
    columns: frozenset[str]
    bytes: int


def recorded(server: PostgresServer, database: str) -> list[Recorded]:
    """Read which migrations a database has.

    Raises:
        SettingsError: Prisma has never been there: it would refuse a database that is not empty (P3005).
    """
    with _opened(server, database) as connection:
        try:
            rows = connection.execute(_RECORDED).fetchall()
        except psycopg.errors.UndefinedTable:
            raise SettingsError(
                f"rehearsal: {database} has no _prisma_migrations, expected LiteLLM's database; see LITELLM_DATABASE"
            ) from None
    return [Recorded(str(name), str(checksum), bool(done), bool(back)) for name, checksum, done, back in rows]


def shape(server: PostgresServer, database: str) -> Shape:
    """Count the rows of every table and name every column; as long as a sequential scan of everything takes."""
    with _opened(server, database) as connection, explained(database, "look at what is in it"):
        names = [str(name) for (name,) in connection.execute(_TABLES)]
        tables = {name: _count(connection, name) for name in names}
        columns = frozenset(f"{table}.{column}" for table, column in connection.execute(_COLUMNS))
        size = connection.execute("SELECT pg_catalog.pg_database_size(current_database())").fetchone()
    return Shape(tables, columns, int(size[0]) if size else 0)


def apply(
    server: PostgresServer, migrator: PostgresServer, database: str, migration: Migration, *, limit_s: int, forgiving: bool
) -> Applied:
    """Apply one migration as LiteLLM would, and record it as Prisma does.

    Args:
        server: the scratch place, as a superuser. migrator: the same as LiteLLM's role: what that may not do fails here, too.
        limit_s: seconds for each of its statements. forgiving: what is there already, or gone already, counts as applied, as
            before LiteLLM 1.106.
    """
    begun = time.monotonic()
    blocked: tuple[str, ...] = ()
    with _opened(migrator, database, statement_timeout=f"{limit_s}s") as connection:
        try:
            if _OUTSIDE.search(_COMMENT.sub(b"", migration.sql)):
                connection.execute(migration.sql)
            else:
                with connection.transaction():
                    connection.execute(migration.sql)
                    blocked = tuple(str(name) for (name,) in connection.execute(_BLOCKED))
        except psycopg.errors.QueryCanceled:
            return Applied(migration.name, time.monotonic() - begun, "failed", said=f"a statement took longer than {limit_s} s")
        except psycopg.Error as error:
            seconds, said = time.monotonic() - begun, _one_line(error)
            if not (forgiving and isinstance(error, _ALREADY)):
                return Applied(migration.name, seconds, "failed", said=said)
            _record(server, database, migration)
            return Applied(migration.name, seconds, "already there", said=said)
        seconds = time.monotonic() - begun
    _record(server, database, migration)
    return Applied(migration.name, seconds, "applied", blocked)


def _record(server: PostgresServer, database: str, migration: Migration) -> None:
    with _opened(server, database) as connection, explained(database, "record a migration"):
        connection.execute(_RECORD, {"name": migration.name, "checksum": migration.checksum})


def _count(connection: Connection[TupleRow], table: str) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", table))).fetchone()
    return int(row[0]) if row else 0


def _opened(server: PostgresServer, database: str, **settings: str) -> Connection[TupleRow]:
    """Connect, with the search path that LiteLLM has: its scripts name no schema."""
    return server.connect(database, settings={"search_path": "public", **settings})


def _one_line(error: psycopg.Error) -> str:
    """What the server said; of errors about data (class 22) without the value that they quote: it may be a prompt."""
    said, state = error.diag.message_primary or type(error).__name__, error.sqlstate or ""
    if state.startswith("22"):
        said = re.sub(r'"(?:.|\n)*"', "a value of the data", said)
    return f"{said} ({state or type(error).__name__})"


_RECORDED = """
SELECT migration_name, checksum, finished_at IS NOT NULL, rolled_back_at IS NOT NULL FROM public._prisma_migrations
ORDER BY started_at
"""
_RECORD = """
INSERT INTO public._prisma_migrations (id, checksum, migration_name, finished_at, applied_steps_count)
VALUES (gen_random_uuid()::text, %(checksum)s, %(name)s, now(), 1)
"""
_TABLES = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'public' ORDER BY 1"
_COLUMNS = """
SELECT c.relname, a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'public'::pg_catalog.regnamespace AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
"""
_BLOCKED = """
SELECT c.relname FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.granted AND c.relkind IN ('r', 'p')
  AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
  AND pg_catalog.pg_relation_size(c.oid) > 0 AND c.relname <> '_prisma_migrations'
GROUP BY 1 ORDER BY 1
"""
