"""Closing a server for writers, so that a last copy is the last word; and opening it again.

`default_transaction_read_only` is set for the whole server by ALTER SYSTEM: it holds for everybody who does not say otherwise,
outlives a restart, and is in no dump, so that it does not come along to the new server. Who is connected is sent away.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import GuardRefused, ServiceError
from blocks.postgres import PostgresServer, explained
from flows.upgrade.postgres.moving import at_work

__all__ = ["close_for_writers", "keep_out", "let_in", "open_for_writers", "refuse_unfenceable", "writes"]

GONE_S = 60.0
"""Seconds that connections which were ended may take to go."""
_OURS = {"default_transaction_read_only": "off", "synchronous_commit": "on", "lock_timeout": "30s"}

_END = """
SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
WHERE datname = ANY (%s) AND pid <> pg_catalog.pg_backend_pid() AND backend_type = 'client backend' AND backend_start < %s
"""
_OVERRIDES = """
SELECT coalesce('role ' || quote_ident(r.rolname), 'database ' || quote_ident(d.datname), 'all roles')
FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase, unnest(s.setconfig) AS given (item)
WHERE lower(given.item) SIMILAR TO 'default_transaction_read_only=(off|false|no|0)' ORDER BY 1
"""
_WRITES = """
SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_catalog.pg_stat_user_tables
"""


def refuse_unfenceable(server: PostgresServer, databases: Collection[str]) -> None:
    """Refuse a server that cannot be closed for writers.

    Raises:
        GuardRefused: prepared transactions would write later, or somebody has set himself free of it.
    """
    with server.connect() as connection, explained(server.maintenance_database, "look for writers"):
        query = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = ANY (%s)"
        prepared = [str(gid) for (gid,) in connection.execute(query, [list(databases)])]
        free = [str(who) for (who,) in connection.execute(_OVERRIDES.encode())]
    if prepared:
        raise GuardRefused(
            f"postgres: prepared transactions are open: {', '.join(prepared)}; COMMIT PREPARED or ROLLBACK PREPARED them"
        )
    if free:
        raise GuardRefused(
            f"postgres: {', '.join(free)} may write although the server is read-only (default_transaction_read_only = off is "
            "set there), so a last copy would not be the last word; RESET that setting"
        )


def close_for_writers(server: PostgresServer, databases: Collection[str]) -> dict[str, int]:
    """Let nobody write any more, and send away who could have.

    Args:
        server: as a superuser. databases: those that are about to be copied.
    Returns: how many rows each had written so far, for `writes` to be compared with.
    Raises:
        ServiceError: somebody does not go.
    """
    _set(server, "on")
    deadline = time.monotonic() + GONE_S
    with server.connect(settings=_OURS) as connection, explained(server.maintenance_database, "end connections"):
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        since = row[0] if row else None
        while (found := connection.execute(_END, [list(databases), since]).fetchone()) and found[0]:
            if time.monotonic() > deadline:
                raise ServiceError(f"postgres: {found[0]} connections do not end after {GONE_S:.0f} s; see pg_stat_activity")
            time.sleep(0.05)
    return {database: writes(server, database) for database in databases}


def open_for_writers(server: PostgresServer) -> None:
    """Take that back; nothing happens where the server is open."""
    _set(server, None)


def writes(server: PostgresServer, database: str) -> int:
    """Count the rows of a database that were ever inserted, changed or deleted, as the server remembers."""
    with server.connect(database) as connection, explained(database, "count writes"):
        row = connection.execute(_WRITES.encode()).fetchone()
    return int(row[0]) if row else 0


def keep_out(server: PostgresServer, databases: Collection[str]) -> None:
    """Let nobody into databases that are kept for the way back: a consumer that nobody found fails, and reads nothing old."""
    _allow(server, dict.fromkeys(databases, False))


def let_in(server: PostgresServer, databases: Collection[str]) -> None:
    """Take that back."""
    _allow(server, dict.fromkeys(databases, True))


def _allow(server: PostgresServer, databases: Mapping[str, bool]) -> None:
    for name, allowed in databases.items():
        with at_work(server, name).connect(settings=_OURS) as connection, explained(name, "allow connections"):
            there = connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone()
            if there is None:
                continue
            word = sql.SQL("true" if allowed else "false")
            connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), word))
            if not allowed:
                _send_away(connection, name)


def _send_away(connection: Connection[TupleRow], name: str) -> None:
    connection.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        " WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid()",
        [name],
    )


def _set(server: PostgresServer, value: str | None) -> None:
    """Set it for the whole server, and wait until new connections have it: reloading takes a moment."""
    deadline = time.monotonic() + GONE_S
    statement = f"ALTER SYSTEM {'SET' if value else 'RESET'} default_transaction_read_only{' = on' if value else ''}"
    with server.connect(settings=_OURS) as connection, explained(server.maintenance_database, "set it read-only"):
        connection.execute(statement.encode())
        connection.execute("SELECT pg_catalog.pg_reload_conf()")
    while True:
        with server.connect() as connection, explained(server.maintenance_database, "see whether it is read-only"):
            row = connection.execute(
                "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'"
            ).fetchone()
        if value is None or (row is not None and row[0] == "on"):
            return
        if time.monotonic() > deadline:
            raise ServiceError("postgres: it does not become read-only; is the role's own default_transaction_read_only set?")
        time.sleep(0.05)
