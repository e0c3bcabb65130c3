"""One table of a Postgres database comes back, beside the live one or in its place, and nothing else changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from blocks.errors import IntegrityError, RestoreFailed, RestoreRefused, SettingsError
from flows.backup.manifest import Manifest
from flows.catalogue import set_prefix
from flows.restore_table.plan import describe, plan_table
from flows.restore_table.undo import describe_undo, find
from shared.sandbox.hard_postgres import create_hard_database
from tests.restore_table.house import House

LOGS = 'public."Spend Logs"'


def of(manifest: Manifest, table: str) -> str:
    """Rows and checksum of a table in the set."""
    found = next(content for content in manifest.postgres[0].tables if content.name == table)
    return f"{found.rows} {found.checksum}"


def without(definitions: dict[str, str], *schemas: str) -> dict[str, str]:
    """Definitions but those of what restores have made."""
    return {key: text for key, text in definitions.items() if not any(schema in key for schema in schemas)}


def test_rows_are_copied_out_of_a_copy_beside_the_live_table_with_the_sql_that_is_told(
    house: House, backed_up: Manifest
) -> None:
    house.execute(f"DELETE FROM {LOGS} WHERE id = 40", f"UPDATE {LOGS} SET amount = 7 WHERE id = 1")
    definitions, contents = house.definitions(), house.contents()
    first = house.restore(backed_up, 'public."Spend Logs"')
    second = house.restore(backed_up, "Spend Logs")
    places = [restored.journal.place("restored") for restored in (first, second)]
    assert sorted(places) == house.schemas()
    assert without(house.definitions(), *places) == definitions
    assert {key: value for key, value in house.contents().items() if not key.startswith("restored_")} == contents
    for place in places:
        assert house.contents()[f'{place}."Spend Logs"'] == of(backed_up, LOGS)
        made = {key: text for key, text in house.definitions().items() if place in key}
        assert made[f'table {place}."Spend Logs"'].startswith("owner litellm")
        assert f'index {place}."by team"' in made
        assert f'constraint "Spend Logs_pkey" on {place}."Spend Logs"' in made
        assert f'constraint "Spend Logs_amount_check" on {place}."Spend Logs"' in made
        assert not [key for key in made if "fkey" in key or key.startswith(("trigger", "policy", "sequence"))]
    look, copy = first.statements
    house.execute(look, copy)
    assert house.value(f"SELECT count(*) FROM {LOGS}") == 40
    assert house.value(f"SELECT amount FROM {LOGS} WHERE id = 1") == 7  # what is there stays
    for restored in (first, second):
        house.forget(restored.journal)
    assert (house.schemas(), house.databases()) == ([], [])


SINCE = (
    f"DELETE FROM {LOGS} WHERE id BETWEEN 11 AND 15",
    f"UPDATE {LOGS} SET amount = 7, note = NULL WHERE id = 1",
    f"INSERT INTO {LOGS} (team, parent, amount) VALUES (1, NULL, 99999), (2, NULL, 99998)",
)
"""What happened to the table after the backup; nothing refers to the rows that came."""


def test_a_swap_replaces_the_rows_alone_and_undo_brings_back_exactly_those_there_were(
    house: House, backed_up: Manifest
) -> None:
    house.execute(*SINCE)
    definitions, contents = house.definitions(), house.contents()
    journal = house.restore(backed_up, LOGS, "swap").journal
    kept, undone = journal.place("kept"), journal.place("undone")
    assert house.schemas() == [kept]
    assert without(house.definitions(), kept) == definitions
    assert house.contents() == contents | {LOGS: of(backed_up, LOGS), f'{kept}."Spend Logs"': contents[LOGS]}
    assert house.value("SELECT sum(amount) FROM totals") == 820
    assert house.value(f"SELECT sum(twice) FROM {LOGS}") == 1640
    assert house.value(f"INSERT INTO {LOGS} (amount) VALUES (1) RETURNING id") == 43  # the sequence was not moved back

    with_new = house.contents()[LOGS]
    told = describe_undo(house.stack, journal)
    assert f"what {kept} holds is put back (37 rows). What is live now (41 rows)" in told
    house.undo(journal)
    assert house.schemas() == [undone]
    assert without(house.definitions(), undone) == definitions
    found = house.contents()
    assert (found[LOGS], found[f'{undone}."Spend Logs"']) == (contents[LOGS], with_new)
    house.forget(journal)
    assert (house.schemas(), house.definitions()) == ([], definitions)


def test_sequences_are_moved_past_the_restored_rows(house: House, backed_up: Manifest) -> None:
    house.execute(
        "TRUNCATE receipt",
        f"DELETE FROM {LOGS}",
        """ALTER TABLE "Spend Logs" ALTER id RESTART WITH 3""",
        """SELECT setval('"Spend Logs_legacy_seq"', 5)""",
    )
    house.restore(backed_up, LOGS, "swap")
    assert house.value(f"INSERT INTO {LOGS} (amount) VALUES (1) RETURNING id") == 41
    assert house.value(f"SELECT legacy FROM {LOGS} WHERE id = 41") == 41


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            (f"INSERT INTO {LOGS} (amount) VALUES (1), (2)", "INSERT INTO receipt VALUES (77, 41), (78, 41), (79, 42)"),
            r"3 rows of public.receipt would refer to nothing in .* \(receipt_log_fkey; for example log = 41\)",
        ),
        (
            (f"UPDATE {LOGS} SET team = 1", "DELETE FROM team WHERE id = 2"),
            r"20 rows of .* would refer to nothing in public.team \(Spend Logs_team_fkey; for example team = 2\)",
        ),
        (
            (f"DELETE FROM {LOGS} WHERE id = 40", 'ALTER TABLE "Spend Logs" ADD CONSTRAINT few CHECK (amount < 40)'),
            'violates check constraint "few"',
        ),
        (
            ('ALTER TABLE "Spend Logs" ADD COLUMN fresh int, DROP COLUMN legacy',),
            "column fresh is there in the live table and missing in the backup",
        ),
        (
            ('ALTER TABLE "Spend Logs" ALTER COLUMN note TYPE varchar(1000)',),
            r"column note is character varying\(1000\) in the live table and text in the backup",
        ),
        (('ALTER TABLE "Spend Logs" ENABLE ALWAYS TRIGGER loud',), "has trigger loud, which would fire"),
    ],
    ids=["orphans", "own-orphans", "check", "columns", "types", "trigger"],
)
def test_what_does_not_fit_is_refused_by_name_and_nothing_is_changed(
    house: House, backed_up: Manifest, changes: tuple[str, ...], message: str
) -> None:
    house.execute(*changes)
    definitions, contents = house.definitions(), house.contents()
    with pytest.raises((RestoreFailed, RestoreRefused), match=message):
        house.restore(backed_up, LOGS, "swap")
    assert (house.definitions(), house.contents()) == (definitions, contents)


@pytest.mark.long
def test_a_partitioned_table_is_swapped_as_a_whole_and_a_partition_alone(house: House, backed_up: Manifest) -> None:
    house.execute(
        "CREATE TABLE event_3 PARTITION OF event FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
        "INSERT INTO event VALUES ('2024-03-05', 1), ('2024-01-09', 1000)",
        "DELETE FROM event WHERE at >= '2024-02-01' AND n % 2 = 0",
    )
    contents = house.contents()
    journal = house.restore(backed_up, "event", "swap").journal
    for table in ("public.event_1", "public.event_2"):
        assert house.contents()[table] == of(backed_up, table)
    assert house.value("SELECT count(*) FROM event_3") == 0
    house.undo(journal)
    assert {table: house.contents()[table] for table in contents} == contents

    journal = house.restore(backed_up, "event_2", "swap").journal
    changed = {table: text for table, text in house.contents().items() if contents.get(table) != text}
    assert changed["public.event_2"] == of(backed_up, "public.event_2")
    assert set(changed) - {"public.event_2"} <= {f"{journal.place('kept')}.event_2"} | {
        key for key in changed if key.startswith("undone_")
    }
    beside = house.restore(backed_up, "event").journal
    assert house.value(f"SELECT count(*) FROM {beside.place('restored')}.event") == 51
    alone = house.restore(backed_up, "event_1").journal
    assert (
        house.value(f"SELECT relispartition FROM pg_class WHERE oid = '{alone.place('restored')}.event_1'::regclass") is False
    )


def test_rows_that_nothing_tells_apart_are_copied_only_where_they_are_missing(house: House, backed_up: Manifest) -> None:
    house.execute("DELETE FROM plain WHERE note IS NULL OR ctid = '(0,1)'")
    restored = house.restore(backed_up, "public.plain")
    house.execute(restored.statements[-1])
    assert house.contents()["public.plain"] == of(backed_up, "public.plain")


def test_a_table_that_was_dropped_comes_back_beside_and_takes_its_old_place(house: House, backed_up: Manifest) -> None:
    house.execute("DROP TABLE plain")
    with pytest.raises(RestoreRefused, match=r"there is no live table public\.plain to swap rows into"):
        house.restore(backed_up, "plain", "swap")
    restored = house.restore(backed_up, "plain")
    house.execute(restored.statements[-1])
    assert house.contents()["public.plain"] == of(backed_up, "public.plain")


@pytest.mark.parametrize(
    ("component", "table", "partition", "error", "message"),
    [
        ("postgres/shop", "public.spendlogs", "", RestoreRefused, 'no table public.spendlogs; near names are: .*"Spend Logs"'),
        ("postgres/shop", "totals", "", RestoreRefused, "public.totals is a view and holds no rows"),
        ("postgres/shop", "", "", SettingsError, "no table was named"),
        ("postgres/shop", "plain", "1", RestoreRefused, "in Postgres it is a table of its own"),
        ("postgres/shops", "plain", "", RestoreRefused, "holds no postgres/shops; it holds: postgres/shop"),
        ("shop", "plain", "", SettingsError, "expected one database, such as postgres/litellm"),
    ],
)
def test_a_wrong_name_gets_one_line_with_what_there_is(
    house: House, backed_up: Manifest, component: str, table: str, partition: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        plan_table(house.stack, backed_up, component, table, partition, "beside")
    assert "\n" not in str(caught.value)


def test_a_plan_changes_nothing_and_says_what_would_happen(house: House, backed_up: Manifest) -> None:
    definitions, contents, objects = house.definitions(), house.contents(), list(house.stack.store.list(house.stack.store.root))
    plan = plan_table(house.stack, backed_up, "postgres/shop", LOGS, "", "swap")
    text = describe(plan)
    for part in (
        "40 rows; live now: 40 rows, ",
        "is locked for about ",
        "nobody writes to public.receipt",
        plan.journal.place("kept"),
    ):
        assert part in text
    assert (house.definitions(), house.contents()) == (definitions, contents)
    assert list(house.stack.store.list(house.stack.store.root)) == objects


def test_a_damaged_dump_is_refused_before_anything_is_made(house: House, backed_up: Manifest) -> None:
    definitions, store = house.definitions(), house.stack.store
    key = set_prefix(store, backed_up.id) + backed_up.postgres[0].object.key
    whole = store.get(key)
    store.put(key, whole[:-100] + bytes(100))
    try:
        with pytest.raises(IntegrityError, match="is not the one that was backed up"):
            house.restore(backed_up, LOGS)
    finally:
        store.put(key, whole)
    assert house.definitions() == definitions
    with pytest.raises(RestoreRefused, match="there is no restore 'latest' of a table"):
        find(house.stack, "latest")


@pytest.mark.long
@pytest.mark.parametrize(("step", "undo_step"), [("commit", "committed"), ("committed", "check")])
def test_a_swap_that_is_killed_is_finished_by_the_next_run_and_so_is_an_undo(
    house: House, backed_up: Manifest, step: str, undo_step: str
) -> None:
    house.execute(*SINCE)
    contents = house.contents()
    house.die(lambda own, hook: own.restore(backed_up, LOGS, "swap", hook=hook), step)
    assert (house.contents()[LOGS] == contents[LOGS]) is (step != "committed")
    (journal,) = house.settle()
    assert (journal.phase, house.contents()[LOGS]) == ("done", of(backed_up, LOGS))
    assert house.schemas() == [journal.place("kept")]
    house.die(lambda own, hook: own.undo(journal, hook), undo_step)
    (journal,) = house.settle()
    assert (journal.phase, house.contents()[LOGS]) == ("undone", contents[LOGS])
    with pytest.raises(RestoreRefused, match="is undone already"):
        describe_undo(house.stack, journal)


def test_a_restore_that_is_killed_before_its_swap_leaves_nothing_after_the_next_run(house: House, backed_up: Manifest) -> None:
    definitions, contents = house.definitions(), house.contents()
    house.kill_when(lambda own: own.restore(backed_up, LOGS, "swap"), lambda: bool(house.databases()))
    house.settle()
    assert (house.definitions(), house.contents()) == (definitions, contents)
    assert house.newest().phase == "given up"
    house.die(lambda own, hook: own.restore(backed_up, LOGS, "swap", hook=hook), "staged")
    house.settle()
    assert (house.definitions(), house.contents()) == (definitions, contents)


@contextmanager
def writing(house: House) -> Iterator[list[int]]:
    """Insert rows without a pause during the body; yields the numbers of those that were committed."""
    written: list[int] = []
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(house.engine.url(house.database), autocommit=True) as connection:
            while not stop.is_set():
                row = connection.execute(f"INSERT INTO {LOGS} (amount) VALUES (1) RETURNING id".encode()).fetchone()
                written.append(row[0] if row else 0)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        stop.set()
        thread.join()


def test_no_row_is_lost_that_is_written_while_a_table_is_swapped_and_swapped_back(house: House, backed_up: Manifest) -> None:
    with writing(house) as written:
        journal = house.restore(backed_up, LOGS, "swap").journal
    with house.connect() as connection:
        kept, live = (
            {row[0] for row in connection.execute(f"SELECT id FROM {name} WHERE id > 40".encode())}
            for name in (f'{journal.place("kept")}."Spend Logs"', LOGS)
        )
    assert kept | live == set(written)
    assert not kept & live
    assert kept


def test_tables_of_a_database_that_is_hard_to_copy(house: House) -> None:
    hard = replace(house, database="hard_shop")
    create_hard_database(house.engine, hard.database)
    try:  # the one value that does not survive is the name of the table that is moved
        hard.execute("UPDATE every_type SET c_regclass = 'club' WHERE c_regclass IS NOT NULL")
        manifest = hard.back_up()
        before = hard.contents()
        hard.forget(hard.restore(manifest, 'public."Table with ""quotes"" and spaces"').journal)
        for table in ("measurement", "parent", "every_type"):
            journal = hard.restore(manifest, f"public.{table}", "swap").journal
            hard.undo(journal)
            hard.forget(journal)
        assert hard.contents() == before
    finally:
        with house.connect("postgres") as connection:
            connection.execute("DROP DATABASE hard_shop WITH (FORCE)")
