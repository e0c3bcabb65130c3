"""A connection to the engine, and what is set on it for one statement.

A chDB connection is the equivalent of a ClickHouse session: settings, current database and temporary tables live in it,
and its statements run one after another.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from shared.engines.clickhouse_http.errors import UNKNOWN_SETTING, ClickHouseError
from shared.engines.clickhouse_http.statement import quote

__all__ = [
    "Connection",
    "Context",
    "Inserter",
    "NotRestored",
    "Result",
    "SessionRequest",
    "Stream",
    "Written",
    "apply",
    "quote_identifier",
    "restored",
]

_NAME = re.compile(r"[A-Za-z_]\w*")


class Result(Protocol):
    """What the engine gives for a statement, or for a piece of it."""

    def bytes(self) -> bytes: ...
    def storage_rows_read(self) -> int: ...
    def storage_bytes_read(self) -> int: ...
    def rows_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...


class Stream(Protocol):
    """Pieces of a result."""

    def __next__(self) -> Result: ...
    def cancel(self) -> None: ...


class Written(Protocol):
    """What an INSERT did."""

    rows_written: int
    bytes_written: int


class Inserter(Protocol):
    """An INSERT that waits for data."""

    def append(self, data: bytes, /) -> None: ...
    def finish(self) -> Written: ...
    def cancel(self) -> None: ...


class Connection(Protocol):
    """chdb.state.sqlitelike.Connection, which has no types of its own."""

    def query(self, query: str, format: str, params: Mapping[str, str] | None = None) -> Result: ...  # noqa: A002 - chDB's name
    def send_query(self, query: str, format: str, params: Mapping[str, str] | None = None) -> Stream: ...  # noqa: A002
    def send_insert(self, query: str, format: str) -> Inserter: ...  # noqa: A002
    def close(self) -> None: ...


@dataclass(frozen=True)
class SessionRequest:
    """The session a request wants: its name, how long it may idle (seconds), whether it must exist, whether it ends."""

    name: str
    timeout: float = 60.0
    must_exist: bool = False
    close: bool = False


@dataclass(frozen=True)
class Context:
    """What a statement runs in.

    Attributes:
        query_id: unique among those that run.
        database: current one; None: the session's, or `default`.
        settings: for this statement only.
        session: None: no state before or after.
        stateful: the statement is SET or USE, whose effect must remain in the session.
    """

    query_id: str
    database: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    session: SessionRequest | None = None
    stateful: bool = False


class NotRestored(Exception):
    """A session's own settings could not be put back after a request: the session must end."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def restored(connection: Connection, context: Context) -> Iterator[None]:
    """Apply the context to a session's connection, and take it back afterwards.

    Raises:
        NotRestored: the session is spoilt.
    """
    if context.stateful:
        yield
        return
    names = [*_settings(context), "log_queries"]
    values = ", ".join(f"toString(getSetting({quote(name)}))" for name in names)
    before = json.loads(connection.query(f"SELECT currentDatabase(), {values}", "JSONCompactEachRow").bytes())
    earlier = dict(zip(names, before[1:], strict=True))
    try:
        apply(connection, context)
        yield
    finally:
        try:
            _set(connection, earlier)
            if context.database is not None:
                connection.query(f"USE {quote_identifier(before[0])}", "TSV")
        except RuntimeError as error:
            raise NotRestored(error) from None


def apply(connection: Connection, context: Context) -> None:
    """Set database and settings for good: for a connection that serves one request.

    Raises:
        ClickHouseError: a setting has an impossible name.
        RuntimeError: the engine knows no such setting or database.
    """
    if context.database is not None:
        connection.query(f"USE {quote_identifier(context.database)}", "TSV")
    _set(connection, {"log_queries": "1", **_settings(context)})


def _settings(context: Context) -> dict[str, str]:
    """The request's settings. The engine's query id cannot be chosen, so the log comment carries ours: KILL QUERY needs it."""
    return {"log_comment": context.query_id, **context.settings}


def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    for name in settings:
        if not _NAME.fullmatch(name):
            raise ClickHouseError(UNKNOWN_SETTING, f"Unknown setting {name!r}")
    connection.query("SET " + ", ".join(f"{name} = {quote(value)}" for name, value in settings.items()), "TSV")


def quote_identifier(name: str) -> str:
    """A name in backticks."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
