"""Restore of one ClickHouse database beside the live one, and what must fit before that."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from blocks.clickhouse import ClickHouseServer, version_numbers
from blocks.clickhouse_client import ClickHouseClient, identifier, literal, qualified
from blocks.errors import RestoreRefused, ServiceError, StackError, VersionMismatch
from blocks.object_store import BackupStore
from flows.backup.clickhouse_files import Index, load_index, load_list, verify_files
from flows.backup.clickhouse_merges import stop_merges
from flows.backup.clickhouse_operation import Deadline, Outcome, Progress, run_operation
from flows.backup.manifest import ClickHouseDatabase
from flows.compare.clickhouse_content import compare_database
from flows.compare.clickhouse_tables import consumes, inventory, is_inner
from flows.compare.differences import Difference
from flows.restore.clickhouse_swap import describe_undo, drop_database, swap_databases, undo_swap

__all__ = [
    "check_files",
    "compare",
    "database_bytes",
    "database_exists",
    "describe_undo",
    "drop_database",
    "is_empty",
    "refuse_unfit",
    "restore_database",
    "swap_databases",
    "tables_not_in",
    "undo_swap",
]

TWELVE_HOURS = 12 * 3600.0


def _silent(_text: str) -> None:
    """Say nothing."""


def check_files(component: ClickHouseDatabase, store: BackupStore, prefix: str, base: str | None) -> Index:
    """See that the backup is as it was stored, before anything of it is fed to a server.

    Args:
        prefix: key prefix of its set. base: key prefix of the set that it is a difference to.
    Returns: the list of its files.
    Raises:
        IntegrityError: names an object that is missing, truncated or exchanged.
    """
    index = load_index(store, prefix, component.index)
    folder = prefix + component.path
    load_list(store, folder, component.name, sha256=component.backup_file_sha256)
    verify_files(index.files, store, folder, base + component.path if base else None, component.name)
    return index


def restore_database(
    server: ClickHouseServer,
    component: ClickHouseDatabase,
    store: BackupStore,
    prefix: str,
    base: str | None,
    target: str,
    tables: Collection[str] | None = None,
    *,
    partition: str = "",
    deadline: float = TWELVE_HOURS,
    progress: Progress = _silent,
) -> None:
    """Restore a database under a new name. What is live is not touched.

    Definitions come first, then merges and TTL are stopped in the copy, then the data: what is compared afterwards is exactly
    what the backup holds. Tables that would take messages from somebody (Kafka and the like) are left out of the copy.

    Args:
        store, prefix: where the set is. base: key prefix of the set that this one is a difference to.
        target: name of the new database. tables: only these. partition: only the rows of the partition with this id.
        deadline: seconds.
    Raises:
        RestoreRefused: the target exists.
        VersionMismatch: an older server cannot read what a newer one wrote.
        IntegrityError: a stored object is not what was backed up; nothing was restored.
        ServiceError: ClickHouse or the store failed. The target is dropped then, whatever failed.
    """
    refuse_unfit(server, component)
    check_files(component, store, prefix, base)
    server.ensure_collection(store)
    with server.client(timeout=deadline) as client:
        if _exists(client, target):
            raise RestoreRefused(f"clickhouse {component.name}: {target} exists already; drop it or restore under another name")
        try:
            client.command(f"CREATE DATABASE {identifier(target)} ENGINE = Atomic")
            restoring = _Restoring(server, client, component, prefix, base, target, Deadline.after(deadline), progress)
            restoring.run(tables, partition)
        except BaseException:
            try:
                drop_database(server, target)
            except StackError as error:
                progress(f"could not drop {target}: {error}; drop it by hand")
            raise


class _Restoring:
    def __init__(
        self,
        server: ClickHouseServer,
        client: ClickHouseClient,
        component: ClickHouseDatabase,
        prefix: str,
        base: str | None,
        target: str,
        deadline: Deadline,
        progress: Progress,
    ) -> None:
        self._server, self._client, self._component = server, client, component
        self._source = server.destination(prefix + component.path)
        self._base = {"base_backup": server.destination(base + component.path)} if base else {}
        self._target, self._deadline, self._progress = target, deadline, progress

    def run(self, only: Collection[str] | None, partition: str) -> None:
        wanted = {table.name: table for table in self._component.tables if only is None or table.name in only}
        engines = {name: table.engine for name, table in wanted.items()}
        dangerous = consumes(engines, {name: table.ddl for name, table in wanted.items()}, self._component.name)
        if dangerous:
            self._progress(f"not restored beside the live ones, they would take their work: {', '.join(sorted(dangerous))}")
        names = sorted(wanted.keys() - dangerous)
        if not names:
            return
        self._restore(names, {"structure_only": "1"})
        for table in inventory(self._client, self._target).values():
            if table.in_parts:
                stop_merges(self._client, table)
            elif " REFRESH " in table.ddl and table.engine == "MaterializedView":
                self._client.command(f"SYSTEM STOP VIEW {table.sql}")
        # another version prints the same definition differently
        self._restore(names, {"allow_different_table_def": "1"}, f" PARTITIONS ID {literal(partition)}" if partition else "")

    def _restore(self, names: list[str], options: dict[str, str], part: str = "") -> None:
        database = self._component.name
        what = ", ".join(f"TABLE {qualified(database, name)} AS {qualified(self._target, name)}{part}" for name in names)
        outcome = run_operation(
            self._server,
            f"RESTORE {what} FROM {self._source}",
            f"restore-{self._target}-{secrets.token_hex(4)}",
            {**options, **self._base},
            deadline=self._deadline,
            progress=self._progress,
        )
        if outcome is Outcome.UNKNOWN:
            raise ServiceError(f"clickhouse {self._client.name}: restarted during a restore into {self._target}; try again")


def compare(
    server: ClickHouseServer,
    component: ClickHouseDatabase,
    database: str,
    *,
    tables: Collection[str] | None = None,
    merged_since: bool = False,
) -> list[Difference]:
    """Compare a database with the manifest in full; see `compare_database`."""
    with server.client(timeout=TWELVE_HOURS) as client:
        return compare_database(client, component, database, tables=tables, merged_since=merged_since)


def refuse_unfit(server: ClickHouseServer, component: ClickHouseDatabase) -> None:
    """Refuse a server that cannot take the backup.

    Raises:
        VersionMismatch: it is older than the one that wrote the backup.
    """
    text, version = server.version()
    if version[:2] < version_numbers(component.server_version)[:2]:
        raise VersionMismatch(
            f"clickhouse {server.name} is {text}, the backup of {component.name} was written by {component.server_version}; "
            "restore to that release or a newer one"
        )


def database_exists(server: ClickHouseServer, database: str) -> bool:
    """Say whether there is such a database."""
    with server.client() as client:
        return _exists(client, database)


def is_empty(server: ClickHouseServer, database: str) -> bool:
    """Say whether a database holds no rows."""
    with server.client() as client:
        return not any(table.rows for table in inventory(client, database).values() if table.holds_rows)


def database_bytes(server: ClickHouseServer, database: str) -> int:
    """Return the size of a database's tables on disk."""
    with server.client() as client:
        row = client.row(
            "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = {database:String} AND active", {"database": database}
        )
    return int(row[0]) if row else 0


def tables_not_in(server: ClickHouseServer, component: ClickHouseDatabase) -> list[str]:
    """Name live tables and views that the backup does not have; a restore leaves them alone."""
    known = {table.name for table in component.tables}
    with server.client() as client:
        return sorted(name for name in inventory(client, component.name) if name not in known and not is_inner(name))


def _exists(client: ClickHouseClient, database: str) -> bool:
    return client.row("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": database}) is not None
