"""The steps of a backup as Prefect tasks: retried where another try can help, each with its own deadline."""

from __future__ import annotations

from datetime import timedelta

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.retry import TASK_RETRIES, TASK_RETRY_DELAYS, retry_task
from flows.backup.clickhouse import BaseBackup, backup_database
from flows.backup.manifest import ClickHouseDatabase, PostgresDatabase, PostgresGlobals
from flows.backup.postgres import dump_database, dump_globals
from flows.backup.sets import BackupSet
from flows.catalogue import Catalogue, set_prefix
from flows.lease import utc_now
from flows.report import line
from flows.stack import Stack

DEADLINE = timedelta(hours=12).total_seconds()


@task(
    name="clickhouse",
    task_run_name="clickhouse {database}",
    retries=TASK_RETRIES,
    retry_delay_seconds=TASK_RETRY_DELAYS,
    retry_condition_fn=retry_task,
    timeout_seconds=DEADLINE,
    cache_policy=NO_CACHE,
)
def backup_clickhouse(stack: Stack, backup_set: BackupSet, database: str, base: BaseBackup | None) -> ClickHouseDatabase:
    """Take one ClickHouse database into the set, as a difference to `base` where there is one."""
    return backup_database(
        stack.need_clickhouse(),
        database,
        stack.store,
        backup_set.prefix,
        backup_set.id,
        base=base,
        deadline=stack.settings.backup_deadline_minutes * 60,
        progress=line,
    )


@task(
    name="postgres",
    task_run_name="postgres {database}",
    retries=TASK_RETRIES,
    retry_delay_seconds=TASK_RETRY_DELAYS,
    retry_condition_fn=retry_task,
    timeout_seconds=DEADLINE,
    cache_policy=NO_CACHE,
)
def backup_postgres(stack: Stack, backup_set: BackupSet, database: str) -> PostgresDatabase:
    """Take one Postgres database into the set."""
    return dump_database(stack.need_postgres(), database, stack.store, backup_set.prefix, stack.keys, progress=line)


@task(
    name="postgres globals",
    retries=TASK_RETRIES,
    retry_delay_seconds=TASK_RETRY_DELAYS,
    retry_condition_fn=retry_task,
    timeout_seconds=600,
    cache_policy=NO_CACHE,
)
def backup_globals(stack: Stack, backup_set: BackupSet) -> PostgresGlobals:
    """Take the roles and grants of the Postgres server into the set, without passwords."""
    return dump_globals(stack.need_postgres(), stack.store, backup_set.prefix, stack.keys)


def choose_base(stack: Stack, catalogue: Catalogue, database: str, *, full: bool) -> BaseBackup | None:
    """Choose what a ClickHouse backup is a difference to: always the last full one, so that there are no chains.

    Args:
        catalogue: the sets there are. full: somebody asked for a full backup.
    Returns: None when it is time for a full one.
    """
    manifest = None if full else catalogue.base_of(database)
    if manifest is None or utc_now() - manifest.created_at > timedelta(days=stack.settings.backup_full_every_days):
        return None
    component = next(c for c in manifest.clickhouse if c.name == database)
    return BaseBackup(set_id=manifest.id, prefix=set_prefix(stack.store, manifest.id), component=component)
