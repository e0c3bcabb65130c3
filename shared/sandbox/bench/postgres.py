"""Postgres rows: the dump against plain tools, in time, stored size and memory; the restore part of a drill."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import IO, cast

import psycopg
from pydantic import SecretStr

from blocks.object_store import BackupStore
from flows.backup.manifest import PostgresDatabase
from flows.backup.postgres import dump_database
from flows.backup.stream import store_encrypted
from flows.restore import postgres as on_postgres
from shared.engines.postgres import PostgresEngine
from shared.sandbox import litellm_schema
from shared.sandbox.bench.measure import Measurements
from shared.sandbox.bench.memory import extra_memory

__all__ = ["PostgresRows"]

OURS = "litellm__drill_benchs"
"""What the drill row restores to: a name that restores give, so that it may be dropped."""


class DiscardingStore(BackupStore):
    """A store that takes a stream's parts and throws them away: the pipeline's own speed, without S3."""

    _block_type_name = "Discarding Store"
    _block_type_slug = "discarding-store"

    def put_stream(self, key: str, source: IO[bytes], *, expected_bytes: int = 0) -> None:
        """Read `source` to its end in parts."""
        part = self.part_size_mib * 1024 * 1024
        while source.read(part):
            pass


class PostgresRows:
    """The rows about Postgres.

    Args:
        bench: where they go.
    """

    def __init__(self, bench: Measurements) -> None:
        self.bench = bench
        self.sandbox, self.stack = bench.sandbox, bench.stack
        self._seed = 0
        self.discarding = DiscardingStore(bucket=self.stack.store.bucket, prefix="bench", stack="bench")

    def load(self, gigabytes: float) -> None:
        """Fill database litellm with spend logs until it has the size asked for."""
        url = self.sandbox.postgres.url("litellm")
        if not self._seed:
            litellm_schema.apply(url)
        while self._size() < gigabytes * 1e9:
            self._seed += 1
            litellm_schema.load(url, spend_logs=100_000, seed=self._seed)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        self.bench.console.print(f"postgres: litellm has {self._size() / 1e9:.2f} GB", highlight=False)

    def memory(self, name: str) -> None:
        """Extra resident memory of a process that takes the backup, checksums and S3 included."""
        self.bench.add(name, extra_memory(self.sandbox, "postgres"), 150, "MB", at_most=1.0)

    def speed(self) -> None:
        """Dump, with and without the parts that cost, against the plain tools."""
        component = self._dump(self.discarding, checksums=False)
        plain, stored = component.object.plain_bytes, component.object.bytes
        self.bench.compare(
            "pg_backup_sink",
            lambda: self._dump(self.discarding, checksums=False),
            lambda: self._pg_dump("-Fc", "-Z0"),
            at_most=1.4,
        )
        self.bench.compare(
            "pg_backup_vs_gzip", lambda: self._dump(self.discarding, checksums=False), self._pg_dump_gzip, at_most=1 / 3
        )
        self.bench.compare(
            "pg_backup_checksums",
            lambda: self._dump(self.discarding, checksums=True),
            lambda: self._dump(self.discarding, checksums=False),
        )
        with tempfile.TemporaryDirectory(dir=self.sandbox.directory) as folder:
            dump = Path(folder) / "litellm.dump"
            with dump.open("wb") as target:
                self._pg_dump("-Fc", "-Z0", target=target)
            zstd = Path(folder) / "litellm.dump.zst"
            subprocess.run(["zstd", "-3", "-q", "-o", str(zstd), str(dump)], check=True)
            self.bench.add("pg_stored_size", stored, zstd.stat().st_size, "bytes", at_most=1.1)
            self.bench.compare(
                "pg_backup_s3",
                lambda: self._dump(self.stack.store, checksums=False),
                lambda: self._upload(dump),
                at_most=1.15,
            )
            self.bench.compare(
                "pg_backup_s3_pipeline", lambda: self._dump(self.stack.store, checksums=False), lambda: self._pipeline(dump)
            )
            self._drill(dump)
        self.bench.console.print(f"the dump has {plain / 1e6:.0f} MB, stored {stored / 1e6:.0f} MB", highlight=False)

    def _drill(self, dump: Path) -> None:
        component = self._dump(self.stack.store, checksums=False)
        engine = PostgresEngine(self.sandbox.directory / "bench-postgres", durable=False)
        engine.start()
        try:
            scratch = self.stack.need_postgres_admin().model_copy(update={"url": SecretStr(engine.url())})
            with psycopg.connect(engine.url(), autocommit=True) as connection:
                for role in ("litellm", "langfuse", "backup", "restore"):
                    connection.execute(f"CREATE ROLE {role}")

            def ours() -> None:
                on_postgres.drop_database(scratch, OURS)
                on_postgres.restore_database(scratch, component, self.stack.store, "bench/", self.stack.keys, OURS)

            def reference() -> None:
                with psycopg.connect(engine.url(), autocommit=True) as connection:
                    connection.execute("DROP DATABASE IF EXISTS reference")
                    connection.execute("CREATE DATABASE reference TEMPLATE template0")
                arguments = [
                    str(engine.bin_dir / "pg_restore"),
                    "-j1",
                    "--exit-on-error",
                    "-d",
                    engine.url("reference"),
                    str(dump),
                ]
                subprocess.run(arguments, check=True)

            self.bench.compare("pg_drill", ours, reference, at_most=1.3)
        finally:
            engine.kill()

    def _size(self) -> int:
        return on_postgres.database_bytes(self.stack.need_postgres_admin(), "litellm")

    def _dump(self, store: BackupStore, *, checksums: bool) -> PostgresDatabase:
        server = self.stack.need_postgres()
        return dump_database(server, "litellm", store, "bench/", self.stack.keys, checksums=checksums)

    def _pg_dump(self, *options: str, target: IO[bytes] | None = None) -> None:
        tool = str(self.sandbox.postgres.bin_dir / "pg_dump")
        environment = self.stack.need_postgres().conninfo_env("litellm")
        subprocess.run([tool, *options], env=environment, stdout=target or subprocess.DEVNULL, check=True)

    def _pg_dump_gzip(self) -> None:
        tool = str(self.sandbox.postgres.bin_dir / "pg_dump")
        environment = self.stack.need_postgres().conninfo_env("litellm")
        with subprocess.Popen([tool], env=environment, stdout=subprocess.PIPE) as dump:
            subprocess.run(["gzip"], stdin=dump.stdout, stdout=subprocess.DEVNULL, check=True)

    def _upload(self, dump: Path) -> None:
        """Upload a file of the dump's size as it is: the same parts, as many at once."""
        with dump.open("rb", buffering=0) as source:
            self.stack.store.put_stream(f"{self.stack.store.root}bench/from-file", cast(IO[bytes], source))

    def _pipeline(self, dump: Path) -> None:
        """Feed our own pipeline from a dump that lies on the disk already: what is left of the time is pg_dump's own."""
        with dump.open("rb", buffering=0) as source:
            store_encrypted(self.stack.store, "bench/", "from-file", cast(IO[bytes], source), self.stack.keys)
