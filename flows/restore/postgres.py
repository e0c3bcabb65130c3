"""Restore of one Postgres database beside the live one, and what must fit before that."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, cast

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import AccessDenied, RestoreFailed, RestoreRefused, StackError, VersionMismatch
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import SIDE_NAME, PostgresServer, explain, explained
from blocks.postgres_tools import major_of
from flows.backup.manifest import DatabaseProperties, PostgresDatabase
from flows.backup.stream import CHUNK, open_encrypted, verify_stored
from flows.restore.postgres_roles import missing_roles
from flows.restore.properties import property_statements

_NO_SUCH_LOCALE = (psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidParameterValue)
_SHOWN_ERRORS = 5
GONE_S = 5.0
"""How long a connection may take to end after its program has, seconds."""


def restore_database(
    server: PostgresServer,
    component: PostgresDatabase,
    store: BackupStore,
    prefix: str,
    keys: BackupKeys,
    target: str,
    *,
    elsewhere: bool = False,
    verified: bool = False,
    analyze: bool = True,
) -> None:
    """Restore a database under a new name, with its recorded properties. What is live is not touched.

    Args:
        server: as a superuser. component: what to restore.
        store, prefix, keys: where the set is and how to open it. target: name of the new database.
        elsewhere: on a scratch server that lacks the recorded locale, take C.UTF-8 instead of refusing.
        verified: the stored object's hash has just been compared; else it is read once more before anything is restored.
        analyze: collect the planner's statistics, which a dump does not hold; not worth it for a copy that is only compared.
    Raises:
        RestoreRefused: the target exists, or the server lacks roles, extensions or the locale.
        VersionMismatch: the server or pg_restore is older than what wrote the dump.
        IntegrityError: the stored object is not what was backed up; nothing was restored.
        RestoreFailed: pg_restore failed. The target is dropped then, whatever failed.
    """
    refuse_unfit(server, component)
    if lacking := missing_roles(server, component):
        raise RestoreRefused(f"postgres {component.name}: the server lacks the roles {', '.join(lacking)}; create them first")
    if server.exists(target):
        raise RestoreRefused(f"postgres {component.name}: {target} exists already; drop it or restore under another name")
    if not verified:
        verify_stored(store, prefix, component.object)
    with fresh_database(server, component, target, elsewhere=elsewhere):
        load_dump(server, component, store, prefix, keys, target)
        finish_database(server, component, target, analyze=analyze)


@contextmanager
def fresh_database(
    server: PostgresServer, component: PostgresDatabase, target: str, *, elsewhere: bool = False
) -> Iterator[None]:
    """Create an empty database for a dump; dropped again when the body fails, whatever failed. Errors as `restore_database`."""
    _create(server, component, target, elsewhere=elsewhere)
    try:
        _tidy(server, component, target)
        yield
    except BaseException as error:
        _drop_after(error, server, target)
        raise


def load_dump(
    server: PostgresServer,
    component: PostgresDatabase,
    store: BackupStore,
    prefix: str,
    keys: BackupKeys,
    target: str,
    *options: str,
) -> None:
    """Feed a stored dump to pg_restore.

    Args:
        target: database that takes it. options: further arguments, such as which entries of the dump are meant.
    Raises:
        RestoreFailed: pg_restore failed.
    """
    with open_encrypted(store, prefix, component.object, keys) as source:
        pour_dump(server, component, source, target, *options)


def pour_dump(server: PostgresServer, component: PostgresDatabase, source: IO[bytes], target: str, *options: str) -> None:
    """Feed a dump to pg_restore, wherever it comes from; as `load_dump`."""
    argv = [
        str(pg_restore(server, component)),
        "--format=custom",
        "--exit-on-error",
        "--no-password",
        "--no-tablespaces",
        *options,
        f"--dbname={server.dbname_argument(target)}",
    ]
    environment = server.conninfo_env(target) | {"PGOPTIONS": "-c synchronous_commit=off"}  # the swap's commit flushes all
    feed(f"pg_restore {target}", argv, environment, source)


def refuse_unfit(server: PostgresServer, component: PostgresDatabase) -> None:
    """Refuse what cannot be restored to a server, before anything is changed.

    Raises:
        VersionMismatch: the server or pg_restore is older than what wrote the dump.
        RestoreRefused: the server lacks an extension.
        AccessDenied: the role is no superuser.
    """
    name = f"postgres {component.name}"
    _, major = server.server_version()
    if major < component.server_major:
        raise VersionMismatch(
            f"{name}: the dump is of a {component.server_major} server and cannot be restored to a {major} server; "
            f"restore to Postgres {component.server_major} or newer"
        )
    pg_restore(server, component)
    with server.connect() as connection, explained(server.maintenance_database, "look at extensions and rights"):
        available = {str(row[0]) for row in connection.execute("SELECT name FROM pg_catalog.pg_available_extensions")}
        superuser = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if lacking := sorted(component.extensions.keys() - available):
        raise RestoreRefused(f"{name}: the server has no extension {', '.join(lacking)}; install it, or use another image")
    if not superuser or not superuser[0]:
        raise AccessDenied(f"{name}: role {server.user} is no superuser; a restore creates objects of all owners")


def drop_database(server: PostgresServer, name: str) -> None:
    """Drop a database that a restore or drill made or kept; nothing happens where there is none.

    Raises:
        RestoreRefused: by its name it is none of those.
    """
    if not SIDE_NAME.search(name):
        raise RestoreRefused(f"postgres {name}: not dropped, as its name is not one that restores give")
    _drop(server, name)


def database_exists(server: PostgresServer, name: str) -> bool:
    """Say whether there is a database of that name."""
    return server.exists(name)


def is_empty(server: PostgresServer, name: str) -> bool:
    """Say whether nobody made anything in a database, or there is none."""
    return not server.exists(name) or server.is_empty(name)


def database_bytes(server: PostgresServer, name: str) -> int:
    """Return a database's size, bytes; 0 where there is none."""
    with server.connect() as connection, explained(name, "measure"):
        query = "SELECT pg_catalog.pg_database_size(oid) FROM pg_catalog.pg_database WHERE datname = %s"
        row = connection.execute(query, [name]).fetchone()
    return int(row[0]) if row else 0


