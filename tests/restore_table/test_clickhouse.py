"""One table or partition of ClickHouse comes back, beside the live one or in its place, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from blocks.clickhouse_client import ClickHouseClient
from blocks.errors import RestoreFailed, RestoreRefused
from flows.backup.clickhouse import BaseBackup, backup_database, merges_stopped
from flows.backup.manifest import Component, Manifest
from flows.restore import clickhouse as on_clickhouse
from flows.restore_table.undo import describe_undo
from tests.clickhouse.conftest import DEADLINE, Lab
from tests.restore_table.house import House

TRACES = (
    "CREATE TABLE {db}.traces (id UInt64, day Date, note Nullable(String), size UInt64 MATERIALIZED id + 1)"
    " ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(day) ORDER BY id TTL day + INTERVAL 200 YEAR",
    "INSERT INTO {db}.traces SELECT number, toDate('2024-01-01') + number % 60, if(number % 3 = 0, NULL, 'x')"
    " FROM numbers(100)",
    "CREATE TABLE {db}.sums (id UInt64, n UInt64) ENGINE = SummingMergeTree ORDER BY id",
    "CREATE MATERIALIZED VIEW {db}.to_sums TO {db}.sums AS SELECT id, 1 AS n FROM {db}.traces",
    "CREATE MATERIALIZED VIEW {db}.own ENGINE = SummingMergeTree ORDER BY id AS SELECT id, 1 AS n FROM {db}.traces",
    "CREATE VIEW {db}.plain AS SELECT count() AS n FROM {db}.traces",
    "CREATE TABLE {db}.words (word String, n UInt8) ENGINE = MergeTree PARTITION BY (word, n % 2) ORDER BY tuple()",
    "INSERT INTO {db}.words VALUES ('a b', 1), ('a b', 2), ('c', 1)",
)


class Rooms:
    """A ClickHouse database, sets of it, and the stack that has it."""

    def __init__(self, house: House, lab: Lab) -> None:
        self.lab = lab
        self.house = replace(house, stack=replace(house.stack, clickhouse=lab.server))
        self.database = lab.database(*TRACES)
        self.component = f"clickhouse/{self.database}"

    def back_up(self, base: Manifest | None = None) -> Manifest:
        """Make a set of the database, or of its difference to another one."""
        store = self.lab.store
        full = BaseBackup(base.id, self.lab.prefix(base.id), base.clickhouse[0]) if base else None

        def take(prefix: str, set_id: str) -> list[Component]:
            return [backup_database(self.lab.server, self.database, store, prefix, set_id, base=full, deadline=DEADLINE)]

        return self.house.commit(take)

    def sides(self, client: ClickHouseClient) -> list[str]:
        """Databases beside the live one."""
        return [str(n) for (n,) in client.rows(f"SELECT name FROM system.databases WHERE name LIKE '{self.database}\\_\\_%'")]

    def content(self, client: ClickHouseClient, table: str = "traces", database: str = "") -> object:
        """The rows of a table as they are, duplicates and all."""
        return client.rows(f"SELECT * FROM {database or self.database}.{table} ORDER BY ALL")


@pytest.fixture
def rooms(house: House, lab: Lab) -> Rooms:
    """A ClickHouse database on the stack."""
    return Rooms(house, lab)


def drop_sides(rooms: Rooms, client: ClickHouseClient) -> None:
    """Drop what is beside the live database."""
    for name in rooms.sides(client):
        on_clickhouse.drop_database(rooms.lab.server, name)


@pytest.mark.long
def test_rows_are_copied_out_of_a_copy_beside_the_live_table_with_the_sql_that_is_told(rooms: Rooms) -> None:
    with rooms.lab.server.client() as client:
        backed_up, words = rooms.content(client), rooms.content(client, "words")
        manifest = rooms.back_up()
        client.command(f"ALTER TABLE {rooms.database}.traces DELETE WHERE id % 2 = 0 SETTINGS mutations_sync = 2")
        client.command(f"TRUNCATE TABLE {rooms.database}.words")
        live = rooms.content(client)
        whole = rooms.house.restore(manifest, "traces", component=rooms.component)
        part = rooms.house.restore(manifest, f"{rooms.database}.traces", component=rooms.component, partition="202402")
        other = rooms.house.restore(manifest, "words", component=rooms.component)
        assert rooms.content(client) == live
        assert rooms.content(client, "traces", whole.journal.side) == backed_up
        assert client.command(f"SELECT count() FROM {part.journal.side}.traces") == 38
        assert "TTL" not in str(client.command(f"SHOW CREATE TABLE {part.journal.side}.traces"))
        assert merges_stopped(rooms.lab.server, [whole.journal.side, part.journal.side]) == []
        for restored in (part, whole, other):
            for statement in restored.statements:
                client.command(statement.rstrip(";"))
        assert (rooms.content(client), rooms.content(client, "words")) == (backed_up, words)
        for restored in (whole, part, other):
            rooms.house.forget(restored.journal)
        assert rooms.sides(client) == []


def test_a_whole_table_is_exchanged_and_exchanged_back(rooms: Rooms) -> None:
    with rooms.lab.server.client() as client:
        backed_up, sums = rooms.content(client), rooms.content(client, "sums")
        manifest = rooms.back_up()
        client.command(f"TRUNCATE TABLE {rooms.database}.traces")
        client.command(f"INSERT INTO {rooms.database}.traces (id, day) VALUES (1000, '2024-01-01')")
        before = rooms.content(client)
        journal = rooms.house.restore(manifest, "traces", "swap", component=rooms.component).journal
        assert rooms.content(client) == backed_up
        assert rooms.content(client, "traces", journal.place("kept")) == before
        client.command(f"INSERT INTO {rooms.database}.traces (id, day) VALUES (2000, '2024-01-01')")
        found = client.rows(f"SELECT id FROM {rooms.database}.sums WHERE id >= 1000 ORDER BY id")
        assert [row[0] for row in found] == [1000, 2000]  # the view still reads the live table
        assert len(rooms.content(client, "sums")) == len(sums) + 2  # type: ignore[arg-type]  # rows
        told = describe_undo(rooms.house.stack, journal)
        assert f"what {journal.place('kept')} holds is put back (1 rows). What is live now (101 rows)" in told
        rooms.house.undo(journal)
        assert rooms.content(client) == before
        assert client.command(f"SELECT count() FROM {journal.place('undone')}.traces") == 101
        rooms.house.forget(journal)
        assert rooms.sides(client) == []
        assert merges_stopped(rooms.lab.server, [rooms.database]) == []
        client.command(f"DROP TABLE {rooms.database}.words SYNC")
        journal = rooms.house.restore(manifest, "words", "swap", component=rooms.component).journal
        assert client.command(f"SELECT count() FROM {rooms.database}.words") == 3
        rooms.house.undo(journal)
        assert client.command(f"EXISTS {rooms.database}.words") == 0


@pytest.mark.long
def test_a_partition_is_exchanged_and_exchanged_back_from_a_difference_to_another_set(rooms: Rooms) -> None:
    with rooms.lab.server.client() as client:
        full = rooms.back_up()
        client.command(f"INSERT INTO {rooms.database}.traces (id, day) VALUES (500, '2024-02-02')")
        backed_up = rooms.content(client)
        manifest = rooms.back_up(full)
        assert manifest.clickhouse[0].base == full.id
        client.command(f"ALTER TABLE {rooms.database}.traces DROP PARTITION ID '202402'")
        client.command(f"INSERT INTO {rooms.database}.traces (id, day) VALUES (600, '2024-02-03'), (601, '2024-01-03')")
        before = rooms.content(client)
        january = client.rows(f"SELECT * FROM {rooms.database}.traces WHERE day < '2024-02-01' ORDER BY ALL")
        journal = rooms.house.restore(manifest, "traces", "swap", component=rooms.component, partition="202402").journal
        assert client.rows(f"SELECT * FROM {rooms.database}.traces WHERE day < '2024-02-01' ORDER BY ALL") == january
        assert client.command(f"SELECT count() FROM {rooms.database}.traces WHERE day >= '2024-02-01'") == 39
        assert rooms.sides(client) == [journal.place("kept")]
        client.command(f"INSERT INTO {rooms.database}.traces (id, day) VALUES (700, '2024-02-03')")
        rooms.house.undo(journal)
        assert rooms.content(client) == before
        assert client.command(f"SELECT count() FROM {journal.place('undone')}.traces") == 40
        client.command(f"ALTER TABLE {rooms.database}.traces DELETE WHERE id = 601 SETTINGS mutations_sync = 2")
        client.command(f"ALTER TABLE {rooms.database}.traces DROP PARTITION ID '202402'")  # and where live has none
        rooms.house.forget(journal)
        journal = rooms.house.restore(manifest, "traces", "swap", component=rooms.component, partition="202402").journal
        assert rooms.content(client) == backed_up
        rooms.house.undo(journal)
        assert client.command(f"SELECT count() FROM {rooms.database}.traces WHERE day >= '2024-02-01'") == 0
        rooms.house.forget(journal)
        named = rooms.house.restore(manifest, "words", component=rooms.component, partition="('a b',1)")
        assert rooms.content(client, "words", named.journal.side) == [("a b", 1)]
        drop_sides(rooms, client)


@pytest.mark.long
@pytest.mark.parametrize(("partition", "steps"), [("202402", ("move in", "drop")), ("", ("saved",))])
def test_a_swap_or_undo_that_is_killed_is_finished_by_the_next_run(
    rooms: Rooms, partition: str, steps: tuple[str, ...]
) -> None:
    with rooms.lab.server.client() as client:
        backed_up = rooms.content(client)
        manifest = rooms.back_up()
        client.command(f"INSERT INTO {rooms.database}.traces (id, day) VALUES (600, '2024-02-03')")
        before = rooms.content(client)
        for step in steps:
            rooms.house.die(
                lambda own, hook: own.restore(
                    manifest, "traces", "swap", component=rooms.component, partition=partition, hook=hook
                ),
                step,
            )
            (journal,) = rooms.house.settle()
            assert (journal.phase, rooms.content(client)) == ("done", backed_up), step
            assert rooms.sides(client) == [journal.place("kept")]
            done = journal
            rooms.house.die(lambda own, hook, done=done: own.undo(done, hook), step)  # type: ignore[misc]  # bound at once
            (journal,) = rooms.house.settle()
            assert (journal.phase, rooms.content(client)) == ("undone", before), step
            rooms.house.forget(journal)
        rooms.house.die(
            lambda own, hook: own.restore(manifest, "traces", "swap", component=rooms.component, hook=hook), "staged"
        )
        (journal,) = rooms.house.settle()
        assert (journal.phase, rooms.content(client), rooms.sides(client)) == ("given up", before, [])


def test_what_does_not_fit_is_refused_by_name_and_nothing_is_changed(rooms: Rooms) -> None:
    with rooms.lab.server.client() as client:
        manifest = rooms.back_up()
        client.command(f"ALTER TABLE {rooms.database}.traces ADD COLUMN fresh UInt8")
        live = rooms.content(client)
        for partition in ("", "202402"):
            with pytest.raises(RestoreFailed, match=r"column fresh is UInt8 in the live table and missing in the backup"):
                rooms.house.restore(manifest, "traces", "swap", component=rooms.component, partition=partition)
        assert (rooms.content(client), rooms.sides(client)) == (live, [])
        for table, partition, message in (
            ("trace", "", "no table trace; near names are: traces"),
            ("plain", "", r"plain \(View\) holds no rows of its own"),
            ("to_sums", "", r"to_sums \(MaterializedView\) holds no rows of its own"),
            ("own", "", "keeps its rows in a hidden table"),
            ("traces", "202403", "the set has no partition '202403'; it has, for example: .*202402"),
        ):
            with pytest.raises(RestoreRefused, match=message):
                rooms.house.restore(manifest, table, component=rooms.component, partition=partition)
        assert rooms.sides(client) == []
