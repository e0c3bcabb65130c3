"""Swapping a restored Postgres database in, and back out again.

Renaming takes a moment, but only while nobody is connected. The statements, in order: both databases take no more connections,
those there are end, both are renamed in one transaction, the live name takes connections again. A process that dies between
any two of them leaves names and flags in the server's catalogue from which `settle_swap` knows how far it came: before the
renames it takes back, after them it finishes. The database that was swapped out takes no connections: nobody writes to it by
mistake.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import RestoreFailed, RestoreRefused, ServiceError, StackError
from blocks.postgres import PostgresServer, explained

DISCONNECT_S = 30.0
"""How long the connections that were ended may take to go, seconds."""
_SETTINGS = {"lock_timeout": "30s", "synchronous_commit": "on"}

Outcome = Literal["swapped", "untouched"]
Hook = Callable[[str], None]


def swap_databases(
    server: PostgresServer, live: str, staged: str, kept: str, *, existed: bool = True, hook: Hook = lambda _: None
) -> None:
    """Give a staged database the live name, and keep the one that had it. Finishes where an earlier call died.

    Args:
        server: as a superuser. live: the name to take over; need not exist.
        staged: the restored database. kept: name for the one that was live.
        existed: whether there was a live one when the restore began; decides only when `staged` and `kept` are both gone.
        hook: told the name of each step before it is done.
    Raises:
        RestoreRefused: `kept` exists already, or live data is in a prepared transaction; nothing was changed.
        RestoreFailed: it broke off; says whether the live name has the old data or the new.
    """
    with _maintenance(server, (live, staged, kept)) as connection:
        present = _databases(connection)
        if staged not in present:
            if _settle(connection, live, staged, kept, existed) == "untouched":
                raise RestoreFailed(f"postgres {live}: there is no {staged} to swap in; the live data was not touched")
            return
        if kept in present:
            raise RestoreRefused(f"postgres {live}: {kept} exists already; undo or forget the restore that kept it")
        outgoing = [(live, kept)] if live in present else []
        _refuse_prepared(connection, live)
    settle = partial(settle_swap, server, live, staged, kept, existed=existed)
    _exchange(server, [*outgoing, (staged, live)], live, settle, hook)


def settle_swap(server: PostgresServer, live: str, staged: str, kept: str, *, existed: bool = True) -> Outcome:
    """Find out how far a swap came, and finish it or take it back.

    Returns: `swapped` when the live name has the restored data, `untouched` when it has what it had.
    Raises:
        RestoreFailed: neither name is there any more.
    """
    with _maintenance(server, (live, staged, kept)) as connection:
        return _settle(connection, live, staged, kept, existed)


def undo_swap(
    server: PostgresServer, live: str, kept: str, undone: str, *, existed: bool = True, hook: Hook = lambda _: None
) -> None:
    """Give the live name back to the database that had it, and keep the restored one, with all writes made since.

    Args:
        server: as a superuser. kept: what was live before. undone: name for what is live now.
        existed: whether there was something before; if not, the live name is free afterwards.
        hook: told the name of each step before it is done.
    Raises:
        RestoreRefused: what was kept is gone; nothing was changed.
        RestoreFailed: it broke off; says which data the live name has.
    """
    if existed:
        with _maintenance(server, (live, kept, undone)) as connection:
            present = _databases(connection)
        if kept not in present and undone not in present:
            raise RestoreRefused(f"postgres {live}: {kept} is gone, there is nothing to put back; restore from a set instead")
        swap_databases(server, live, kept, undone, hook=hook)
        return
    with _maintenance(server, (live, undone)) as connection:
        present = _databases(connection)
        if live not in present:
            return
        if undone in present:
            raise RestoreRefused(f"postgres {live}: {undone} exists already; forget the restore that kept it")
        _refuse_prepared(connection, live)
    _exchange(server, [(live, undone)], None, partial(_reopen, server, live), hook)


def describe_undo(server: PostgresServer, live: str, kept: str, *, existed: bool = True) -> str:
    """Say in one line what an undo puts back and which writes it takes out of the live database.

    The writes are the server's own count per table since the restore ended. It forgets them when it crashes, and says so.
    """
    with server.connect() as connection, explained(live, "look at the databases"):
        sizes = {str(name): str(size) for name, size in connection.execute(_SIZES, [[live, kept]])}
    if existed and kept not in sizes:
        return f"postgres {live}: {kept} is gone, there is nothing to put back"
    back = f"{kept} ({sizes[kept]}) is put back" if existed else "there was none before: the name becomes free"
    if live not in sizes:
        return f"postgres {live}: {back}; there is no live one now"
    writes = written_since(server, live, "the restore")
    return f"postgres {live}: {back}; of the present one ({sizes[live]}), {writes}"


def written_since(server: PostgresServer, database: str, what: str) -> str:
    """Say how much was written to a database since its copy was made: the server's own count per table.

    Args:
        what: made the copy, for people. The server forgets the count when it crashes, and that is said, too.
    """
    with server.connect(database) as connection, explained(database, "read the statistics"):
        since = connection.execute(_SINCE).fetchone()
        tables = [
            f"{name} ({inserts}+ {updates}~ {deletes}-)" for name, inserts, updates, deletes in connection.execute(_WRITES)
        ]
    if not since or since[0] is None:
        return f"how much was written since {what} is not known, as the server has lost its statistics"
    shown = ", ".join(tables[:5]) + (f" and {len(tables) - 5} more tables" if len(tables) > 5 else "")
    return f"written since {since[0]} UTC (rows inserted+ updated~ deleted-): {shown or 'nothing'}"


def _exchange(
    server: PostgresServer, renames: list[tuple[str, str]], opened: str | None, settle: Callable[[], Outcome], hook: Hook
) -> None:
    """Rename databases all at once.

    Args:
        renames: old and new names, in order. opened: the one that takes connections afterwards.
        settle: called when it breaks off; finishes or takes back, and says which.
    """
    closing = [old for old, _ in renames]
    try:
        with _maintenance(server, {name for pair in renames for name in pair}) as connection:
            for name in closing:
                hook(f"close {name}")
                _allow(connection, name, "false")
            hook("disconnect")
            _disconnect(connection, closing)
            hook("begin")
            with connection.transaction():
                for old, new in renames:
                    hook(f"rename {old}")
                    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
                    connection.execute(rename.format(sql.Identifier(old), sql.Identifier(new)))
                hook("commit")
            if opened is not None:
                hook(f"open {opened}")
                _allow(connection, opened, "true")
            hook("done")
    except BaseException as error:
        try:
            outcome = settle()
        except StackError as second:
            raise RestoreFailed(f"{error}; settling it failed as well: {second}; run the flow with action finish") from error
        if not isinstance(error, StackError):
            raise
        if outcome != "swapped":  # a connection lost after the commit has swapped all the same
            raise RestoreFailed(f"{error}; taken back, the live name has the data it had") from error


def _settle(connection: Connection[TupleRow], live: str, staged: str, kept: str, existed: bool) -> Outcome:
    """Both renames happened or neither did, so the names that exist say which; only the flags may need putting right."""
    present = _databases(connection)
    if staged in present:
        for name in (live, staged):
            if name in present:
                _allow(connection, name, "true")
        return "untouched"
    if live not in present:
        raise RestoreFailed(f"postgres {live}: neither it nor {staged} exists; restore it from a set")
    _allow(connection, live, "true")
    return "swapped" if kept in present or not existed else "untouched"


def _reopen(server: PostgresServer, live: str) -> Outcome:
    """Settle an undo that only moves the live database away."""
    with _maintenance(server, (live,)) as connection:
        if live not in _databases(connection):
            return "swapped"
        _allow(connection, live, "true")
        return "untouched"


@contextmanager
def _maintenance(server: PostgresServer, names: Collection[str]) -> Iterator[Connection[TupleRow]]:
    """Connect to a database that is none of `names`; the server's errors become ours."""
    database = next(name for name in (server.maintenance_database, "postgres", "template1") if name not in names)
    with server.connect(database, settings=_SETTINGS) as connection, explained(database, "rename databases"):
        yield connection


