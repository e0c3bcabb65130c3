"""What is backed up comes back: every type, every engine, every definition."""

from __future__ import annotations

from pathlib import Path

import pytest

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient
from flows.backup.clickhouse import BaseBackup
from flows.backup.clickhouse_files import load_index
from flows.restore import clickhouse as on_clickhouse
from shared.engines.clickhouse import ClickHouseEngine
from shared.sandbox import hard_clickhouse, langfuse_clickhouse
from tests.clickhouse.conftest import WITH_NULLS, Lab, server_of


@pytest.fixture(scope="module")
def hard(module_lab: Lab, server: ClickHouseServer) -> BaseBackup:
    """A full backup of the database with everything in it."""
    name = module_lab.name()
    with server.client() as client:
        hard_clickhouse.create(client, name)
    return module_lab.backup(name)


@pytest.fixture(scope="module")
def copy(module_lab: Lab, hard: BaseBackup) -> str:
    """That backup, restored beside the live one."""
    return module_lab.restore(hard)


def test_a_database_with_everything_in_it_comes_back_equal(server: ClickHouseServer, hard: BaseBackup, copy: str) -> None:
    assert on_clickhouse.compare(server, hard.component, copy) == []


def test_every_table_with_rows_is_compared_by_content(hard: BaseBackup) -> None:
    proven = {table.name: table.content.rows for table in hard.component.tables if table.content}
    assert proven == {
        hard_clickhouse.ODD_TABLE: 4,
        "empty": 0,
        "expired": 100,
        "log": 1000,
        "memory": 10,
        "own_rows": proven["own_rows"],
        "states": 3,
        "sums": proven["sums"],
        "types": 3463,
        "versions": 80,
        "wide": 3500,
    }
    assert proven["own_rows"] >= 2
    assert proven["sums"] >= 3
    assert all(table.content.method == "full" for table in hard.component.tables if table.content)


def test_what_a_backup_cannot_hold_is_said(hard: BaseBackup) -> None:
    assert hard.component.not_taken == ["table joined: 1 rows; BACKUP takes only the definition of a Join table"]


def test_rows_that_their_ttl_would_drop_are_still_there_after_a_restore(client: ClickHouseClient, copy: str) -> None:
    assert client.command(f"SELECT count() FROM {copy}.expired") == 100


def test_a_scratch_engine_of_another_server_holds_an_equal_copy(lab: Lab, hard: BaseBackup, tmp_path: Path) -> None:
    engine = ClickHouseEngine(tmp_path / "scratch")
    engine.start()
    try:
        assert lab.drill(hard, server=server_of(engine)) == []
    finally:
        engine.stop()


