"""Several databases of a server renamed at once: all of them or none, wherever the process dies."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import RestoreFailed, ServiceError
from blocks.postgres import PostgresServer, explained

__all__ = ["Renames", "exchange"]

GONE_S = 30.0
"""Seconds that ended connections may take to go."""
_SETTINGS = {"lock_timeout": "30s", "synchronous_commit": "on"}


@dataclass(frozen=True)
class Renames:
    """Old and new names, in order: a name has to be free when it is taken."""

    pairs: Sequence[tuple[str, str]]


def exchange(server: PostgresServer, renames: Renames, *, opened: Collection[str]) -> None:
    """Rename databases, all in one transaction; nothing is renamed where that has been done.

    Args:
        server: as a superuser, by a database that is none of them. opened: names that take connections afterwards; all others
            of the new names take none.
    Raises:
        RestoreFailed: some of the old names are not there, so that nobody knows what was done. ServiceError: a session stays.
    """
    with server.connect(settings=_SETTINGS) as connection, explained(server.maintenance_database, "rename databases"):
        there = {str(name) for (name,) in connection.execute("SELECT datname FROM pg_catalog.pg_database")}
        old = [name for name, _ in renames.pairs]
        taken = {new for _, new in renames.pairs} - set(old)
        if renames.pairs and not taken & there:
            if missing := sorted(set(old) - there):
                raise RestoreFailed(f"postgres: there is no database {missing[0]} to rename; nothing was renamed")
            for name in old:
                _allow(connection, name, allowed=False)
            _send_away(connection, old)
            with connection.transaction():
                for name, new in renames.pairs:
                    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                    connection.execute(rename.format(sql.Identifier(name), sql.Identifier(new)))
        for name in opened:
            _allow(connection, name, allowed=True)


def _allow(connection: Connection[TupleRow], name: str, *, allowed: bool) -> None:
    word = sql.SQL("true" if allowed else "false")
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), word))


def _send_away(connection: Connection[TupleRow], names: Sequence[str]) -> None:
    deadline = time.monotonic() + GONE_S
    while (row := connection.execute(_END, [list(names)]).fetchone()) and row[0]:
        if time.monotonic() > deadline:
            raise ServiceError(f"postgres: {row[0]} connections to {', '.join(names)} do not end; look at pg_stat_activity")
        time.sleep(0.05)


_END = """
SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
WHERE datname = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()
"""
