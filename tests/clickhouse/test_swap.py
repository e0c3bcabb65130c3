"""A restored database takes the live one's place table by table, and can be taken back, whatever dies in between."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blocks.clickhouse_client import ClickHouseClient, StatementFailed
from blocks.errors import RestoreFailed, RestoreRefused, ServiceError
from flows.backup.clickhouse import BaseBackup, merges_stopped
from flows.restore import clickhouse as on_clickhouse
from flows.restore.journal import Step
from shared.engines.clickhouse import ClickHouseEngine
from tests.clickhouse.conftest import Lab

VIEWS = (
    "CREATE TABLE {db}.source (id UInt64, v UInt64) ENGINE = MergeTree PARTITION BY id % 2 ORDER BY id",
    "CREATE TABLE {db}.target (id UInt64, v UInt64) ENGINE = SummingMergeTree ORDER BY id",
    "CREATE TABLE {db}.sink (id UInt64) ENGINE = Null",
    "CREATE MATERIALIZED VIEW {db}.to_target TO {db}.target AS SELECT id, sum(v) AS v FROM {db}.source GROUP BY id",
    "CREATE MATERIALIZED VIEW {db}.own ENGINE = SummingMergeTree PARTITION BY bucket ORDER BY bucket"
    " AS SELECT id % 3 AS bucket, sum(v) AS total FROM {db}.source GROUP BY bucket",
    "CREATE VIEW {db}.plain AS SELECT sum(v) AS total FROM {db}.source",
    "CREATE VIEW {db}.above AS SELECT total FROM {db}.plain",
    "CREATE DICTIONARY {db}.names (id UInt64, v UInt64) PRIMARY KEY id"
    " SOURCE(CLICKHOUSE(DB '{db}' TABLE 'source')) LAYOUT(FLAT()) LIFETIME(0)",
    "INSERT INTO {db}.source SELECT number, number FROM numbers(100)",
)

SINCE = (
    "TRUNCATE TABLE {db}.source",
    "INSERT INTO {db}.source VALUES (1, 1000)",
    "DROP TABLE {db}.target",
    "DROP TABLE {db}.sink",
    "CREATE OR REPLACE VIEW {db}.plain AS SELECT 7 AS total",
    "DROP VIEW {db}.above",
    "CREATE TABLE {db}.newer (id UInt64) ENGINE = MergeTree ORDER BY id",
)
"""What happened to the live database after the backup: rows changed, tables and views dropped, changed and made."""


class Journal:
    """Keeps what was saved, as the store would, and dies where it is told to."""

    def __init__(self, step: Step, before_save: Callable[[int], None] = lambda _: None) -> None:
        self._working = step
        self._before_save = before_save
        self.saved = step.model_dump_json()
        self.saves = 0

    def save(self) -> None:
        """Write the journal."""
        self.saves += 1
        self._before_save(self.saves)
        self.saved = self._working.model_dump_json()

    def read(self) -> Step:
        """What the next process finds."""
        return Step.model_validate_json(self.saved)


class Died(Exception):
    """The process is gone."""


def staged(lab: Lab, taken: BaseBackup, *, existed: bool = True) -> Step:
    """Restore a set beside the live database."""
    copy, kept = lab.name("__restore_aaaaaa"), lab.name("__kept_aaaaaa")
    return Step(kind="clickhouse", live=taken.component.name, staged=lab.restore(taken, copy), kept=kept, existed=existed)


def content(client: ClickHouseClient, database: str) -> dict[str, object]:
    """Everything a person can see in a database; None for a view whose table is gone."""
    names = client.rows(f"SELECT name, engine FROM system.tables WHERE database = '{database}' AND name NOT LIKE '.inner%'")
    found: dict[str, object] = {}
    for name, engine in names:
        if engine == "Dictionary":
            client.command(f"SYSTEM RELOAD DICTIONARY {database}.{name}")
        try:
            found[name] = None if engine == "Null" else client.rows(f"SELECT * FROM {database}.{name} ORDER BY ALL")
        except StatementFailed:
            found[name] = None
    return found


def swap(lab: Lab, taken: BaseBackup, journal: Journal, step: Step) -> None:
    """Swap the staged database in."""
    on_clickhouse.swap_databases(lab.server, taken.component, step, journal.save)


def test_the_live_database_becomes_what_the_manifest_says_and_undo_takes_it_back(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*VIEWS)
    backed_up = content(client, name)
    taken = lab.backup(name)
    for statement in SINCE:
        client.command(statement.replace("{db}", name))
    before = content(client, name)
    step = staged(lab, taken)
    assert on_clickhouse.tables_not_in(lab.server, taken.component) == ["newer"]
    journal = Journal(step)

    swap(lab, taken, journal, step)

    found = on_clickhouse.compare(lab.server, taken.component, name, merged_since=True)
    assert [str(difference.where) for difference in found] == ["table newer"]
    assert content(client, name) == {**backed_up, "newer": []}
    assert merges_stopped(lab.server, [name, step.kept]) == []
    assert not on_clickhouse.database_exists(lab.server, step.staged)
    assert client.command(f"SELECT sum(v) FROM {step.kept}.source") == 1000
    assert client.command(f"SELECT dictGet('{name}.names', 'v', 77)") == 77

    client.command(f"INSERT INTO {name}.source VALUES (3, 5)")  # written after the restore: every view sees it
    assert client.command(f"SELECT sum(v) FROM {name}.target") == 4955
    assert client.command(f"SELECT sum(total) FROM {name}.own") == 4955
    assert client.command(f"SELECT total FROM {name}.above") == 4955
    described = on_clickhouse.describe_undo(lab.server, step)
    assert "source: 101 rows now, 100 were restored, 1 come back" in described
    assert "target:" in described

    undone = lab.name("__undone_aaaaaa")
    on_clickhouse.undo_swap(lab.server, step, undone, journal.save)

    assert content(client, name) == before
    assert merges_stopped(lab.server, [name, undone]) == []
    assert not on_clickhouse.database_exists(lab.server, step.kept)
    assert client.command(f"SELECT sum(v) FROM {undone}.source") == 4955
    assert client.command(f"SELECT sum(total) FROM {undone}.`own (restored rows)`") == 4955


@pytest.mark.long
def test_a_swap_that_dies_at_any_journal_entry_is_finished_by_the_next_process(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*VIEWS)
    backed_up = content(client, name)
    taken = lab.backup(name)
    died_at = 0
    while True:
        died_at += 1
        for statement in ("TRUNCATE TABLE {db}.source", "TRUNCATE TABLE {db}.target", "DROP VIEW IF EXISTS {db}.plain"):
            client.command(statement.replace("{db}", name))
        step = staged(lab, taken)

        def die(number: int, last: int = died_at) -> None:
            if number == last:
                raise Died

        journal = Journal(step, die)
        try:
            swap(lab, taken, journal, step)
        except Died:
            resumed = journal.read()
            swap(lab, taken, Journal(resumed), resumed)
            assert content(client, name) == backed_up, died_at
        else:
            break
        finally:
            on_clickhouse.drop_database(lab.server, step.kept)
    assert died_at > 6


@pytest.mark.long
def test_an_undo_that_dies_at_any_journal_entry_is_finished_by_the_next_process(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*VIEWS)
    taken = lab.backup(name)
    died_at = 0
    while True:
        died_at += 1
        client.command(f"INSERT INTO {name}.source VALUES ({1000 + died_at}, 1)")
        client.command(f"CREATE OR REPLACE VIEW {name}.plain AS SELECT {died_at} AS total")
        before = content(client, name)
        step = staged(lab, taken)
        swap(lab, taken, Journal(step), step)

        def die(number: int, last: int = died_at) -> None:
            if number == last:
                raise Died

        journal, undone = Journal(step, die), lab.name("__undone_aaaaaa")
        try:
            on_clickhouse.undo_swap(lab.server, step, undone, journal.save)
        except Died:
            resumed = journal.read()
            on_clickhouse.undo_swap(lab.server, resumed, undone, Journal(resumed).save)
        else:
            break
        finally:
            on_clickhouse.drop_database(lab.server, undone)
        assert content(client, name) == before, died_at
    assert died_at > 4


@pytest.mark.long
def test_clickhouse_killed_between_two_exchanges(lab: Lab, clickhouse_engine: ClickHouseEngine) -> None:
    name = lab.database(*VIEWS)
    with lab.server.client() as client:
        backed_up = content(client, name)
        taken = lab.backup(name)
        client.command(f"TRUNCATE TABLE {name}.source")
        client.command(f"TRUNCATE TABLE {name}.target")
        step = staged(lab, taken)

    def kill(number: int) -> None:
        if number == 2:
            clickhouse_engine.kill()

    journal = Journal(step, kill)
    with pytest.raises(ServiceError):
        swap(lab, taken, journal, step)
    clickhouse_engine.start()
    resumed = journal.read()
    swap(lab, taken, Journal(resumed), resumed)
    with lab.server.client() as client:
        assert content(client, name) == backed_up
    assert merges_stopped(lab.server, [name, step.kept]) == []


def test_a_database_that_is_gone_comes_back_whole_and_undo_puts_it_aside(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*VIEWS)
    backed_up = content(client, name)
    taken = lab.backup(name)
    on_clickhouse.drop_database(lab.server, name)
    step = staged(lab, taken, existed=False)
    journal = Journal(step)

    swap(lab, taken, journal, step)

    assert on_clickhouse.compare(lab.server, taken.component, name, merged_since=True) == []
    assert content(client, name) == backed_up
    assert not on_clickhouse.database_exists(lab.server, step.kept)
    assert "did not exist before" in on_clickhouse.describe_undo(lab.server, step)

    undone = lab.name("__undone_aaaaaa")
    for _ in range(2):  # the second finds it done
        on_clickhouse.undo_swap(lab.server, step, undone, journal.save)
    assert not on_clickhouse.database_exists(lab.server, name)
    assert client.command(f"SELECT sum(v) FROM {undone}.source") == 4950
    assert client.command(f"SELECT sum(total) FROM {undone}.`own (restored rows)`") == 4950


def test_a_second_swap_changes_nothing(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*VIEWS)
    taken = lab.backup(name)
    client.command(f"TRUNCATE TABLE {name}.source")
    step = staged(lab, taken)
    journal = Journal(step)
    for _ in range(2):
        swap(lab, taken, journal, step)
        assert client.command(f"SELECT count() FROM {name}.source") == 100
        assert client.command(f"SELECT count() FROM {step.kept}.source") == 0


def test_what_cannot_be_swapped_is_refused_before_anything_is_touched(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*VIEWS)
    taken = lab.backup(name)
    step = staged(lab, taken)
    client.command(f"CREATE DATABASE {step.kept}")
    with pytest.raises(RestoreRefused, match="__kept_aaaaaa exists already"):
        swap(lab, taken, Journal(step), step)
    on_clickhouse.drop_database(lab.server, step.kept)
    on_clickhouse.drop_database(lab.server, step.staged)
    with pytest.raises(RestoreFailed, match=r"there is no \S+ to swap in; the live data was not touched"):
        swap(lab, taken, Journal(step), step)
    assert client.command(f"SELECT count() FROM {name}.source") == 100


def test_a_table_that_somebody_moved_away_is_an_error_and_not_a_second_exchange(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*VIEWS)
    taken = lab.backup(name)
    step = staged(lab, taken)

    def die(number: int) -> None:
        if number == 2:
            raise Died

    journal = Journal(step, die)
    with pytest.raises(Died):
        swap(lab, taken, journal, step)
    client.command(f"DROP TABLE {step.staged}.target SYNC")
    resumed = journal.read()
    with pytest.raises(RestoreFailed, match="the restored table target is neither there nor in"):
        swap(lab, taken, Journal(resumed), resumed)


def test_a_copy_is_not_restored_over_something(lab: Lab) -> None:
    name = lab.database(*VIEWS)
    taken = lab.backup(name)
    with pytest.raises(RestoreRefused, match="exists already"):
        lab.restore(taken, name)
    assert not on_clickhouse.is_empty(lab.server, name)
    assert on_clickhouse.database_bytes(lab.server, name) > 0
