"""`make bench`: ours against the plain tool, in the same run on the same data, as ratios.

Each pair is measured alternately, several times, and the medians are compared: a noisy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast

import psycopg
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from blocks.object_store import BackupStore
from flows.backup.clickhouse import BaseBackup, backup_database
from flows.backup.manifest import ClickHouseDatabase, PostgresDatabase
from flows.backup.postgres import dump_database
from flows.backup.stream import store_encrypted
from flows.restore import postgres as on_postgres
from flows.stack import Stack
from shared.engines.postgres import PostgresEngine
from shared.sandbox import langfuse_clickhouse, litellm_schema
from shared.sandbox.blocks import stack_from
from shared.sandbox.stack import ROOT, Sandbox

CLICKHOUSE_DATABASE = "langfuse"
OURS = "litellm__drill_benchs"
"""What the drill row restores to: a name that restores give, so that it may be dropped."""


@dataclass(frozen=True)
class Row:
    """One row of the report: ours and the reference in `unit`, their ratio, the goal for the ratio, and whether it holds."""

    name: str
    ours: float
    reference: float
    unit: str
    ratio: float
    goal: str
    holds: bool | None


class DiscardingStore(BackupStore):
    """A store that takes a stream's parts and throws them away: the pipeline's own speed, without S3."""

    _block_type_name = "Discarding Store"
    _block_type_slug = "discarding-store"

    def put_stream(self, key: str, source: IO[bytes], *, expected_bytes: int = 0) -> None:
        """Read `source` to its end in parts."""
        part = self.part_size_mib * 1024 * 1024
        while source.read(part):
            pass


class Bench:
    """The measurements.

    Args:
        sandbox: started, without Prefect. repeats: of each measurement. gigabytes: of the Postgres database.
        million_rows: of the ClickHouse database.
    """

    def __init__(self, sandbox: Sandbox, *, repeats: int, gigabytes: float, million_rows: float) -> None:
        self.sandbox = sandbox
        self.stack: Stack = stack_from(sandbox.environment())
        self.repeats = repeats
        self.gigabytes = gigabytes
        self.million_rows = million_rows
        self.rows: list[Row] = []
        self.console = Console()
        self._sets = 0
        self.discarding = DiscardingStore(bucket=self.stack.store.bucket, prefix="bench", stack="bench")

    # --- Postgres ----------------------------------------------------------------------------------------------------

    def load_postgres(self) -> None:
        """Fill database litellm with spend logs until it has the size asked for."""
        url = self.sandbox.postgres.url("litellm")
        litellm_schema.apply(url)
        seed = 1
        while self._size("litellm") < self.gigabytes * 1e9:
            litellm_schema.load(url, spend_logs=100_000, seed=seed)
            seed += 1
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
        self.console.print(f"postgres: litellm has {self._size('litellm') / 1e9:.2f} GB", highlight=False)

    def postgres(self) -> None:
        """Dump, with and without the parts that cost, against the plain tools."""
        component = self._dump(self.discarding, checksums=False)
        plain, stored = component.object.plain_bytes, component.object.bytes
        self.compare(
            "pg_backup_sink",
            lambda: self._dump(self.discarding, checksums=False),
            lambda: self._pg_dump("-Fc", "-Z0"),
            at_most=1.4,
        )
        self.compare(
            "pg_backup_vs_gzip", lambda: self._dump(self.discarding, checksums=False), self._pg_dump_gzip, at_most=1 / 3
        )
        self.compare(
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
            self.add("pg_stored_size", stored, zstd.stat().st_size, "bytes", at_most=1.1)
            self.compare(
                "pg_backup_s3",
                lambda: self._dump(self.stack.store, checksums=False),
                lambda: self._upload(dump),
                at_most=1.15,
            )
            self.compare(
                "pg_backup_s3_pipeline", lambda: self._dump(self.stack.store, checksums=False), lambda: self._pipeline(dump)
            )
            self._drill(dump)
        self.console.print(f"the dump has {plain / 1e6:.0f} MB, stored {stored / 1e6:.0f} MB", highlight=False)

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

            self.compare("pg_drill", ours, reference, at_most=1.3)
        finally:
            engine.kill()

    def memory(self) -> None:
        """Extra resident memory of a process that takes the backup, checksums and S3 included."""
        program = [sys.executable, "-m", "shared.sandbox.bench", "--memory-of-one-backup"]
        done = subprocess.run(program, env=self.sandbox.environment(), cwd=ROOT, capture_output=True, text=True, check=True)
        before, peak = (int(word) for word in done.stdout.split()[-2:])
        self.add("memory_1gb", (peak - before) / 1024, 150, "MB", at_most=1.0)

    # --- ClickHouse --------------------------------------------------------------------------------------------------

    def clickhouse(self) -> None:
        """Backups against the bare SQL command.

        `ch_backup` is a full one as it is every week: what parts hold was recorded by an earlier set, and parts never change.
        `ch_backup_first` reads every row once, beside the command.
        """
        server = self.stack.need_clickhouse()
        rows = int(self.million_rows * 1e6)
        with server.client() as client:
            langfuse_clickhouse.create(client, CLICKHOUSE_DATABASE)
            langfuse_clickhouse.load(client, CLICKHOUSE_DATABASE, rows=rows)
            client.command(f"OPTIMIZE TABLE {CLICKHOUSE_DATABASE}.traces FINAL")
        server.ensure_collection(self.stack.store)
        full, seconds = self._clickhouse()
        whole = BaseBackup(set_id="bench", prefix=f"{self.stack.store.root}bench/1/", component=full)
        self.compare("ch_backup", lambda: self._clickhouse(known=whole), self._bare_backup, at_most=1.1)
        self.compare("ch_backup_first", lambda: self._clickhouse(), self._bare_backup)
        with server.client() as client:
            langfuse_clickhouse.write_more(client, CLICKHOUSE_DATABASE, share=0.01)
        difference, seconds_of_difference = self._clickhouse(base=whole)
        self.add("ch_incremental", difference.bytes, full.bytes, "bytes", at_most=0.1)
        self.add("ch_incremental_time", seconds_of_difference, seconds, "s")

    # --- helpers -----------------------------------------------------------------------------------------------------

    def compare(
        self, name: str, ours: Callable[[], object], reference: Callable[[], object], *, at_most: float | None = None
    ) -> None:
        """Measure two pieces of work alternately and add a row of their median seconds."""
        times: dict[str, list[float]] = {"ours": [], "reference": []}
        for _ in range(self.repeats):
            for which, work in (("reference", reference), ("ours", ours)):
                gc.collect()
                begun = time.monotonic()
                work()
                times[which].append(time.monotonic() - begun)
        medians = {which: statistics.median(values) for which, values in times.items()}
        self.add(name, medians["ours"], medians["reference"], "s", at_most=at_most)

    def add(self, name: str, ours: float, reference: float, unit: str, *, at_most: float | None = None) -> None:
        """Add a row and print it."""
        ratio = ours / reference
        goal, holds = (f"<= {at_most:.2f}", ratio <= at_most) if at_most is not None else ("report", None)
        row = Row(name, round(ours, 3), round(reference, 3), unit, round(ratio, 3), goal, holds)
        self.rows.append(row)
        mark = "[yellow]-" if holds is None else "[green]holds" if holds else "[red]MISSED"
        self.console.print(f"{name}: {ours:.2f} / {reference:.2f} {unit} = {ratio:.2f} ({goal}) {mark}", highlight=False)

    def finish(self) -> int:
        """Print the table and write the file; returns the exit status."""
        table = Table("row", "ours", "reference", "unit", "ratio", "goal", "holds", title="Bench", title_justify="left")
        for row in self.rows:
            verdict = "" if row.holds is None else "yes" if row.holds else "[red]no"
            table.add_row(row.name, f"{row.ours:.2f}", f"{row.reference:.2f}", row.unit, f"{row.ratio:.2f}", row.goal, verdict)
        self.console.print(table)
        report = ROOT / "bench-report.json"
        report.write_text(json.dumps({"rows": [asdict(row) for row in self.rows]}, indent=1) + "\n", encoding="utf-8")
        return 0 if all(row.holds is not False for row in self.rows) else 1

    def _size(self, database: str) -> int:
        return on_postgres.database_bytes(self.stack.need_postgres_admin(), database)

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

    def _clickhouse(
        self, *, base: BaseBackup | None = None, known: BaseBackup | None = None
    ) -> tuple[ClickHouseDatabase, float]:
        self._sets += 1
        prefix = f"{self.stack.store.root}bench/{self._sets}/"
        server, backup_id = self.stack.need_clickhouse(), f"bench-{time.monotonic_ns()}"
        begun = time.monotonic()
        component = backup_database(
            server, CLICKHOUSE_DATABASE, self.stack.store, prefix, backup_id, base=base, known=known, deadline=3600
        )
        return component, time.monotonic() - begun

    def _bare_backup(self) -> None:
        server = self.stack.need_clickhouse()
        path = f"bench-bare/{time.monotonic_ns()}/"
        with server.client() as client:
            client.command(f"BACKUP DATABASE {CLICKHOUSE_DATABASE} TO S3({server.collection}, '{path}')")


def memory_of_one_backup() -> int:
    """Take one backup of litellm and print resident memory before and at its peak, kB (the memory row's own process)."""
    stack = stack_from(os.environ)
    server = stack.need_postgres()
    server.server_version()
    stack.store.find("warm")
    before = _status("VmRSS")
    dump_database(server, "litellm", stack.store, "bench/", stack.keys)
    sys.stdout.write(f"{before} {_status('VmHWM')}\n")
    return 0


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise ValueError(field)


def main() -> int:
    """Run the measurements; returns the exit status: 0 when every goal holds."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="size of the Postgres database")
    parser.add_argument("--million-rows", type=float, default=10.0, help="rows of the ClickHouse database")
    parser.add_argument("--only", choices=["postgres", "clickhouse", "memory"], default=None)
    parser.add_argument("--memory-of-one-backup", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of_one_backup:
        return memory_of_one_backup()
    with Sandbox(ROOT / ".sandbox" / "bench", prefect=False) as sandbox:
        bench = Bench(sandbox, repeats=options.repeats, gigabytes=options.gigabytes, million_rows=options.million_rows)
        if options.only in (None, "postgres", "memory"):
            bench.load_postgres()
        if options.only in (None, "postgres"):
            bench.postgres()
        if options.only in (None, "postgres", "memory"):
            bench.memory()
        if options.only in (None, "clickhouse"):
            bench.clickhouse()
        return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