def pg_restore(server: PostgresServer, component: PostgresDatabase) -> Path:
    """Find the pg_restore for a dump and a server."""
    _, major = server.server_version()
    return server.tool("pg_restore", major, dump_major=major_of(component.client_version))


def _create(server: PostgresServer, component: PostgresDatabase, target: str, *, elsewhere: bool) -> None:
    """Create the empty database with the recorded encoding and locale."""
    properties = component.properties
    with server.connect() as connection:
        try:
            connection.execute(_create_statement(properties, target))
        except _NO_SUCH_LOCALE as error:
            locale = properties.icu_locale or properties.collate
            if not elsewhere:
                raise RestoreRefused(
                    f"postgres {component.name}: the server cannot create a database with locale {locale} "
                    f"({properties.locale_provider}): {error.diag.message_primary}; use an image that has it"
                ) from None
            plain = "C.UTF-8" if properties.encoding == "UTF8" else "C"
            substitute = {"locale_provider": "libc", "collate": plain, "ctype": plain, "icu_locale": None}
            with explained(target, "create"):
                connection.execute(_create_statement(properties.model_copy(update=substitute), target))
        except psycopg.Error as error:
            raise explain(error, target, "create") from None


def _create_statement(properties: DatabaseProperties, target: str) -> sql.Composed:
    options: list[sql.Composable] = [
        sql.SQL("OWNER {}").format(sql.Identifier(properties.owner)),
        sql.SQL("TEMPLATE template0"),
        sql.SQL("ENCODING {}").format(sql.Literal(properties.encoding)),
        sql.SQL("LC_COLLATE {}").format(sql.Literal(properties.collate)),
        sql.SQL("LC_CTYPE {}").format(sql.Literal(properties.ctype)),
    ]
    if properties.locale_provider != "libc":
        options.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.Identifier(properties.locale_provider)))
        which = sql.SQL("ICU_LOCALE" if properties.locale_provider == "icu" else "BUILTIN_LOCALE")
        options.append(sql.SQL("{} {}").format(which, sql.Literal(properties.icu_locale)))
    return sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(target), sql.SQL(" ").join(options))


def _tidy(server: PostgresServer, component: PostgresDatabase, target: str) -> None:
    """Remove what template0 has and the source had no more: pg_dump says nothing about either."""
    with server.connect(target) as connection, explained(target, "prepare"):
        if "schema public" not in component.catalogue:
            connection.execute("DROP SCHEMA public")
        if "plpgsql" not in component.extensions:
            connection.execute("DROP EXTENSION plpgsql")


def feed(name: str, argv: Sequence[str], environment: Mapping[str, str], source: IO[bytes]) -> None:
    """Run pg_restore on a stream.

    Raises:
        RestoreFailed: it failed, with its first errors; not with their context, which quotes rows.
    """
    process = subprocess.Popen(
        argv, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0
    )
    errors: list[str] = []
    listener = threading.Thread(target=partial(_listen, cast(IO[bytes], process.stderr), errors), daemon=True)
    listener.start()
    try:
        with cast(IO[bytes], process.stdin) as pipe:
            _pour(source, pipe)
        status = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        listener.join()
    if status != 0:
        how = f"was killed by signal {-status}" if status < 0 else f"failed with exit status {status}"
        raise RestoreFailed(f"{name} {how}: {' | '.join(errors) or 'it said nothing'}")


def _pour(source: IO[bytes], pipe: IO[bytes]) -> None:
    try:
        while chunk := source.read(CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[pipe.write(view) :]
    except BrokenPipeError:
        return  # it has ended early, and its exit status says why


def _listen(stderr: IO[bytes], errors: list[str]) -> None:
    with stderr:
        for line in stderr:
            if b"error:" in line.lower() and len(errors) < _SHOWN_ERRORS:
                errors.append(line.decode(errors="replace").strip())


def finish_database(server: PostgresServer, component: PostgresDatabase, target: str, *, analyze: bool = True) -> None:
    """Set the properties, collect statistics, and begin counting writes from zero (`describe_undo` reads the count)."""
    with server.connect() as connection, explained(target, "set properties"):
        for statement in property_statements(component.properties, sql.Identifier(target).as_string(None)):
            connection.execute(statement.encode())
    with server.connect(target) as connection, explained(target, "analyze"):
        if analyze:
            connection.execute("ANALYZE")
        _await_alone(connection)
        connection.execute("SELECT pg_catalog.pg_stat_reset()")


def _await_alone(connection: Connection[TupleRow]) -> None:
    """Wait until pg_restore's connection is gone on the server's side too: its last act is to report what it has written."""
    deadline = time.monotonic() + GONE_S
    others = """SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datname = current_database()
        AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()"""
    while (row := connection.execute(others).fetchone()) and row[0] and time.monotonic() < deadline:
        time.sleep(0.02)


def _drop_after(error: BaseException, server: PostgresServer, target: str) -> None:
    """Drop a half-restored database; where that fails too, the first error stays the one that is raised."""
    try:
        _drop(server, target)
    except StackError as second:
        error.add_note(f"{target} could not be dropped: {second}")


def _drop(server: PostgresServer, name: str) -> None:
    with server.connect() as connection, explained(name, "drop"):
        row = connection.execute("SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = %s", [name]).fetchone()
        if row is not None and row[0]:
            connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
