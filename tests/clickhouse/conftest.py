"""One ClickHouse and one S3 server for the session, a store on them, and fresh databases by the dozen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient
from blocks.object_store import BackupStore, s3_bucket
from flows.backup.clickhouse import BaseBackup, backup_database
from flows.backup.manifest import ClickHouseDatabase
from flows.compare.differences import Difference
from flows.restore import clickhouse as on_clickhouse
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.object_store import S3Engine

BUCKET = "clickhouse-backups"
DEADLINE = 120.0


def server_of(engine: ClickHouseEngine, **fields: int | str) -> ClickHouseServer:
    """The block for an engine."""
    return ClickHouseServer.model_validate(
        {"host": engine.host, "port": engine.port, "user": engine.user, "password": SecretStr(engine.password), **fields}
    )


@pytest.fixture(scope="session")
def store(s3_engine: S3Engine) -> BackupStore:
    """A store on the session's S3 server."""
    bucket = s3_bucket(s3_engine.endpoint_url, s3_engine.access_key, SecretStr(s3_engine.secret_key), BUCKET, "us-east-1")
    made = BackupStore(bucket=bucket, stack="tests")
    made.client.create_bucket(Bucket=BUCKET)
    return made


@pytest.fixture(scope="session")
def server(clickhouse_engine: ClickHouseEngine) -> ClickHouseServer:
    """The session's ClickHouse."""
    return server_of(clickhouse_engine)


@pytest.fixture
def client(server: ClickHouseServer) -> Iterator[ClickHouseClient]:
    """A client of it."""
    with server.client() as connected:
        yield connected


class Lab:
    """Databases, sets and copies of one test, all gone afterwards."""

    numbers = itertools.count(1)

    def __init__(self, server: ClickHouseServer, store: BackupStore, ending: ExitStack) -> None:
        self.server = server
        self.store = store
        self._ending = ending
        self.progress: list[str] = []

    def name(self, suffix: str = "") -> str:
        """A database's name that nobody has used; dropped at the end."""
        name = f"db{next(self.numbers)}{suffix}"
        self._ending.callback(on_clickhouse.drop_database, self.server, name)
        return name

    def database(self, *statements: str, suffix: str = "") -> str:
        """Make a database and fill it; `{db}` stands for its name."""
        name = self.name(suffix)
        with self.server.client() as client:
            client.command(f"CREATE DATABASE {name}")
            for statement in statements:
                client.command(statement.replace("{db}", name))
        return name

    def new_set(self) -> str:
        """The id of a set that nobody has used."""
        return f"set{next(self.numbers)}"

    def prefix(self, set_id: str) -> str:
        """Where a set is."""
        return f"{self.store.root}sets/{set_id}/"

    def backup(
        self,
        database: str,
        base: BaseBackup | None = None,
        *,
        server: ClickHouseServer | None = None,
        deadline: float = DEADLINE,
        known: BaseBackup | None = None,
        set_id: str = "",
    ) -> BaseBackup:
        """Back a database up, into a set of its own unless one is named."""
        set_id = set_id or self.new_set()
        component = backup_database(
            server or self.server,
            database,
            self.store,
            self.prefix(set_id),
            set_id,
            base=base,
            known=known,
            deadline=deadline,
            progress=self.progress.append,
        )
        return BaseBackup(set_id=set_id, prefix=self.prefix(set_id), component=component)

    def base_prefix(self, component: ClickHouseDatabase) -> str | None:
        """Where the base of a backup is."""
        return self.prefix(component.base) if component.base else None

    def restore(self, taken: BaseBackup, target: str | None = None, *, server: ClickHouseServer | None = None) -> str:
        """Restore a set beside the live database; returns the copy's name."""
        target = target or self.name("__restore_aaaaaa")
        base = self.base_prefix(taken.component)
        on_clickhouse.restore_database(
            server or self.server, taken.component, self.store, taken.prefix, base, target, progress=self.progress.append
        )
        return target

    def drill(self, taken: BaseBackup, *, server: ClickHouseServer | None = None) -> list[Difference]:
        """Restore a set and compare the copy with the manifest."""
        return on_clickhouse.compare(server or self.server, taken.component, self.restore(taken, server=server))


@pytest.fixture
def lab(server: ClickHouseServer, store: BackupStore) -> Iterator[Lab]:
    """A place for databases."""
    with ExitStack() as ending:
        yield Lab(server, store, ending)


@pytest.fixture(scope="module")
def module_lab(server: ClickHouseServer, store: BackupStore) -> Iterator[Lab]:
    """A place for databases that a module's tests share."""
    with ExitStack() as ending:
        yield Lab(server, store, ending)


WITH_NULLS = (
    "CREATE TABLE {db}.t (id UInt64, note Nullable(String), more Nullable(Float64)) ENGINE = MergeTree ORDER BY id",
    "INSERT INTO {db}.t SELECT number, if(number % 3 = 0, NULL, randomPrintableASCII(30)), NULL FROM numbers(5000)",
    "CREATE TABLE {db}.other (id UInt64) ENGINE = MergeTree ORDER BY id",
    "INSERT INTO {db}.other SELECT number FROM numbers(10)",
)
"""A small database whose table `t` has NULLs in every row."""
