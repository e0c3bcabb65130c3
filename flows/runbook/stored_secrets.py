"""Secrets that LiteLLM and Langfuse keep in Postgres, sealed: where each stands, and how many of them a key opens.

A value is read, tried and forgotten; only its place is ever shown (facts: apps.md 1.8, 2.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from psycopg import Connection, sql
from psycopg.rows import TupleRow
from pydantic import SecretStr

from blocks.postgres import PostgresServer, explained
from blocks.sealed_values import langfuse_opens, litellm_opens

__all__ = ["Application", "Proof", "Sealed", "prove", "read_sealed"]

Application = Literal["litellm", "langfuse"]

_MOST = 2000
"""Values of a column that are tried, the newest rows first where the table says which those are."""
_OPENS: dict[Application, Callable[[str, str], bool | None]] = {"litellm": litellm_opens, "langfuse": langfuse_opens}


@dataclass(frozen=True)
class Sealed:
    """One value. place: table, row and name, for people. value: as it is stored."""

    place: str
    value: str = field(repr=False)


@dataclass(frozen=True)
class Proof:
    """What a key opens. opened: how many. closed: the places of those that it does not open."""

    opened: int
    closed: tuple[str, ...]

    @property
    def total(self) -> int:
        """How many were tried."""
        return self.opened + len(self.closed)

    @property
    def words(self) -> str:
        """For people."""
        if not self.closed:
            return f"opens all {self.total}"
        more = f" and {len(self.closed) - 3} more" if len(self.closed) > 3 else ""
        return f"opens {self.opened} of {self.total}, not {', '.join(self.closed[:3])}{more}"


def prove(application: Application, values: Sequence[Sealed], key: SecretStr) -> Proof:
    """Try a key on values; what is not sealed is not counted."""
    opened, closed = 0, []
    for one in values:
        opens = _OPENS[application](one.value, key.get_secret_value())
        if opens:
            opened += 1
        elif opens is not None:
            closed.append(one.place)
    return Proof(opened, tuple(closed))


def read_sealed(server: PostgresServer, database: str, application: Application) -> list[Sealed]:
    """Read what an application has sealed.

    Raises:
        ServiceError: Postgres does not answer. AccessDenied: the role may not read it.
    """
    settings = {"statement_timeout": "60s", "lock_timeout": "10s"}
    with server.connect(database, settings=settings) as connection, explained(database, "read sealed values"):
        return list(_litellm(connection) if application == "litellm" else _langfuse(connection))


def _litellm(connection: Connection[TupleRow]) -> Iterator[Sealed]:
    """Texts of JSON objects: LiteLLM seals each by itself."""
    for table, name, column in _OBJECTS:
        if not _has(connection, table, name, column):
            continue
        statement = sql.SQL(
            "SELECT r.{name}::text, e.key, e.value FROM public.{table} AS r, LATERAL jsonb_each_text("
            "CASE jsonb_typeof(r.{column}::jsonb) WHEN 'object' THEN r.{column}::jsonb ELSE '{{}}' END) AS e "
            "WHERE e.value IS NOT NULL ORDER BY 1, 2 LIMIT {most}"
        ).format(name=sql.Identifier(name), table=sql.Identifier(table), column=sql.Identifier(column), most=sql.Literal(_MOST))
        for row, key, value in connection.execute(statement):
            yield Sealed(f"{table} {row} {key}", str(value))


def _langfuse(connection: Connection[TupleRow]) -> Iterator[Sealed]:
    """Whatever looks sealed in a column whose name says that it may be."""
    for table, column in connection.execute(_COLUMNS).fetchall():
        statement = sql.SQL("SELECT {row}::text, {column} FROM public.{table} WHERE {column} ~ {shape} LIMIT {most}").format(
            row=sql.Identifier("id") if _has(connection, str(table), "id") else sql.SQL("ctid"),
            column=sql.Identifier(str(column)),
            table=sql.Identifier(str(table)),
            shape=sql.Literal("^[0-9a-f]{24,32}:[0-9a-f]*:[0-9a-f]{32}$"),
            most=sql.Literal(_MOST),
        )
        for row, value in connection.execute(statement):
            yield Sealed(f"{table} {row} {column}", str(value))


def _has(connection: Connection[TupleRow], table: str, *columns: str) -> bool:
    found = connection.execute(
        "SELECT count(*)::int FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s"
        " AND column_name = ANY(%s)",
        [table, list(columns)],
    ).fetchall()
    return int(found[0][0]) == len(columns)


_OBJECTS = (
    ("LiteLLM_ProxyModelTable", "model_name", "litellm_params"),
    ("LiteLLM_CredentialsTable", "credential_name", "credential_values"),
    ("LiteLLM_Config", "param_name", "param_value"),
    ("LiteLLM_MCPServerTable", "server_id", "credentials"),
)
_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'public' AND data_type IN ('text', 'character varying')
  AND column_name ~ '(secret|token|encrypted|extra_headers|auth_config)' AND column_name !~ 'hash'
ORDER BY 1, 2
"""
