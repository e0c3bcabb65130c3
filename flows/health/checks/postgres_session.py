"""One short session with Postgres: no transaction, no waiting for locks, gone at once, also when the server hangs."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from blocks.errors import SettingsError
from blocks.postgres_url import parse_url
from flows.health.findings import NoAnswer
from flows.health.reach import how, once_more, resolved

__all__ = ["APPLICATION", "Closed", "Crowded", "Session", "session"]

APPLICATION = "stack-operations health"
"""What the server lists the session as."""

_PATIENCE = "SET statement_timeout = 2000; SET lock_timeout = 200; SET idle_in_transaction_session_timeout = 5000"
_DENIED = ("password authentication failed", "no pg_hba.conf entry", "is not permitted to log in", "permission denied")
_CROWDED = ("too many clients", "connection slots are reserved", "too many connections for")
_CLOSED = ("is not currently accepting connections", "does not exist", "terminating connection due to administrator command")
_BUSY = {
    "starting up": "is starting up",
    "shutting down": "is shutting down",
    "in recovery mode": "is recovering from a crash",
    "not yet accepting connections": "is starting up",
    "timeout expired": "did not answer in time",
}


class Crowded(Exception):
    """Every connection is taken."""


class Closed(Exception):
    """The database takes no connections, or is not there: a restore may be swapping it this very moment."""


class Session:
    """An open session; made by `session`."""

    def __init__(self, connection: AsyncConnection[TupleRow]) -> None:
        self._connection = connection

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[TupleRow]:
        """Run a query.

        Raises:
            Closed, NoAnswer: the session was ended, or the answer takes too long.
            psycopg.Error: the server refused it.
        """
        asked = asyncio.ensure_future(self._connection.execute(sql, parameters or None))
        try:
            cursor = await asyncio.shield(asked)
            return await cursor.fetchall() if cursor.description else []
        except asyncio.CancelledError:
            # psycopg would now spend up to ten seconds on cancelling the query on a server that does not answer
            self._hang_up()
            with suppress(psycopg.Error):
                await asked
            raise
        except psycopg.errors.QueryCanceled:
            raise NoAnswer("took longer than 2 s") from None
        except psycopg.OperationalError as error:
            if error.sqlstate is not None and not error.sqlstate.startswith(("57P", "08")):
                raise
            raise _explained(str(error)) from None

    def _hang_up(self) -> None:
        """Break the connection under the library, which then sees its end."""
        with suppress(psycopg.Error, OSError):
            below = socket.socket(fileno=os.dup(self._connection.fileno()))
            try:
                below.shutdown(socket.SHUT_RDWR)
            finally:
                below.close()


@asynccontextmanager
async def session(url: str, database: str = "") -> AsyncIterator[Session]:
    """Connect, and close whatever happens.

    Args:
        url: server URL of a role. database: default the URL's.
    Raises:
        Crowded: there is no free connection. Closed: the database takes none. NoAnswer: the server is silent.
        SettingsError: it refuses the role, or the URL is none.
    """
    parameters = parse_url(url) | {"application_name": APPLICATION} | ({"dbname": database} if database else {})
    host = parameters["host"].split(",")[0]
    if not host.startswith("/"):
        await resolved(host)

    async def connect() -> AsyncConnection[TupleRow]:
        try:
            return await AsyncConnection.connect(**parameters, autocommit=True)  # type: ignore[arg-type]  # libpq takes all as text
        except psycopg.OperationalError as error:
            if "Connection refused" in str(error):
                raise ConnectionRefusedError from None
            raise _explained(str(error)) from None

    try:
        connection = await once_more(connect)
    except ConnectionRefusedError as error:
        raise NoAnswer(how(error)) from None
    try:
        opened = Session(connection)
        await opened.rows(_PATIENCE)
        yield opened
    finally:
        await connection.close()


def _explained(text: str) -> Exception:
    """Sort a refusal by the server's words, which have no code before the connection is made."""
    if any(words in text for words in _DENIED):
        return SettingsError(
            "postgres: the role of POSTGRES_BACKUP_URL is refused, so nobody looked; correct its password and grants"
        )
    if any(words in text for words in _CROWDED):
        return Crowded()
    for words, phrase in _BUSY.items():
        if words in text:
            return NoAnswer(phrase)
    return Closed() if any(words in text for words in _CLOSED) else NoAnswer("broke the connection off")
