"""The engine in this process: one data directory, a connection for every request, sessions, queries that can be killed.

A chDB connection is the equivalent of a ClickHouse session: settings, current database and temporary tables live in it,
and its statements run one after another. Opening one takes 0.2 ms, so each request without a session gets its own, which is
closed with it: settings cannot leak by construction. Connections run in parallel and release the GIL.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

import chdb

from shared.engines.clickhouse_http.errors import (
    ABORTED,
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
    SESSION_IS_LOCKED,
    SESSION_NOT_FOUND,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    UNKNOWN_SETTING,
    ClickHouseError,
)
from shared.engines.clickhouse_http.statement import quote

__all__ = ["Connection", "Context", "Database", "Inserter", "Result", "SessionRequest"]

_MAX_QUERIES = 100
_NAME = re.compile(r"[A-Za-z_]\w*")
# A server reads "selec 1" as a mistake, the command line as an expression. What prepares a query is not logged as one.
_OPTIONS = "?implicit_select=0&log_queries=0"


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


@dataclass
class _Session:
    connection: Connection
    expires: float = 0.0
    busy: bool = False


class Database:
    """chDB on one directory. Thread-safe.

    Args:
        directory: its data. One process at a time.
        configuration: ClickHouse configuration file, XML.
    """

    def __init__(self, directory: Path, configuration: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._running: set[str] = set()
        self._sessions: dict[str, _Session] = {}
        self._closing = False
        # The engine lives as long as one connection does: this one.
        self._anchor = cast(Connection, chdb.connect(f"{directory}{_OPTIONS}&config-file={configuration}"))
        self._make_default_atomic()
        version, timezone = json.loads(self.ask("SELECT version(), timezone()"))
        self.version, self.timezone = str(version), str(timezone)

    def ask(self, sql: str, output_format: str = "JSONCompactEachRow") -> bytes:
        """Run a statement of the server's own, unlogged."""
        connection = self._connect()
        try:
            return connection.query(sql, output_format).bytes()
        finally:
            connection.close()

    def define_collection(self, name: str, values: Mapping[str, str]) -> None:
        """Create or replace a named collection. It survives restarts, in clear text in the data directory, as on a server."""
        pairs = ", ".join(f"{_identifier(key)} = {quote(value)}" for key, value in values.items())
        self.ask(f"DROP NAMED COLLECTION IF EXISTS {_identifier(name)}")
        self.ask(f"CREATE NAMED COLLECTION {_identifier(name)} AS {pairs}")

    @contextmanager
    def connection(self, context: Context) -> Iterator[Connection]:
        """A connection with everything set as the context says, for as long as the statement and its result take.

        Raises:
            ClickHouseError: too many queries, the same query id twice, a session in use, an unknown setting or database.
        """
        with self._admitted(context.query_id):
            if context.session is not None:
                with self._in_session(context.session) as session, _restored(session.connection, context):
                    yield session.connection
                return
            connection = self._connect()
            try:
                _apply(connection, context)
                yield connection
            finally:
                connection.close()

    def engine_ids(self) -> dict[str, str]:
        """The engine's own query id for each running query id of this interface: chDB lets nobody choose."""
        with self._lock:
            running = set(self._running)
        rows = self.ask("SELECT Settings['log_comment'], query_id FROM system.processes").splitlines()
        return {comment: query_id for comment, query_id in map(json.loads, rows) if comment in running}

    def kill(self, query_id: str) -> None:
        """Kill a running query; it raises QUERY_WAS_CANCELLED where it was called, at the engine's next opportunity."""
        self.ask(f"KILL QUERY WHERE Settings['log_comment'] = {quote(query_id)} ASYNC")

    def close(self, *, patience: float) -> bool:
        """End the engine: what is in memory (logs) goes to disk. Acknowledged data is there already.

        Args:
            patience: seconds for the queries that run to end, and again, killed, to die. A BACKUP dies between two files.
        Returns: whether it ended. If not, the process must be left without ado (`os._exit`).
        """
        with self._idle:
            self._closing = True
            self._idle.wait_for(lambda: not self._running, patience)
        self.ask("KILL QUERY WHERE query_id != queryID() ASYNC")  # BACKUP ... ASYNC runs without a request
        with self._idle:
            if not self._idle.wait_for(lambda: not self._running, patience):
                return False
        for session in self._sessions.values():
            session.connection.close()
        closing = threading.Thread(target=self._anchor.close, name="closing", daemon=True)
        closing.start()
        closing.join(patience)
        return not closing.is_alive()

    def _connect(self) -> Connection:
        return cast(Connection, chdb.connect(f"{self._directory}{_OPTIONS}"))

    def _make_default_atomic(self) -> None:
        """Put a plain Atomic database in the place of chDB's `default`, an Overlay of it and the files beside the process.

        chDB builds the overlay anew at every start, over the Atomic database of the last time if that had tables.
        """
        found = (
            self.ask("SELECT uuid FROM system.databases WHERE name = 'default' AND engine = 'Overlay'", "TSV").decode().strip()
        )
        if not found:
            return
        definition = self._directory / "metadata" / "default.sql"
        known = definition.exists() and found in definition.read_text()
        # What depends on a table in it would forbid this; but that table is back before anybody can ask.
        self._anchor.query("SET check_table_dependencies = 0, check_referential_table_dependencies = 0", "TSV")
        self._anchor.query("DETACH DATABASE default", "TSV")
        if not known:
            definition.unlink(missing_ok=True)
        self._anchor.query("ATTACH DATABASE default" if known else "CREATE DATABASE default ENGINE = Atomic", "TSV")

    @contextmanager
    def _admitted(self, query_id: str) -> Iterator[None]:
        with self._lock:
            if self._closing:
                raise ClickHouseError(ABORTED, "The server is shutting down")
            if len(self._running) >= _MAX_QUERIES:
                raise ClickHouseError(TOO_MANY_SIMULTANEOUS_QUERIES, f"Too many simultaneous queries. Maximum: {_MAX_QUERIES}")
            if query_id in self._running:
                raise ClickHouseError(QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING, f"Query with id = {query_id} is already running")
            self._running.add(query_id)
        try:
            yield
        finally:
            with self._idle:
                self._running.discard(query_id)
                self._idle.notify_all()

    @contextmanager
    def _in_session(self, wanted: SessionRequest) -> Iterator[_Session]:
        with self._lock:
            self._expire()
            session = self._sessions.get(wanted.name)
            if session is None:
                if wanted.must_exist:
                    raise ClickHouseError(SESSION_NOT_FOUND, f"Session {wanted.name} not found")
                session = self._sessions[wanted.name] = _Session(self._connect())
            if session.busy:
                raise ClickHouseError(SESSION_IS_LOCKED, f"Session {wanted.name} is locked by a concurrent client")
            session.busy = True
        keep = not wanted.close
        try:
            yield session
        except _NotRestored as error:
            keep = False
            raise ClickHouseError.of(error.cause) from None
        finally:
            with self._lock:
                session.busy = False
                session.expires = time.monotonic() + wanted.timeout
                if not keep:
                    self._sessions.pop(wanted.name, None)
                    session.connection.close()

    def _expire(self) -> None:
        now = time.monotonic()
        for name in [name for name, session in self._sessions.items() if not session.busy and session.expires < now]:
            self._sessions.pop(name).connection.close()


