"""The stack a flow works on: its systems as blocks, loaded by the stack's name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from blocks.clickhouse import ClickHouseServer
from blocks.errors import SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.redis import RedisServer
from blocks.settings import Settings
from blocks.source_bucket import SourceBucket, source_name
from flows.documents import optional, required
from flows.lease import Lease, exclusive
from flows.report import flow_run_id


@dataclass(frozen=True)
class Stack:
    """One environment of the services.

    Attributes:
        name: `STACK_NAME`; block documents carry it.
        settings: numbers and folders from the environment.
        store, keys: where backups go and what they are encrypted and signed with.
        postgres, postgres_admin: the server as the backup role and as the restore role; None where there is no such block.
        clickhouse, redis: None where there is no such block.
        sources: the buckets that are backed up. copy: the second store, off the stack; None where there is none.
    """

    name: str
    settings: Settings
    store: BackupStore
    keys: BackupKeys
    postgres: PostgresServer | None
    postgres_admin: PostgresServer | None
    clickhouse: ClickHouseServer | None
    redis: RedisServer | None
    sources: tuple[SourceBucket, ...] = ()
    copy: BackupStore | None = None

    @classmethod
    def load(cls) -> Stack:
        """Load the blocks of the stack that `STACK_NAME` names.

        Raises:
            SettingsError: a block that every flow needs is not there; says how to make it.
        """
        settings = Settings.load()
        name = settings.stack_name
        return cls(
            name=name,
            settings=settings,
            store=required(BackupStore, name),
            keys=required(BackupKeys, name),
            postgres=optional(PostgresServer, f"{name}-backup"),
            postgres_admin=optional(PostgresServer, f"{name}-restore"),
            clickhouse=optional(ClickHouseServer, name),
            redis=optional(RedisServer, name),
            sources=tuple(required(SourceBucket, source_name(name, bucket)) for bucket in settings.source_buckets),
            copy=optional(BackupStore, f"{name}-copy"),
        )

    def exclusive(self, flow: str, lease: Lease | None = None) -> AbstractContextManager[Lease]:
        """Hold the stack's lock; `lease` is that of an outer flow, which is then used as it is."""
        seconds, wait = self.settings.backup_lease_seconds, self.settings.backup_lock_wait_seconds
        return exclusive(self.store, flow=flow, holder=flow_run_id() or "by hand", seconds=seconds, wait=wait, lease=lease)

    def postgres_databases(self) -> list[str]:
        """Name the Postgres databases to back up; none where there is no Postgres."""
        return self.postgres.database_names() if self.postgres else []

    def clickhouse_databases(self) -> list[str]:
        """Name the ClickHouse databases to back up; none where there is no ClickHouse."""
        return self.clickhouse.database_names() if self.clickhouse else []

    def need_postgres(self) -> PostgresServer:
        """Return the Postgres server as the backup role, or say what to set."""
        if self.postgres is None:
            raise SettingsError("postgres: not set up; set POSTGRES_BACKUP_URL and run `python -m blocks`")
        return self.postgres

    def need_postgres_admin(self) -> PostgresServer:
        """Return the Postgres server as the restore role, or say what to set."""
        if self.postgres_admin is None:
            raise SettingsError("postgres: no restore role; set POSTGRES_RESTORE_URL and run `python -m blocks`")
        return self.postgres_admin

    def need_clickhouse(self) -> ClickHouseServer:
        """Return the ClickHouse server, or say what to set."""
        if self.clickhouse is None:
            raise SettingsError("clickhouse: not set up; set CLICKHOUSE_HOST and run `python -m blocks`")
        return self.clickhouse

    def need_copy(self) -> BackupStore:
        """Return the second store, or say what to set."""
        if self.copy is None:
            raise SettingsError("copy: no second store is set up; set COPY_BUCKET and its keys, and run `python -m blocks`")
        return self.copy


def project_version() -> str:
    """Return the version of this project, as its manifests record it."""
    try:
        return version("stack-operations")
    except PackageNotFoundError:
        return VERSION


VERSION = "0.1.0"
"""Kept in step with pyproject.toml by a test: the project runs from its folder and is not installed."""
