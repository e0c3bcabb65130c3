"""What a Postgres test works with: a server in its roles, a store, keys, and names of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow
from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, s3_bucket
from blocks.postgres import PostgresServer
from flows.backup.manifest import PostgresDatabase
from flows.backup.postgres import dump_database
from flows.compare.differences import Difference
from flows.compare.postgres import compare_database
from flows.restore import postgres as on_postgres
from shared.engines.object_store import S3Engine
from shared.engines.postgres import PostgresEngine
from shared.sandbox.hard_postgres import create_hard_database
from shared.sandbox.keys import SandboxKeys

BUCKET = "postgres-tests"


@dataclass(frozen=True)
class Site:
    """One test's view of a server.

    Attributes:
        engine: the server. secrets: passwords of its roles. store, keys: where backups go and who opens them.
        number: of the test in this session; its databases are `app_<number>` and those beside it.
    """

    engine: PostgresEngine
    secrets: SandboxKeys
    store: BackupStore
    keys: BackupKeys
    number: int

    @staticmethod
    def make_store(engine: S3Engine, bucket: str) -> BackupStore:
        """Make a bucket and a store in it."""
        block = s3_bucket(engine.endpoint_url, engine.access_key, SecretStr(engine.secret_key), bucket, engine.region)
        store = BackupStore(bucket=block, stack="tests")
        store.client.create_bucket(Bucket=bucket)
        return store

    @property
    def backup(self) -> PostgresServer:
        """The server as the role that takes backups."""
        return self.role("backup", self.secrets.postgres.backup)

    @property
    def admin(self) -> PostgresServer:
        """The server as the role that restores."""
        return self.role("restore", self.secrets.postgres.restore)

    def role(self, user: str, password: str) -> PostgresServer:
        """The server as some role."""
        url = self.engine.url("postgres", user=user, password=password)
        return PostgresServer(url=SecretStr(url), bin_dirs=[str(self.engine.bin_dir)])

    @property
    def database(self) -> str:
        """The live database's name."""
        return f"app_{self.number}"

    @property
    def staged(self) -> str:
        """Name for a restored copy."""
        return self.beside("restore")

    def beside(self, purpose: str) -> str:
        """Name a database beside the live one."""
        return f"{self.database}__{purpose}_{self.number:06}"

    @property
    def prefix(self) -> str:
        """Key prefix of this test's set."""
        return f"{self.store.root}sets/{self.number}/"

    def create(self, statements: str = "") -> None:
        """Create the live database with these statements run in it, as one transaction."""
        with psycopg.connect(self.engine.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER langfuse TEMPLATE template0 STRATEGY file_copy").format(
                    sql.Identifier(self.database)
                )
            )
        with self.connect() as connection:
            connection.execute(statements.encode())

    def create_hard(self) -> None:
        """Create the live database as one that is hard to copy."""
        create_hard_database(self.engine, self.database)

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection[TupleRow]]:
        """Connect as the superuser, each statement a transaction."""
        with psycopg.connect(self.engine.url(database or self.database), autocommit=True) as connection:
            yield connection

    def value(self, query: str, database: str | None = None) -> object:
        """Return what a query answers in its first column."""
        with self.connect(database) as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def databases(self) -> dict[str, bool]:
        """This test's databases, and whether they take connections."""
        with self.connect("postgres") as connection:
            rows = connection.execute("SELECT datname, datallowconn FROM pg_database").fetchall()
        return {n: allowed for n, allowed in rows if n == self.database or n.startswith(f"{self.database}__")}

    def dump(self) -> PostgresDatabase:
        """Back the live database up."""
        return dump_database(self.backup, self.database, self.store, self.prefix, self.keys)

    def restore(self, component: PostgresDatabase) -> None:
        """Restore it beside the live one."""
        on_postgres.restore_database(self.admin, component, self.store, self.prefix, self.keys, self.staged)

    def compare(self, component: PostgresDatabase) -> list[Difference]:
        """Compare the restored copy with the manifest."""
        return compare_database(self.admin, component, self.staged)

    def objects(self) -> list[str]:
        """Keys below this test's prefix, without it."""
        return [item.key.removeprefix(self.prefix) for item in self.store.list(self.prefix)]

    def unfinished_uploads(self) -> list[str]:
        """Keys of uploads that were begun and not ended."""
        return [upload.key for upload in self.store.uploads(self.prefix)]

    def clean(self) -> None:
        """Drop this test's databases."""
        with psycopg.connect(self.engine.url(), autocommit=True) as connection:
            for name in self.databases():
                connection.execute(sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(sql.Identifier(name)))
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