class _NotRestored(Exception):
    """A session's own settings could not be put back after a request: the session must end."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@contextmanager
def _restored(connection: Connection, context: Context) -> Iterator[None]:
    """Apply the context to a session's connection, and take it back afterwards."""
    if context.stateful:
        yield
        return
    names = [*_settings(context), "log_queries"]
    values = ", ".join(f"toString(getSetting({quote(name)}))" for name in names)
    before = json.loads(connection.query(f"SELECT currentDatabase(), {values}", "JSONCompactEachRow").bytes())
    earlier = dict(zip(names, before[1:], strict=True))
    try:
        _apply(connection, context)
        yield
    finally:
        try:
            _set(connection, earlier)
            if context.database is not None:
                connection.query(f"USE {_identifier(before[0])}", "TSV")
        except RuntimeError as error:
            raise _NotRestored(error) from None


def _apply(connection: Connection, context: Context) -> None:
    if context.database is not None:
        connection.query(f"USE {_identifier(context.database)}", "TSV")
    _set(connection, {"log_queries": "1", **_settings(context)})


def _settings(context: Context) -> dict[str, str]:
    """The request's settings. The engine's query id cannot be chosen, so the log comment carries ours: KILL QUERY needs it."""
    return {"log_comment": context.query_id, **context.settings}


def _set(connection: Connection, settings: Mapping[str, str]) -> None:
    for name in settings:
        if not _NAME.fullmatch(name):
            raise ClickHouseError(UNKNOWN_SETTING, f"Unknown setting {name!r}")
    connection.query("SET " + ", ".join(f"{name} = {quote(value)}" for name, value in settings.items()), "TSV")


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
