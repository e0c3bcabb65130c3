"""ClickHouse does not merge, or its logs about itself fill the disk, or its volume."""

from __future__ import annotations

from shared.engines.process import EngineError
from shared.gameday.causes.cause import Cause
from shared.gameday.ground import Ground

__all__ = ["LogsGrow", "PartsPileUp", "VolumeFills"]

_TABLE = "gameday_parts"
_PARTS = 320
"""More than 300, where the check draws the line."""
_LOG, _ROTATED = "zz_trace_log", "zz_trace_log_0"
_ROWS = 4_000_000
"""Of 8 random bytes each, which do not compress."""
_FULL, _USUAL_MB = 0.92, 50_000
_FILLING = {_ROTATED: 3_600_000, _LOG: 800_000}
_FILLING_MB = 8 * sum(_FILLING.values()) / 1e6
"""Less than the logs themselves may take: only the volume is too small for them."""


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
        for name in (_LOG, _ROTATED):
            grow(self.ground, name, _ROWS)

    def undo(self) -> None:
        """As in `Cause`."""
        for name in (_LOG, _ROTATED):
            self.ground.clickhouse(f"DROP TABLE IF EXISTS system.{name} SYNC")

    def left(self) -> str:
        """As in `Cause`."""
        rows = int(self.ground.clickhouse(f"SELECT count() FROM system.{_ROTATED}"))
        return f"what was put aside has {rows} rows" if rows else ""


class VolumeFills(Cause):
    """The volume is a small one, and the logs that would do no harm on another fill it."""

    key, numbers, what = "volume-full", (4,), f"ClickHouse's logs about itself fill a small volume to {_FULL:.0%}"
    service, aspects = "clickhouse", ("volume",)
    runbook = "clickhouse-disk"

    def cause(self) -> None:
        """As in `Cause`."""
        used, _ = self._measured()
        self.ground.railway.size_volume("clickhouse", int((used + _FILLING_MB) / _FULL))
        for name, rows in _FILLING.items():
            grow(self.ground, name, rows)

    def undo(self) -> None:
        """As in `Cause`."""
        for name in _FILLING:
            self.ground.clickhouse(f"DROP TABLE IF EXISTS system.{name} SYNC")
        self.ground.railway.size_volume("clickhouse", _USUAL_MB)

    def left(self) -> str:
        """As in `Cause`."""
        used, size = self._measured()
        return f"{used:.0f} of {size:.0f} MB are used" if used > 0.8 * size else ""

    def _measured(self) -> tuple[float, float]:
        """What is used of the volume, and its size, in MB, as Railway shows them."""
        volume = self.ground.api.inventory().services["clickhouse"].volume
        if volume is None:
            raise EngineError("clickhouse has no volume")
        return volume.used_mb, volume.size_mb


def grow(ground: Ground, name: str, rows: int) -> None:
    """Put rows into a log of ClickHouse about itself, which is made where there is none."""
    columns = "event_date Date, x UInt64"
    ground.clickhouse(f"CREATE TABLE IF NOT EXISTS system.{name} ({columns}) ENGINE = MergeTree ORDER BY x")
    ground.clickhouse(f"INSERT INTO system.{name} SELECT today(), rand64() FROM numbers({rows})")
