"""The engine in this process: one data directory, a connection for every request, sessions, queries that can be killed.

Opening a connection takes 0.2 ms, so each request without a session gets its own, which is closed with it: settings cannot
leak by construction. Connections run in parallel and release the GIL.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import chdb

from shared.engines.clickhouse_http.connection import (
    Connection,
    Context,
    NotRestored,
    SessionRequest,
    apply,
    quote_identifier,
    restored,
)
from shared.engines.clickhouse_http.errors import (
    ABORTED,
    QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING,
    SESSION_IS_LOCKED,
    SESSION_NOT_FOUND,
    TOO_MANY_SIMULTANEOUS_QUERIES,
    ClickHouseError,
)
from shared.engines.clickhouse_http.statement import quote

__all__ = ["Database"]

_MAX_QUERIES = 100
# A server reads "selec 1" as a mistake, the command line as an expression. What prepares a query is not logged as one.
_OPTIONS = "?implicit_select=0&log_queries=0"


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
        pairs = ", ".join(f"{quote_identifier(key)} = {quote(value)}" for key, value in values.items())
        self.ask(f"DROP NAMED COLLECTION IF EXISTS {quote_identifier(name)}")
        self.ask(f"CREATE NAMED COLLECTION {quote_identifier(name)} AS {pairs}")

    @contextmanager
    def connection(self, context: Context) -> Iterator[Connection]:
        """A connection with everything set as the context says, for as long as the statement and its result take.

        Raises:
            ClickHouseError: too many queries, the same query id twice, a session in use, an unknown setting or database.
        """
        with self._admitted(context.query_id):
            if context.session is not None:
                with self._in_session(context.session) as session, restored(session.connection, context):
                    yield session.connection
                return
            connection = self._connect()
            try:
                apply(connection, context)
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
        except NotRestored as error:
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
