"""One database from one server to another: dumped and restored in one stream, and compared with what was dumped.

Nothing is stored on the way. The copy is made under its own name at once: the target is a server that nobody uses yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import IO, cast
from urllib.parse import urlsplit

from psycopg import sql
from pydantic import SecretStr

from blocks.errors import RestoreRefused
from blocks.postgres import PINNED, SIDE_NAME, PostgresServer, explained
from blocks.postgres_tools import tool_version
from flows.backup.manifest import PostgresDatabase, StoredObject
from flows.backup.postgres import dump_into
from flows.backup.stream import HashingReader
from flows.compare.differences import Difference
from flows.compare.postgres import compare_database, compare_properties
from flows.compare.postgres_catalogue import catalogue
from flows.compare.postgres_properties import database_properties, database_size, extensions, needed_roles, not_taken
from flows.restore.postgres import finish_database, fresh_database, pour_dump, refuse_unfit
from flows.restore.postgres_roles import missing_roles

__all__ = [
    "STANDARD",
    "aside",
    "at_work",
    "drop_copy",
    "left_behind",
    "make_room",
    "movable",
    "move_database",
    "outline",
    "refuse_target",
]

STANDARD = frozenset({"postgres", "template0", "template1"})
"""Databases that every server has from the start."""


def movable(server: PostgresServer) -> list[str]:
    """Name the databases that are moved: all that take connections and hold anything, but templates and what restores keep."""
    with server.connect() as connection, explained(server.maintenance_database, "list databases"):
        rows = connection.execute(
            "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
        ).fetchall()
    names = [str(name) for (name,) in rows if not SIDE_NAME.search(str(name))]
    return [name for name in names if name not in STANDARD or not server.is_empty(name)]


def left_behind(server: PostgresServer, moved: Iterable[str]) -> list[str]:
    """Say what of a server is not moved, for the person who approves it."""
    with server.connect() as connection, explained(server.maintenance_database, "look at the server"):
        names = [str(name) for (name,) in connection.execute("SELECT datname FROM pg_catalog.pg_database ORDER BY 1")]
        own = connection.execute(
            "SELECT name FROM pg_catalog.pg_settings WHERE sourcefile LIKE '%postgresql.auto.conf' ORDER BY 1"
        ).fetchall()
        slots = connection.execute("SELECT slot_name::text FROM pg_catalog.pg_replication_slots ORDER BY 1").fetchall()
    kept = sorted(set(names) - set(moved) - STANDARD)
    found = [f"database {name} (a copy that a restore keeps, a template, or closed)" for name in kept]
    found += [f"the server's own setting {name} (ALTER SYSTEM)" for (name,) in own if name != "default_transaction_read_only"]
    return found + [f"replication slot {name}: who reads from it has to begin anew" for (name,) in slots]


def outline(server: PostgresServer, database: str, target_major: int) -> PostgresDatabase:
    """Describe a database apart from its rows: enough to make an empty one, and to see whether a server can take it."""
    version, major = server.server_version()
    tool = server.tool("pg_dump", max(major, target_major))
    now = datetime.now(UTC)
    with server.connect(database, settings=PINNED) as connection, explained(database, "read the catalogue"):
        return PostgresDatabase(
            name=database,
            object=_streamed("", 0),
            server_version=version,
            server_major=major,
            client_version=tool_version(tool),
            database_bytes=database_size(connection),
            properties=database_properties(connection, database),
            extensions=extensions(connection),
            roles=needed_roles(connection),
            not_taken=not_taken(connection),
            catalogue=catalogue(connection),
            started_at=now,
            finished_at=now,
        )


def refuse_target(target: PostgresServer, wanted: Iterable[PostgresDatabase], *, begun: Iterable[str] = ()) -> None:
    """Refuse a server that is not fit to take these databases; nothing is changed.

    Args:
        begun: databases on it that an earlier try of ours has left.
    Raises:
        RestoreRefused: something is there already, or it lacks an extension.
        VersionMismatch: it is older than the server that they are on, or there is no pg_restore for it here.
        AccessDenied: the role is no superuser.
    """
    with target.connect() as connection, explained("the target", "list databases"):
        names = [str(name) for (name,) in connection.execute("SELECT datname FROM pg_catalog.pg_database WHERE datallowconn")]
    for name in sorted(set(names) - set(begun)):
        if not target.is_empty(name):
            raise RestoreRefused(
                f"postgres: the target is not empty: there is something in its database {name}; nothing was changed; take a "
                "fresh server, or drop it there"
            )
    for component in wanted:
        refuse_unfit(target, component)


def move_database(
    source: PostgresServer,
    target: PostgresServer,
    database: str,
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[PostgresDatabase, list[Difference]]:
    """Dump a database into another server and compare the copy with what was dumped.

    An empty database of that name on the target is replaced. Where anything fails the copy is dropped again.

    Args:
        source, target: as superusers; the target has the roles. database: its name on both.
        progress: is told a line now and then.
    Returns: what was dumped, and in what the copy differs from it: nothing, if all is well.
    Raises:
        RestoreRefused: something is in the target's database, or roles are missing there. BackupFailed: pg_dump failed.
        RestoreFailed: pg_restore failed. ServiceError: a server broke off.
    """
    _, major = target.server_version()
    draft = outline(source, database, major)
    refuse_unfit(target, draft)
    if lacking := missing_roles(target, draft):
        raise RestoreRefused(f"postgres {database}: the target lacks the roles {', '.join(lacking)}; create them there first")
    make_room(target, database)
    worker = at_work(target, database)

    def sink(dump: IO[bytes], _expected: int) -> StoredObject:
        plain = HashingReader(dump)
        pour_dump(worker, draft, cast(IO[bytes], plain), database)
        while plain.read():  # pg_restore ends at the last entry, what follows says whether the dump ended well
            pass
        return _streamed(plain.sha256, plain.bytes)

    with fresh_database(worker, draft, database, elsewhere=False):
        moved = dump_into(source, database, sink, target_major=major, progress=progress)
        finish_database(worker, moved, database)
        differences = compare_database(worker, moved, database, elsewhere=True, progress=progress)
        with worker.connect(database) as connection, explained(database, "compare"):
            there = database_properties(connection, database)
        locale = compare_properties(f"postgres {database}", moved.properties, there, elsewhere=False)
    return moved, [*differences, *(one for one in locale if one not in differences)]


def make_room(target: PostgresServer, database: str) -> None:
    """Drop an empty database of the target, so that one with the recorded properties can be made.

    Raises:
        RestoreRefused: there is something in it.
    """
    if not at_work(target, database).exists(database):
        return
    if not target.is_empty(database):
        raise RestoreRefused(f"postgres {database}: the target has a database of that name with something in it; drop it there")
    _drop(target, database)


def drop_copy(target: PostgresServer, database: str) -> None:
    """Drop what `move_database` made, or what it left when it was killed; nothing happens where there is none."""
    worker = at_work(target, database)
    if worker.exists(database):
        _drop(target, database)
    if database == "postgres":  # every server has one, and client programs expect it
        with worker.connect() as connection, explained(database, "create"):
            connection.execute("CREATE DATABASE postgres TEMPLATE template0")


def _drop(target: PostgresServer, database: str) -> None:
    with at_work(target, database).connect() as connection, explained(database, "drop"):
        name = sql.Identifier(database)
        connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(name))
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def at_work(server: PostgresServer, database: str) -> PostgresServer:
    """Return the server with another maintenance database, where its own is about to be dropped or closed."""
    return aside(server) if server.maintenance_database == database else server


def aside(server: PostgresServer) -> PostgresServer:
    """Return the server with a maintenance database that nobody moves, drops or closes: template1, which every server has."""
    url = urlsplit(server.url.get_secret_value())._replace(path="/template1").geturl()
    return server.model_copy(update={"url": SecretStr(url)})


def _streamed(digest: str, size: int) -> StoredObject:
    """What passed, in the words of a stored object: it is stored nowhere."""
    return StoredObject(key="", bytes=size, sha256=digest, plain_bytes=size, plain_sha256=digest)
