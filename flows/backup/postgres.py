"""Backup of Postgres: one database as a pg_dump stream with everything a comparison needs, and the server's roles."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import IO, cast
from urllib.parse import quote

from blocks.errors import BackupFailed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PINNED, PostgresServer, explained
from blocks.postgres_tools import tool_version
from flows.backup.manifest import PostgresDatabase, PostgresGlobals, SequenceBounds, StoredObject
from flows.backup.postgres_reading import Guarded, Reading
from flows.backup.postgres_snapshot import QUEUED_TIMEOUT_S, TRIES, Frozen, freeze
from flows.backup.stream import CHUNK, ProcessOutput, store_encrypted
from flows.compare.postgres_content import sequence_positions

GLOBALS_KEY = "postgres/globals.sql.zst.age"


def dump_key(database: str) -> str:
    """Return the key of a database's dump below the set; odd characters are percent-encoded."""
    return f"postgres/{quote(database, safe='')}.dump.zst.age"


def dump_database(
    server: PostgresServer,
    database: str,
    store: BackupStore,
    prefix: str,
    keys: BackupKeys,
    *,
    checksums: bool = True,
    connections: int = 1,
    lock_timeout_s: int = 60,
    progress: Callable[[str], None] = lambda _: None,
) -> PostgresDatabase:
    """Dump one database into the store, and read what is in it at the very same moment.

    Counts and checksums are read while the dump runs; one connection keeps pace with pg_dump, which has more to do per row.
    The stream ends, and S3 completes the object, only when everything has held to the end.

    Args:
        server: as a role that can read everything. database: its name.
        store, prefix, keys: where to, below which key prefix (with slash), and whom to encrypt to.
        checksums: False only counts rows.
        connections: connections that read content besides pg_dump's own; each costs the server one core.
        lock_timeout_s: how long to wait for tables that a migration, TRUNCATE or VACUUM FULL has locked, seconds.
        progress: is told a line now and then.
    Returns: the component for the manifest.
    Raises:
        BackupFailed: pg_dump failed or was killed; no object was stored.
        ServiceError: the server broke off, or tables stayed locked; no object was stored.
        AccessDenied: what the role may not read, and the statement that allows it.
        VersionMismatch: no pg_dump here fits the server.
    """

    def sink(source: IO[bytes], expected_bytes: int) -> StoredObject:
        return store_encrypted(store, prefix, dump_key(database), source, keys, expected_bytes=expected_bytes)

    return dump_into(
        server,
        database,
        sink,
        checksums=checksums,
        connections=connections,
        lock_timeout_s=lock_timeout_s,
        progress=progress,
    )


def dump_into(
    server: PostgresServer,
    database: str,
    sink: Callable[[IO[bytes], int], StoredObject],
    *,
    target_major: int | None = None,
    checksums: bool = True,
    connections: int = 1,
    lock_timeout_s: int = 60,
    progress: Callable[[str], None] = lambda _: None,
) -> PostgresDatabase:
    """Dump one database to wherever `sink` takes it; all else is as in `dump_database`.

    Args:
        sink: reads the dump to its end, given a guess of its size in bytes, and says what it read. What the source raises in
            `read` has to come out of it.
        target_major: of a newer server that the dump is for, whose own pg_dump knows best what that one takes.
    """
    started_at = datetime.now(UTC)
    version, major = server.server_version()
    pg_dump = server.tool("pg_dump", max(major, target_major or major))
    server.check_readable(database)
    argv = [str(pg_dump), "--format=custom", "--compress=0", "--no-password", f"--lock-wait-timeout={QUEUED_TIMEOUT_S}s"]
    with _begun(server, database, argv, max(1, connections), lock_timeout_s, progress) as (frozen, process, dump):
        sequences_after: dict[str, tuple[int, int]] = {}

        def at_end() -> None:
            reading.wait()
            with explained(database, "read the sequences"), server.connect(database, settings=PINNED) as connection:
                sequences_after.update(sequence_positions(connection))
            with explained(database, "hold the snapshot to the end"):
                frozen.holder.execute("SELECT 1")

        with Reading(frozen, database, checksums=checksums, progress=progress, on_failure=process.kill) as reading:
            source = io.BufferedReader(Guarded(dump, reading.check, at_end), CHUNK)
            stored = sink(cast(IO[bytes], source), sum(table.bytes for table in frozen.tables))
            content, tables = reading.wait()
    progress(f"postgres {database}: {stored.plain_bytes} bytes dumped, {stored.bytes} stored, {len(tables)} tables")
    return PostgresDatabase(
        name=database,
        object=stored,
        server_version=version,
        server_major=major,
        client_version=tool_version(pg_dump),
        database_bytes=content.bytes,
        properties=content.properties,
        extensions=content.extensions,
        roles=content.roles,
        not_taken=content.not_taken,
        tables=tables,
        sequences=[
            SequenceBounds(name=name, low=low, high=sequences_after.get(name, (low, step))[0], increment=step)
            for name, (low, step) in sorted(frozen.sequences.items())
        ],
        large_objects=content.large_objects,
        catalogue=content.catalogue,
        started_at=started_at,
        finished_at=datetime.now(UTC),
    )


def dump_globals(server: PostgresServer, store: BackupStore, prefix: str, keys: BackupKeys) -> PostgresGlobals:
    """Dump the server's roles, their memberships and settings into the store; no passwords.

    Args and errors are those of `dump_database`.
    """
    _, major = server.server_version()
    database = server.maintenance_database
    with server.connect() as connection, explained(database, "list roles"):
        roles = [
            str(name) for (name,) in connection.execute(r"SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1")
        ]
    argv = [
        str(server.tool("pg_dumpall", major)),
        "--globals-only",
        "--no-role-passwords",
        "--no-password",
        f"--database={database}",
        f"--dbname={server.dbname_argument(database)}",
    ]
    with closing(ProcessOutput("pg_dumpall", argv, server.conninfo_env(database))) as process:
        source = io.BufferedReader(process, CHUNK)
        stored = store_encrypted(store, prefix, GLOBALS_KEY, cast(IO[bytes], source), keys)
    return PostgresGlobals(object=stored, roles=roles)


@contextmanager
def _begun(
    server: PostgresServer,
    database: str,
    argv: list[str],
    readers: int,
    lock_timeout_s: int,
    progress: Callable[[str], None],
) -> Iterator[tuple[Frozen, ProcessOutput, IO[bytes]]]:
    """Hold a moment and have pg_dump at work in it, its own locks taken.

    pg_dump's first byte says that it has its locks. When it ends before, most often somebody has queued up between our locks
    and its: everything is let go, which lets them through, and begun again.
    """
    for attempt in range(1, TRIES + 1):
        with ExitStack() as stack:
            frozen = stack.enter_context(freeze(server, database, readers, lock_timeout_s=lock_timeout_s, progress=progress))
            arguments = [*argv, f"--snapshot={frozen.snapshot}", f"--dbname={server.dbname_argument(database)}"]
            process = ProcessOutput(f"pg_dump {database}", arguments, server.conninfo_env(database))
            dump = stack.enter_context(closing(io.BufferedReader(process, CHUNK)))
            try:
                dump.peek(1)
            except BackupFailed as error:
                if attempt == TRIES or not _waits_for_lock(error):
                    raise
                progress(f"{error}; begun again ({attempt} of {TRIES})")
                continue
            yield frozen, process, cast(IO[bytes], dump)
            return


def _waits_for_lock(error: BackupFailed) -> bool:
    """Recognise pg_dump's failure to lock: it quotes LOCK TABLE as the query, in whatever language the server speaks."""
    return "LOCK TABLE" in str(error)
