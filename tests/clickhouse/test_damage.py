"""Whatever happened to a backup or to its copy is noticed, and named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blocks.clickhouse_client import ClickHouseClient
from blocks.errors import IntegrityError
from blocks.object_store import BackupStore
from flows.backup.clickhouse import BaseBackup
from flows.backup.clickhouse_files import load_list
from flows.compare.differences import Difference
from flows.restore import clickhouse as on_clickhouse
from tests.clickhouse.conftest import WITH_NULLS, Lab


@pytest.fixture(scope="module")
def full(module_lab: Lab) -> BaseBackup:
    """A full backup that the tests damage and mend."""
    return module_lab.backup(module_lab.database(*WITH_NULLS))


@pytest.fixture(scope="module")
def copy(module_lab: Lab, full: BaseBackup) -> str:
    """Its restored copy."""
    return module_lab.restore(full)


@pytest.fixture
def mended(store: BackupStore, full: BaseBackup) -> Iterator[None]:
    """Puts every object of the backup back after the test."""
    objects = {item.key: store.get(item.key) for item in store.list(full.prefix)}
    yield
    for key, data in objects.items():
        store.put(key, data)


def data_key(store: BackupStore, taken: BaseBackup, table: str) -> str:
    """Key of a column file of a table."""
    folder = f"{taken.prefix}{taken.component.path}data/{taken.component.name}/{table}/"
    return max((item for item in store.list(folder) if item.key.endswith(".bin")), key=lambda item: item.bytes).key


def check(lab: Lab, taken: BaseBackup) -> None:
    """Check the stored files."""
    on_clickhouse.check_files(taken.component, lab.store, taken.prefix, lab.base_prefix(taken.component))


def names(differences: list[Difference]) -> list[str]:
    """What differs."""
    return [difference.where for difference in differences]


def test_the_untouched_copy_is_equal(lab: Lab, full: BaseBackup, copy: str) -> None:
    assert on_clickhouse.compare(lab.server, full.component, copy) == []


def test_one_altered_value_in_a_row_with_nulls_is_noticed(lab: Lab, client: ClickHouseClient, full: BaseBackup) -> None:
    altered = lab.restore(full)
    client.command(f"SYSTEM START MERGES {altered}.t")
    client.command(f"ALTER TABLE {altered}.t UPDATE note = 'altered' WHERE id = 3001 SETTINGS mutations_sync = 2")
    assert client.rows(f"SELECT more FROM {altered}.t WHERE id = 3001") == [(None,)]
    assert names(on_clickhouse.compare(lab.server, full.component, altered)) == ["table t: content"]


def test_a_null_that_became_an_empty_string_is_noticed(lab: Lab, client: ClickHouseClient, full: BaseBackup) -> None:
    altered = lab.restore(full)
    client.command(f"SYSTEM START MERGES {altered}.t")
    client.command(f"ALTER TABLE {altered}.t UPDATE note = '' WHERE id = 3000 SETTINGS mutations_sync = 2")
    assert names(on_clickhouse.compare(lab.server, full.component, altered)) == ["table t: content"]


def test_a_missing_and_a_doubled_row_are_noticed(lab: Lab, client: ClickHouseClient, full: BaseBackup) -> None:
    altered = lab.restore(full)
    client.command(f"INSERT INTO {altered}.t SELECT * FROM {altered}.t WHERE id = 1")
    client.command(f"TRUNCATE TABLE {altered}.other")
    found = on_clickhouse.compare(lab.server, full.component, altered)
    assert [(d.where, d.expected, d.found) for d in found] == [
        ("table other: rows", "10", "0"),
        ("table t: rows", "5000", "5001"),
    ]


def test_another_definition_and_foreign_tables_are_noticed(lab: Lab, client: ClickHouseClient, full: BaseBackup) -> None:
    altered = lab.restore(full)
    client.command(f"ALTER TABLE {altered}.other MODIFY COMMENT 'not in the backup'")
    client.command(f"CREATE VIEW {altered}.extra AS SELECT 1")
    found = on_clickhouse.compare(lab.server, full.component, altered)
    assert names(found) == ["table other: definition", "table extra"]
    assert "not in the backup" in found[0].found


def test_a_flipped_byte_in_a_stored_column_file_is_refused_before_anything_is_restored(
    lab: Lab, full: BaseBackup, mended: None
) -> None:
    key = data_key(lab.store, full, "t")
    data = bytearray(lab.store.get(key))
    data[len(data) // 2] ^= 1
    lab.store.put(key, bytes(data))
    with pytest.raises(IntegrityError, match=r"data/db\d+/t/all_1_1_0/\S+ was replaced since the backup"):
        lab.restore(full)


def test_a_flipped_byte_that_got_past_the_store_is_named_as_an_unreadable_table(
    lab: Lab, client: ClickHouseClient, full: BaseBackup, mended: None
) -> None:
    key = data_key(lab.store, full, "t")
    data = bytearray(lab.store.get(key))
    data[len(data) // 2] ^= 1
    lab.store.put(key, bytes(data))
    copy = lab.name("__restore_cccccc")
    source = lab.server.destination(full.prefix + full.component.path)
    client.command(f"RESTORE DATABASE {full.component.name} AS {copy} FROM {source}")  # restores without a word
    assert client.command(f"SELECT count() FROM {copy}.t") == 5000
    found = on_clickhouse.compare(lab.server, full.component, copy)
    assert names(found) == ["table t"]
    assert "unreadable: " in found[0].found
    assert "Checksum doesn't match" in found[0].found


def test_a_truncated_object_is_refused(lab: Lab, full: BaseBackup, mended: None) -> None:
    key = data_key(lab.store, full, "t")
    lab.store.put(key, lab.store.get(key)[:100])
    with pytest.raises(IntegrityError, match=r"/t/all_1_1_0/\S+ has 100 bytes instead of \d+"):
        check(lab, full)


def test_a_missing_object_is_refused(lab: Lab, full: BaseBackup, mended: None) -> None:
    lab.store.remove([data_key(lab.store, full, "other")])
    with pytest.raises(IntegrityError, match=r"/other/all_1_1_0/\S+ is missing"):
        check(lab, full)


def test_exchanged_objects_are_refused(lab: Lab, full: BaseBackup, mended: None) -> None:
    one, other = data_key(lab.store, full, "t"), data_key(lab.store, full, "other")
    first, second = lab.store.get(one), lab.store.get(other)
    lab.store.put(one, second.ljust(len(first), b"\0"))
    lab.store.put(other, first[: len(second)])
    with pytest.raises(IntegrityError, match=r"2 objects are damaged: .* was replaced since the backup"):
        check(lab, full)


def test_a_damaged_list_or_index_is_refused(lab: Lab, full: BaseBackup, mended: None) -> None:
    listed = f"{full.prefix}{full.component.path}.backup"
    original = lab.store.get(listed)
    lab.store.put(listed, original.replace(b"all_1_1_0", b"all_1_1_9"))
    with pytest.raises(IntegrityError, match=r"\.backup is not what was backed up"):
        check(lab, full)
    lab.store.put(listed, original[:-40])
    with pytest.raises(IntegrityError, match="is not a backup's list"):
        load_list(lab.store, full.prefix + full.component.path, full.component.name)
    lab.store.put(listed, original)
    lab.store.put(full.prefix + full.component.index.key, b"{}")
    with pytest.raises(IntegrityError, match=r"index\.json\.zst is not what was stored"):
        check(lab, full)


def test_damage_in_the_base_is_noticed_by_a_restore_and_answered_by_a_full_backup(
    lab: Lab, full: BaseBackup, mended: None
) -> None:
    difference = lab.backup(full.component.name, base=full)
    lab.store.remove([data_key(lab.store, full, "t")])
    with pytest.raises(IntegrityError, match=r"/t/all_1_1_0/\S+ is missing"):
        check(lab, difference)
    again = lab.backup(full.component.name, base=full)
    assert again.component.base is None
    assert f"the base, set {full.set_id}, is damaged" in lab.progress[-1]
    assert lab.drill(again) == []
