"""ClickHouse rows: backups against the bare SQL command."""

from __future__ import annotations

import time

from flows.backup.clickhouse import BaseBackup, backup_database
from flows.backup.manifest import ClickHouseDatabase
from shared.sandbox import langfuse_clickhouse
from shared.sandbox.bench.measure import Measurements

__all__ = ["ClickHouseRows"]

CLICKHOUSE_DATABASE = "langfuse"


class ClickHouseRows:
    """The rows about ClickHouse.

    Args:
        bench: where they go. million_rows: of the database.
    """

    def __init__(self, bench: Measurements, million_rows: float) -> None:
        self.bench, self.stack = bench, bench.stack
        self.million_rows = million_rows
        self._sets = 0

    def speed(self) -> None:
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
        self.bench.compare("ch_backup", lambda: self._clickhouse(known=whole), self._bare_backup, at_most=1.1)
        self.bench.compare("ch_backup_first", lambda: self._clickhouse(), self._bare_backup)
        with server.client() as client:
            langfuse_clickhouse.write_more(client, CLICKHOUSE_DATABASE, share=0.01)
        difference, seconds_of_difference = self._clickhouse(base=whole)
        self.bench.add("ch_incremental", difference.bytes, full.bytes, "bytes", at_most=0.1)
        self.bench.add("ch_incremental_time", seconds_of_difference, seconds, "s")

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
