"""Parts, merges and mutations of ClickHouse, as a runbook sees and moves them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, literal, qualified
from flows.backup.clickhouse_merges import merges_stopped, start_all_merges
from flows.runbook.frame import Action

__all__ = [
    "KillMutations",
    "Merge",
    "Mutation",
    "Partition",
    "StartMerges",
    "held_tables",
    "read_mutations",
    "read_partitions",
]

_MOST = 20
"""Partitions that one run looks after."""
_QUIET = {"optimize_throw_if_noop": 0}


@dataclass(frozen=True)
class Partition:
    """A partition and the number of its active parts; `id` as ClickHouse calls it."""

    database: str
    table: str
    id: str
    parts: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.parts} in {self.database}.{self.table} {self.id}"


@dataclass(frozen=True)
class Mutation:
    """A mutation that has not ended. why: it failed when it was last tried, without the values that it failed on; or empty."""

    database: str
    table: str
    id: str
    command: str
    why: str

    @property
    def words(self) -> str:
        """For people, without the values of the statement."""
        return f"{self.database}.{self.table} {self.id} ({self.command}): {self.why}"


def read_partitions(client: ClickHouseClient, more_than: int) -> list[Partition]:
    """Read the partitions with more active parts than so many, the most crowded first."""
    rows = client.rows(_PARTITIONS, {"most": more_than, "limit": _MOST})
    return [Partition(str(database), str(table), str(name), int(parts)) for database, table, name, parts in rows]


def read_mutations(client: ClickHouseClient) -> list[Mutation]:
    """Read the mutations that have not ended, oldest first."""
    return [Mutation(*(str(value) for value in row)) for row in client.rows(_MUTATIONS)]


def held_tables(server: ClickHouseServer, tables: Collection[tuple[str, str]]) -> list[str]:
    """Name those tables whose merges are stopped, as `database.table`."""
    stopped = merges_stopped(server, sorted({database for database, _ in tables})) if tables else []
    return [name for name in stopped if name in {f"{database}.{table}" for database, table in tables}]


@dataclass(frozen=True)
class StartMerges(Action):
    """Starts merges that were stopped, in all tables of the databases concerned."""

    server: ClickHouseServer
    tables: tuple[str, ...]

    def describe(self) -> str:
        """As in `Action`."""
        return f"start the merges of {', '.join(self.tables)} again"

    def do(self) -> str:
        """As in `Action`."""
        databases = sorted({name.partition(".")[0] for name in self.tables})
        start_all_merges(self.server, databases)
        left = [name for name in merges_stopped(self.server, databases) if name in self.tables]
        return f"they run, but those of {', '.join(left)}" if left else "they run"


@dataclass(frozen=True)
class Merge(Action):
    """Asks for merges, one at a time, until a partition has few parts or nothing moves any more."""

    server: ClickHouseServer
    partitions: tuple[Partition, ...]
    few: int
    rounds: int

    def describe(self) -> str:
        """As in `Action`."""
        return f"merge parts: {', '.join(one.words for one in self.partitions)}, down to {self.few}"

    def do(self) -> str:
        """As in `Action`."""
        with self.server.client(timeout=3600) as client:
            return ", ".join(f"{one.words}, then {self._merge(client, one)}" for one in self.partitions)

    def _merge(self, client: ClickHouseClient, one: Partition) -> int:
        parts = _count(client, one)
        for _ in range(self.rounds):
            if parts <= self.few:
                break
            table = qualified(one.database, one.table)
            client.command(f"OPTIMIZE TABLE {table} PARTITION ID {literal(one.id)}", _QUIET)
            before, parts = parts, _count(client, one)
            if parts >= before:
                break
        return parts


@dataclass(frozen=True)
class KillMutations(Action):
    """Kills mutations that fail: the rows that they would have changed stay as they are."""

    server: ClickHouseServer
    mutations: tuple[Mutation, ...]

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "what they were to change or delete stays as it is: whoever wanted it has to ask for it again"

    def describe(self) -> str:
        """As in `Action`."""
        return f"kill {len(self.mutations)} mutations that fail: {'; '.join(one.words for one in self.mutations)}"

    def do(self) -> str:
        """As in `Action`."""
        with self.server.client(timeout=600) as client:
            for one in self.mutations:
                where = (
                    f"database = {literal(one.database)} AND table = {literal(one.table)} AND mutation_id = {literal(one.id)}"
                )
                client.command(f"KILL MUTATION WHERE {where} SYNC")
            left = {one.id for one in read_mutations(client)} & {one.id for one in self.mutations}
        return f"{len(self.mutations) - len(left)} killed" + (f", {', '.join(sorted(left))} are still there" if left else "")


def _count(client: ClickHouseClient, one: Partition) -> int:
    found = client.row(_PARTS, {"database": one.database, "table": one.table, "id": one.id})
    return int(found[0]) if found else 0


_PARTITIONS = """
SELECT database, table, partition_id, count() AS parts FROM system.parts
WHERE active AND database != 'system' GROUP BY database, table, partition_id
HAVING parts > {most:UInt64} ORDER BY parts DESC LIMIT {limit:UInt64}
"""
_PARTS = """
SELECT count() FROM system.parts
WHERE active AND database = {database:String} AND table = {table:String} AND partition_id = {id:String}
"""
_MUTATIONS = """
SELECT database, table, mutation_id, extract(command, '[A-Z]+'),
  concat(extract(latest_fail_reason, '^Code: [0-9]+'), extract(latest_fail_reason, ' \\([A-Z_]{4,}\\)'))
FROM system.mutations WHERE NOT is_done ORDER BY create_time LIMIT 100
"""
