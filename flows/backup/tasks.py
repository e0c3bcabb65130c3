"""The steps of a backup as Prefect tasks: retried where another try can help, each with its own deadline."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from prefect import task

from blocks.retry import RETRIED
from blocks.source_bucket import SourceBucket
from flows.backup.clickhouse import BaseBackup, backup_database
from flows.backup.manifest import BucketContents, ClickHouseDatabase, Manifest, PostgresDatabase, PostgresGlobals
from flows.backup.postgres import dump_database, dump_globals
from flows.backup.sets import BackupSet
from flows.buckets.backup import Previous, backup_bucket
from flows.catalogue import Catalogue, set_prefix
from flows.lease import utc_now
from flows.report import line
from flows.stack import Stack


@task(name="clickhouse", task_run_name="clickhouse {database}", **RETRIED)
def backup_clickhouse(stack: Stack, backup_set: BackupSet, database: str, earlier: Earlier) -> ClickHouseDatabase:
    """Take one ClickHouse database into the set, as a difference to the earlier full one where there is one."""
    return backup_database(
        stack.need_clickhouse(),
        database,
        stack.store,
        backup_set.prefix,
        backup_set.id,
        base=earlier.base,
        known=earlier.newest,
        deadline=stack.settings.backup_deadline_minutes * 60,
        progress=line,
    )


@task(name="postgres", task_run_name="postgres {database}", **RETRIED)
def backup_postgres(stack: Stack, backup_set: BackupSet, database: str) -> PostgresDatabase:
    """Take one Postgres database into the set."""
    return dump_database(stack.need_postgres(), database, stack.store, backup_set.prefix, stack.keys, progress=line)


@task(name="postgres globals", **RETRIED)
def backup_globals(stack: Stack, backup_set: BackupSet) -> PostgresGlobals:
    """Take the roles and grants of the Postgres server into the set, without passwords."""
    return dump_globals(stack.need_postgres(), stack.store, backup_set.prefix, stack.keys)


@task(name="bucket", task_run_name="bucket {source.name}", **RETRIED)
def backup_objects(stack: Stack, backup_set: BackupSet, source: SourceBucket, earlier: Manifest | None) -> BucketContents:
    """Take one bucket into the set; what has not changed since the earlier set is referenced, not read."""
    previous = None
    if earlier is not None:
        component = next(c for c in earlier.buckets if c.name == source.name)
        previous = Previous(set_prefix(stack.store, earlier.id), component)
    return backup_bucket(
        source,
        stack.store,
        stack.keys,
        backup_set.prefix,
        backup_set.id,
        previous=previous,
        numbers=backup_set.pack_numbers,
        folder=None,
        progress=line,
    )


@dataclass(frozen=True)
class Earlier:
    """The earlier backups of a ClickHouse database that a new one builds on.

    Attributes:
        base: the last full one, which the new one is a difference to; None when it is time for a full one.
        newest: the newest one: parts whose content it recorded are not read again.
    """

    base: BaseBackup | None
    newest: BaseBackup | None


def earlier_backups(stack: Stack, catalogue: Catalogue, database: str, *, full: bool) -> Earlier:
    """Choose what a ClickHouse backup builds on. A difference is always to the last full one, so there are no chains.

    Args:
        catalogue: the sets there are. full: somebody asked for a full backup.
    """
    last_full = None if full else catalogue.base_of(database)
    if last_full is not None and utc_now() - last_full.created_at > timedelta(days=stack.settings.backup_full_every_days):
        last_full = None
    return Earlier(_part(stack, last_full, database), _part(stack, catalogue.newest_of(database), database))


def _part(stack: Stack, manifest: Manifest | None, database: str) -> BaseBackup | None:
    if manifest is None:
        return None
    component = next(c for c in manifest.clickhouse if c.name == database)
    return BaseBackup(set_id=manifest.id, prefix=set_prefix(stack.store, manifest.id), component=component)
