"""ClickHouse does not merge, or its logs about itself fill the disk."""

from __future__ import annotations

from shared.gameday.causes.cause import Cause

__all__ = ["LogsGrow", "PartsPileUp"]

_TABLE = "gameday_parts"
_PARTS = 320
"""More than 300, where the check draws the line."""
_LOG, _ROTATED = "zz_trace_log", "zz_trace_log_0"
_ROWS = 4_000_000
"""Of 8 random bytes each, which do not compress."""


class PartsPileUp(Cause):
    """Merges are stopped, as a backup that was killed leaves them, and inserts go on row by row."""

    key, numbers, what = "clickhouse-parts", (5,), f"merges are stopped, {_PARTS} inserts of a row each"
    service, aspects = "clickhouse", ("parts",)
    runbook = "clickhouse-parts"

    def cause(self) -> None:
        """As in `Cause`."""
        sql = self.ground.clickhouse
        sql(f"CREATE TABLE IF NOT EXISTS {_TABLE} (x Int32) ENGINE = MergeTree ORDER BY x")
        sql(f"SYSTEM STOP MERGES {_TABLE}")
        for number in range(_PARTS):
            sql(f"INSERT INTO {_TABLE} VALUES ({number})")

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.clickhouse(f"DROP TABLE IF EXISTS {_TABLE} SYNC")

    def left(self) -> str:
        """As in `Cause`."""
        parts = int(self.ground.clickhouse(f"SELECT count() FROM system.parts WHERE active AND table = '{_TABLE}'"))
        rows = int(self.ground.clickhouse(f"SELECT count() FROM {_TABLE}"))
        if rows != _PARTS:
            return f"{rows} rows of {_PARTS} are left"
        return f"{parts} parts are left" if parts >= _PARTS else ""


class LogsGrow(Cause):
    """A log of ClickHouse about itself, and one that it put aside, grow beyond what the game day allows them."""

    key, numbers, what = "clickhouse-disk", (4,), "ClickHouse's logs about itself grow by 64 MB (the limit: 40 MB)"
    service, aspects = "clickhouse", ("system-logs",)
    runbook = "clickhouse-disk"

    def cause(self) -> None:
        """As in `Cause`."""
        sql = self.ground.clickhouse
        for name in (_LOG, _ROTATED):
            columns = "event_date Date, x UInt64"
            sql(f"CREATE TABLE IF NOT EXISTS system.{name} ({columns}) ENGINE = MergeTree ORDER BY x")
            sql(f"INSERT INTO system.{name} SELECT today(), rand64() FROM numbers({_ROWS})")

    def undo(self) -> None:
        """As in `Cause`."""
        for name in (_LOG, _ROTATED):
            self.ground.clickhouse(f"DROP TABLE IF EXISTS system.{name} SYNC")

    def left(self) -> str:
        """As in `Cause`."""
        rows = int(self.ground.clickhouse(f"SELECT count() FROM system.{_ROTATED}"))
        return f"what was put aside has {rows} rows" if rows else ""
