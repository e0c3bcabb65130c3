"""Back up one ClickHouse database: a native BACKUP to the store, and what exactly it holds.

ClickHouse has no snapshot that another query could share. The truth is the parts in the backup: they are kept from being merged
away while it runs, and read from the live tables by name. A difference is always to the last full backup, never to another
difference.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime

from blocks.clickhouse import ClickHouseServer, backup_path, incremental_supported, version_numbers
from blocks.clickhouse_client import ClickHouseClient, identifier
from blocks.errors import IntegrityError, ServiceError
from blocks.object_store import BackupStore
from flows.backup.clickhouse_contents import ContentReader, reading
from flows.backup.clickhouse_files import (
    LIST_NAME,
    BackupList,
    Index,
    load_index,
    load_list,
    store_index,
    verify_files,
)
from flows.backup.clickhouse_merges import merges_held, merges_stopped, start_all_merges
from flows.backup.clickhouse_operation import Deadline, Outcome, Progress, end_operations_on, run_operation
from flows.backup.manifest import ClickHouseDatabase, ClickHouseTable, TableContent
from flows.compare.clickhouse_tables import Table, inventory, is_inner, stored_in

__all__ = ["BaseBackup", "backup_database", "merges_stopped", "start_all_merges"]


@dataclass(frozen=True)
class BaseBackup:
    """The full backup that the next one is a difference to.

    Attributes:
        set_id: of its set. prefix: key prefix of that set. component: its part of the manifest.
    """

    set_id: str
    prefix: str
    component: ClickHouseDatabase


def _silent(_text: str) -> None:
    """Say nothing."""


def backup_database(
    server: ClickHouseServer,
    database: str,
    store: BackupStore,
    prefix: str,
    backup_id: str,
    *,
    base: BaseBackup | None = None,
    known: BaseBackup | None = None,
    deadline: float,
    progress: Progress = _silent,
) -> ClickHouseDatabase:
    """Back up one database into a set, and verify that every object it consists of is there.

    Safe to repeat: an earlier try's objects below the same prefix are removed first.

    Args:
        database: its name. store, prefix: where the set is. backup_id: of the set.
        base: take only the difference to this full backup; where that is damaged, or the server's release has no safe
            differences, all is taken.
        known: an earlier backup of the database: parts that it has read are not read again. Default `base`.
        deadline: seconds for all of it; then the backup is ended on the server.
        progress: told in sentences what is going on.
    Returns: what was taken, for the manifest.
    Raises:
        ServiceError: ClickHouse or the store failed, or parts vanished; permanent only where another try cannot help.
        IntegrityError: objects are missing right after they were written.
    """
    begun, clock = datetime.now(UTC), Deadline.after(deadline)
    path = backup_path(database)
    with server.client(timeout=deadline, hidden=[store.secret_key.get_secret_value()]) as client:
        base, base_index = _usable_base(client, store, base, progress)
        known_index = load_index(store, known.prefix, known.component.index) if known else base_index
        server.ensure_collection(store, client)
        end_operations_on(client, prefix + path, progress)
        store.remove_below(prefix + path)
        tables = inventory(client, database)
        places = {name: place for name in tables if not is_inner(name) and (place := stored_in(tables, name)) is not None}
        reader = ContentReader(client, database, places, known_index, progress)
        with merges_held(client, [place for place in places.values() if place.in_parts], progress):
            with reading(reader) as ahead:
                _take(server, client, database, store, prefix + path, backup_id, base, clock, progress)
                _wait(ahead, clock, database)
            listed = load_list(store, prefix + path, database)
            _refuse_changed(client, database, tables, listed)
            contents, parts = reader.contents(listed.parts())
            mutations = _pending_mutations(client, database, listed.mutated())
        files = verify_files(listed.files(base_index), store, prefix + path, base.prefix + path if base else None, database)
        index = Index(files=files, tables=parts)
        return ClickHouseDatabase(
            name=database,
            path=path,
            base=base.set_id if base else None,
            server_version=client.version,
            engine=_database_engine(client, database),
            bytes=index.own_bytes + listed.bytes,
            plain_bytes=listed.data_bytes,
            index=store_index(store, prefix, f"{path.rstrip('/')}.index.json.zst", index),
            backup_file_sha256=listed.sha256,
            tables=_described(tables, listed, contents, mutations),
            not_taken=_not_taken(client, database, tables, listed, contents),
            started_at=begun,
            finished_at=datetime.now(UTC),
        )


def _usable_base(
    client: ClickHouseClient, store: BackupStore, base: BaseBackup | None, progress: Progress
) -> tuple[BaseBackup | None, Index | None]:
    """Return the base and its index, or neither where a difference to it would be unsafe or worthless."""
    if base is None:
        return None, None
    if not incremental_supported(version_numbers(client.version)):
        progress(f"clickhouse {client.version} has no safe differential backups (ClickHouse#72906): taking a full one")
        return None, None
    try:
        index = load_index(store, base.prefix, base.component.index)
        verify_files(index.files, store, base.prefix + base.component.path, None, base.component.name)
    except IntegrityError as error:
        progress(f"the base, set {base.set_id}, is damaged: {error}; taking a full backup")
        return None, None
    return base, index


def _take(
    server: ClickHouseServer,
    client: ClickHouseClient,
    database: str,
    store: BackupStore,
    folder: str,
    backup_id: str,
    base: BaseBackup | None,
    clock: Deadline,
    progress: Progress,
) -> None:
    """Run the BACKUP to its end; after a restart of the server the store says whether it got there."""
    operation = f"{backup_id}-{secrets.token_hex(4)}"
    options = {"base_backup": server.destination(base.prefix + backup_path(database))} if base else {}
    statement = f"BACKUP DATABASE {identifier(database)} TO {server.destination(folder)}"
    outcome = run_operation(server, statement, operation, options, deadline=clock, progress=progress)
    if outcome is Outcome.UNKNOWN and store.find(folder + LIST_NAME) is None:
        raise ServiceError(
            f"clickhouse {client.name}: restarted while it backed up {database}, and {LIST_NAME}, which it writes last, is not "
            "in the store; see why it restarted (memory?); trying again takes a new backup"
        )


def _wait(reading_ahead: Future[None], clock: Deadline, database: str) -> None:
    try:
        reading_ahead.result(timeout=max(1.0, clock.left))
    except TimeoutError:
        raise ServiceError(
            f"clickhouse: reading {database} was not done after {clock.seconds:.0f} s; raise BACKUP_DEADLINE_MINUTES"
        ) from None


def _refuse_changed(client: ClickHouseClient, database: str, before: Mapping[str, Table], listed: BackupList) -> None:
    """Refuse a backup during which definitions changed: what was read may not be what it holds."""
    now = inventory(client, database)
    changed = {name for name in before.keys() | now.keys() if _definition(before, name) != _definition(now, name)}
    changed |= listed.tables() ^ {name for name in before if not is_inner(name)}
    if changed:
        raise ServiceError(
            f"clickhouse: {min(changed)} of database {database} was created, altered or dropped during its backup; "
            "is a migration running? trying again takes a new backup"
        )


def _definition(tables: Mapping[str, Table], name: str) -> tuple[str, str] | None:
    return (tables[name].identity, tables[name].ddl) if name in tables else None


def _database_engine(client: ClickHouseClient, database: str) -> str:
    row = client.row("SELECT engine FROM system.databases WHERE name = {database:String}", {"database": database})
    if row is None:
        raise IntegrityError(f"clickhouse {client.name}: database {database} was dropped while it was backed up")
    return str(row[0])


def _pending_mutations(client: ClickHouseClient, database: str, mutated: set[str]) -> dict[str, list[str]]:
    if not mutated:
        return {}
    rows = client.rows(
        "SELECT table, command FROM system.mutations WHERE database = {database:String} AND NOT is_done ORDER BY create_time",
        {"database": database},
    )
    return {name: [str(command) for table, command in rows if table == name] for name in mutated}


def _described(
    tables: Mapping[str, Table],
    listed: BackupList,
    contents: Mapping[str, TableContent],
    mutations: Mapping[str, list[str]],
) -> list[ClickHouseTable]:
    parts = listed.parts()
    return [
        ClickHouseTable(
            name=name,
            engine=table.engine,
            uuid=table.uuid,
            ddl=table.ddl,
            has_data=name in parts or name in contents,
            parts=sorted(parts.get(name, ())),
            content=contents.get(name),
            pending_mutations=mutations.get(name, []),
        )
        for name, table in tables.items()
        if not is_inner(name)
    ]


def _not_taken(
    client: ClickHouseClient,
    database: str,
    tables: Mapping[str, Table],
    listed: BackupList,
    contents: Mapping[str, TableContent],
) -> list[str]:
    """Say what a reader might expect in the backup and will not find, or will find but cannot compare."""
    held = listed.parts()
    notes = []
    for name, table in tables.items():
        if name in held and name not in contents:
            notes.append(f"table {name}: its rows are in, but cannot be compared: {table.engine} tables have no parts")
        elif name not in held and not table.holds_rows and not table.is_view and table.rows:
            notes.append(f"table {name}: {table.rows} rows; BACKUP takes only the definition of a {table.engine} table")
    detached = client.rows(
        "SELECT table, count() FROM system.detached_parts WHERE database = {database:String} GROUP BY table ORDER BY table",
        {"database": database},
    )
    notes += [f"table {table}: {count} detached parts" for table, count in detached]
    functions = client.rows("SELECT name FROM system.functions WHERE origin = 'SQLUserDefined' ORDER BY name")
    if functions:
        notes.append(f"functions of the server, which belong to no database: {', '.join(str(name) for (name,) in functions)}")
    return notes
