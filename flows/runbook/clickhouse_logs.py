"""ClickHouse's logs about itself: how large each is, and making them small (facts: apps.md 3.2, 6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, qualified
from flows.runbook.frame import Action

__all__ = ["KEPT", "Cut", "Log", "ShortenKept", "bytes_of", "largest", "read_logs"]

KEPT = frozenset({"query_log", "query_views_log", "part_log", "crash_log", "error_log", "backup_log"})
"""Logs that somebody reads: Langfuse 4 the queries, an operator what broke and which parts came and went."""

_ROTATED = re.compile(r"_log_\d+$")
_NO_LIMIT = {"max_table_size_to_drop": 0, "max_partition_size_to_drop": 0}
"""ClickHouse refuses to truncate a table of more than 50 GB, as a protection against slips of the hand."""


@dataclass(frozen=True)
class Log:
    """One table.

    Attributes:
        limited: it has a TTL. dated: it has a column `event_date`, so that a TTL is possible.
    """

    name: str
    bytes: int
    limited: bool
    dated: bool

    @property
    def rotated(self) -> bool:
        """A copy that ClickHouse put aside when the log's columns changed; nobody writes to it or reads it."""
        return bool(_ROTATED.search(self.name))

    @property
    def kept(self) -> bool:
        """Somebody reads it."""
        return self.name in KEPT


def read_logs(client: ClickHouseClient) -> list[Log]:
    """Read all logs, the largest first."""
    return [Log(str(name), int(size), bool(limited), bool(dated)) for name, size, limited, dated in client.rows(_LOGS)]


def bytes_of(client: ClickHouseClient, names: Sequence[str]) -> int:
    """Add up what tables of the system's database take on disk."""
    found = client.row(_BYTES, {"names": list(names)})
    return int(found[0]) if found else 0


def largest(client: ClickHouseClient) -> list[tuple[str, int]]:
    """Name the largest tables of all databases, with their bytes."""
    return [(f"{database}.{table}", int(size)) for database, table, size in client.rows(_LARGEST)]


@dataclass(frozen=True)
class Cut(Action):
    """Empties logs that nobody reads, and has those that are still written keep a few days only."""

    server: ClickHouseServer
    logs: tuple[Log, ...]
    days: int

    def describe(self) -> str:
        """As in `Action`."""
        named = ", ".join(f"system.{one.name} ({one.bytes / 1e6:.1f} MB)" for one in self.logs)
        return f"empty {named}" + (f"; from now on they keep {self.days} days" if self._to_limit() else "")

    def do(self) -> str:
        """As in `Action`."""
        names = [one.name for one in self.logs]
        with self.server.client(timeout=600) as client:
            before = bytes_of(client, names)
            for name in names:
                client.command(f"TRUNCATE TABLE IF EXISTS {qualified('system', name)} SYNC", _NO_LIMIT)
            for name in self._to_limit():
                limit(client, name, self.days, materialize=False)
            after = bytes_of(client, names)
        return f"{before / 1e6:.1f} MB, then {after / 1e6:.1f} MB"

    def _to_limit(self) -> list[str]:
        return [one.name for one in self.logs if one.dated and not one.limited and not one.rotated]


@dataclass(frozen=True)
class ShortenKept(Action):
    """Has logs that somebody reads keep a few days only; what is older goes."""

    server: ClickHouseServer
    logs: tuple[Log, ...]
    days: int

    def describe(self) -> str:
        """As in `Action`."""
        named = ", ".join(f"system.{one.name} ({one.bytes / 1e6:.1f} MB)" for one in self.logs)
        return f"have {named} keep {self.days} days; what is older is deleted"

    def do(self) -> str:
        """As in `Action`."""
        names = [one.name for one in self.logs]
        with self.server.client(timeout=1800) as client:
            before = bytes_of(client, names)
            for name in names:
                limit(client, name, self.days, materialize=True)
            after = bytes_of(client, names)
        return f"{before / 1e6:.1f} MB, then {after / 1e6:.1f} MB"


def limit(client: ClickHouseClient, name: str, days: int, *, materialize: bool) -> None:
    """Give a log a TTL.

    Args:
        materialize: also delete what is older than that already, and wait for it.
    """
    table = qualified("system", name)
    settings = {"materialize_ttl_after_modify": 0, "alter_sync": 1}
    client.command(f"ALTER TABLE {table} MODIFY TTL event_date + INTERVAL {int(days)} DAY", settings)
    if materialize:
        client.command(f"ALTER TABLE {table} MATERIALIZE TTL", {"mutations_sync": 1})


_LOGS = """
SELECT t.name, p.bytes, t.engine_full LIKE '% TTL %', has(c.columns, 'event_date')
FROM system.tables AS t
INNER JOIN (
  SELECT table, sum(bytes_on_disk) AS bytes FROM system.parts WHERE database = 'system' AND table LIKE '%\\_log%' GROUP BY table
) AS p ON p.table = t.name
INNER JOIN (
  SELECT table, groupArray(name) AS columns FROM system.columns WHERE database = 'system' GROUP BY table
) AS c ON c.table = t.name
WHERE t.database = 'system' ORDER BY p.bytes DESC
"""
_BYTES = "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'system' AND has({names:Array(String)}, table)"
_LARGEST = """
SELECT database, table, sum(bytes_on_disk) AS bytes FROM system.parts WHERE active
GROUP BY database, table ORDER BY bytes DESC LIMIT 5
"""
