"""Reads what stands in the databases and the version rules have to know. Whatever cannot be read is None, and said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from blocks.clickhouse_client import identifier
from blocks.errors import StackError
from blocks.postgres import explained
from flows.report import line
from flows.stack import Stack
from flows.upgrade.rules import Background, ClickHouseSchema, Facts, PrismaSchema

__all__ = ["read_databases", "read_requests"]

T = TypeVar("T")


def read_databases(stack: Stack) -> Facts:
    """Read how far the databases are migrated, what is in LiteLLM's that is not its own, what Langfuse's worker still does."""
    litellm, langfuse = stack.settings.litellm_database, stack.settings.langfuse_database
    return Facts(
        foreign_tables=_or_none("foreign tables", lambda: _foreign(stack, litellm)),
        litellm_schema=_or_none("migrations of LiteLLM", lambda: _prisma(stack, litellm)),
        langfuse_schema=_or_none("migrations of Langfuse", lambda: _prisma(stack, langfuse)),
        clickhouse_schema=_or_none("migrations of ClickHouse", lambda: _clickhouse(stack)),
        background=_or_none("background migrations", lambda: _background(stack, langfuse)),
    )


def read_requests(stack: Stack, since: datetime) -> tuple[int, int] | None:
    """Count the gateway's requests since a moment, and those that failed, as it logs them; None where nobody can."""

    def look() -> tuple[int, int] | None:
        rows = _rows(stack, stack.settings.litellm_database, _REQUESTS, [since.astimezone(UTC).replace(tzinfo=None)])
        return (int(rows[0][0]), int(rows[0][1])) if rows else None

    return _or_none("requests of the gateway", look)


def _or_none(what: str, look: Callable[[], T | None]) -> T | None:
    try:
        return look()
    except StackError as error:
        line(f"{what}: not known: {error}")
        return None


def _rows(stack: Stack, database: str, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Ask one database; nothing where there is no Postgres here, or not such a table yet."""
    if stack.postgres is None:
        return []
    with stack.postgres.connect(database, settings={"statement_timeout": "20s", "lock_timeout": "5s"}) as connection:
        table = sql.split("public.")[1].split()[0].strip('"')
        known = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename = %s"
        with explained(database, f"read {table}"):
            if not connection.execute(known, [table]).fetchone():
                return []
            return connection.execute(sql.encode(), list(parameters) or None).fetchall()


def _prisma(stack: Stack, database: str) -> PrismaSchema | None:
    rows = _rows(stack, database, _MIGRATIONS)
    if not rows:
        return None
    done = [str(name) for name, finished, rolled_back in rows if finished and not rolled_back]
    broken = tuple(str(name) for name, finished, rolled_back in rows if not finished and not rolled_back)
    return PrismaSchema(applied=len(done), newest=max(done, default=""), unfinished=broken)


def _foreign(stack: Stack, database: str) -> tuple[str, ...] | None:
    if stack.postgres is None:
        return None
    with stack.postgres.connect(database, settings={"statement_timeout": "20s"}) as connection, explained(database, "read"):
        return tuple(str(name) for (name,) in connection.execute(_FOREIGN.encode()).fetchall())


def _clickhouse(stack: Stack) -> ClickHouseSchema | None:
    if stack.clickhouse is None:
        return None
    with stack.clickhouse.client(timeout=20) as client:
        for database in stack.clickhouse_databases():
            if not int(client.command(f"EXISTS TABLE {identifier(database)}.schema_migrations")):
                continue
            row = client.row(f"SELECT version, dirty FROM {identifier(database)}.schema_migrations {_NEWEST}")
            if row is not None:
                return ClickHouseSchema(version=int(row[0]), dirty=bool(row[1]))
    return None


def _background(stack: Stack, database: str) -> Background | None:
    rows = _rows(stack, database, _BACKGROUND)
    by_state: dict[str, list[str]] = {"running": [], "waiting": [], "failed": []}
    for name, state in rows:
        with suppress(KeyError):
            by_state[state].append(str(name))
    return Background(**{state: tuple(names) for state, names in by_state.items()})


_MIGRATIONS = """
SELECT migration_name, finished_at IS NOT NULL, rolled_back_at IS NOT NULL FROM public._prisma_migrations ORDER BY 1
"""
_FOREIGN = """
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND c.relname !~ '^LiteLLM_' AND c.relname <> '_prisma_migrations'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
"""
_BACKGROUND = """
SELECT name, CASE WHEN failed_at IS NOT NULL THEN 'failed' WHEN finished_at IS NOT NULL THEN 'done'
  WHEN locked_at > now() - interval '1 minute' THEN 'running' ELSE 'waiting' END FROM public.background_migrations ORDER BY 1
"""
_REQUESTS = """
SELECT count(*)::int, count(*) FILTER (WHERE status = 'failure')::int FROM public."LiteLLM_SpendLogs" WHERE "startTime" > %s
"""
_NEWEST = "ORDER BY sequence DESC LIMIT 1"