def _databases(connection: Connection[TupleRow]) -> set[str]:
    return {str(name) for (name,) in connection.execute("SELECT datname FROM pg_catalog.pg_database")}


def _allow(connection: Connection[TupleRow], name: str, value: Literal["true", "false"]) -> None:
    connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.SQL(value)))


def _disconnect(connection: Connection[TupleRow], names: list[str]) -> None:
    """End all connections to databases that take no new ones, and wait until they are gone."""
    deadline = time.monotonic() + DISCONNECT_S
    while True:
        row = connection.execute(_END_CONNECTIONS, [names]).fetchone()
        left = int(row[0]) if row else 0
        if not left:
            return
        if time.monotonic() > deadline:
            raise ServiceError(f"postgres: {left} connections to {' and '.join(names)} do not end; look at pg_stat_activity")
        time.sleep(0.05)


def _refuse_prepared(connection: Connection[TupleRow], live: str) -> None:
    rows = connection.execute("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = %s", [live]).fetchall()
    if rows:
        names = ", ".join(str(gid) for (gid,) in rows)
        raise RestoreRefused(
            f"postgres {live}: prepared transactions hold it: {names}; COMMIT PREPARED or ROLLBACK PREPARED them"
        )


_END_CONNECTIONS = """
SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
WHERE datname = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()
"""
_SIZES = """
SELECT datname, pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(oid)) FROM pg_catalog.pg_database WHERE datname = ANY (%s)
"""
_SINCE = """
SELECT to_char(stats_reset AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
FROM pg_catalog.pg_stat_database WHERE datname = current_database()
"""
_WRITES = """
SELECT format('%I.%I', schemaname, relname), n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_user_tables
WHERE n_tup_ins + n_tup_upd + n_tup_del > 0 ORDER BY n_tup_ins + n_tup_upd + n_tup_del DESC, 1
"""