def test_a_langfuse_shaped_database_comes_back_equal_and_its_difference_is_small(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.name()
    langfuse_clickhouse.create(client, name)
    langfuse_clickhouse.load(client, name, rows=40_000)
    full = lab.backup(name)
    added = langfuse_clickhouse.write_more(client, name, share=0.01)
    difference = lab.backup(name, base=full)
    assert difference.component.base == full.set_id
    assert difference.component.bytes < full.component.bytes * 0.1
    rows = [
        sum(table.content.rows for table in one.component.tables if table.content and table.name != "project_environments")
        for one in (full, difference)
    ]
    assert rows[1] == rows[0] + added
    assert lab.drill(full) == []
    assert lab.drill(difference) == []


def test_a_difference_is_to_the_full_backup_and_never_to_another_difference(lab: Lab) -> None:
    name = lab.database(*WITH_NULLS)
    full = lab.backup(name)
    taken = [full]
    with lab.server.client() as client:
        for number in range(2):
            client.command(f"INSERT INTO {name}.t SELECT 10000 + number, NULL, {number} FROM numbers(100)")
            taken.append(lab.backup(name, base=full))
    lab.store.remove_below(taken[1].prefix)
    assert taken[2].component.base == full.set_id
    assert lab.drill(taken[2]) == []


def test_a_difference_reads_only_parts_that_its_base_has_not_read(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*WITH_NULLS)
    full = lab.backup(name)
    client.command(f"INSERT INTO {name}.t VALUES (1, NULL, NULL)")
    difference = lab.backup(name, base=full)
    client.command("SYSTEM FLUSH LOGS")
    read = client.rows(
        "SELECT query FROM system.query_log WHERE type = 'QueryFinish' AND query LIKE {like:String} "
        "AND query LIKE '%cityHash64%' ORDER BY event_time_microseconds DESC LIMIT 1",
        {"like": f"%{name}%`t`%_part IN%"},
    )
    assert "all_2_2_0" in read[0][0]
    assert "all_1_1_0" not in read[0][0]
    assert lab.drill(difference) == []


def test_a_full_backup_need_not_read_what_the_last_one_has_read(lab: Lab) -> None:
    name = lab.database(*WITH_NULLS)
    first = lab.backup(name)
    second = lab.backup(name, known=first)
    assert second.component.base is None
    indexes = [load_index(lab.store, one.prefix, one.component.index).tables for one in (first, second)]
    assert indexes[0] == indexes[1]
    assert lab.drill(second) == []


def test_an_altered_table_is_read_anew(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*WITH_NULLS)
    full = lab.backup(name)
    client.command(f"ALTER TABLE {name}.t ADD COLUMN added String DEFAULT toString(id)")
    difference = lab.backup(name, base=full)
    assert lab.drill(difference) == []


def test_a_database_with_an_odd_name_comes_back(lab: Lab, client: ClickHouseClient) -> None:
    name = f"odd {lab.name()} %20/é"
    client.command(f"CREATE DATABASE `{name}`")
    client.command(f"CREATE TABLE `{name}`.t (id UInt64) ENGINE = MergeTree ORDER BY id")
    client.command(f"CREATE VIEW `{name}`.v AS SELECT id FROM `{name}`.t")
    client.command(f"INSERT INTO `{name}`.t VALUES (1)")
    try:
        full = lab.backup(name)
        client.command(f"INSERT INTO `{name}`.t VALUES (2)")
        assert lab.drill(lab.backup(name, base=full)) == []
    finally:
        client.command(f"DROP DATABASE `{name}`")


def test_one_table_can_be_restored_alone(lab: Lab) -> None:
    taken = lab.backup(lab.database(*WITH_NULLS))
    copy = lab.name("__restore_bbbbbb")
    on_clickhouse.restore_database(lab.server, taken.component, lab.store, taken.prefix, None, copy, tables=["t"])
    assert on_clickhouse.compare(lab.server, taken.component, copy, tables=["t"]) == []
    assert [str(found) for found in on_clickhouse.compare(lab.server, taken.component, copy)] == [
        f"clickhouse {taken.component.name}: table other: expected MergeTree, found nothing"
    ]


def test_an_empty_database_is_backed_up_too(lab: Lab) -> None:
    assert lab.drill(lab.backup(lab.database())) == []


def test_mutations_that_wait_are_recorded_because_restore_forgets_them(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*WITH_NULLS, "SYSTEM STOP MERGES {db}.t")
    client.command(f"ALTER TABLE {name}.t UPDATE note = 'x' WHERE id = 1", {"mutations_sync": 0})
    taken = lab.backup(name)
    pending = {table.name: table.pending_mutations for table in taken.component.tables}
    assert pending == {"t": ["(UPDATE note = 'x' WHERE id = 1)"], "other": []}
    assert lab.drill(taken) == []


def test_the_overlay_database_of_an_embedded_engine_comes_back_equal(lab: Lab, tmp_path: Path) -> None:
    engine = ClickHouseEngine(tmp_path / "overlay")
    engine.start()
    try:
        server = server_of(engine)
        with server.client() as client:
            client.command("CREATE TABLE default.a (id UInt64) ENGINE = MergeTree ORDER BY id")
            client.command("CREATE TABLE default.b (id UInt64) ENGINE = MergeTree ORDER BY id")
            client.command("CREATE MATERIALIZED VIEW default.a_to_b TO default.b AS SELECT id FROM default.a")
            client.command("INSERT INTO default.a SELECT number FROM numbers(10)")
        taken = lab.backup("default", server=server)
        assert lab.drill(taken, server=server) == []
    finally:
        engine.stop()
