"""Pure decisions: releases, names, and reading ClickHouse's own list."""

from __future__ import annotations

import pytest

from blocks.clickhouse import backup_path, incremental_supported, version_numbers
from blocks.errors import IntegrityError
from flows.backup.clickhouse_files import BackupList, Index, IndexedFile
from flows.compare.clickhouse_content import row_expression, with_database
from flows.compare.clickhouse_tables import consumes


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("24.8.14.39", (24, 8, 14, 39)),
        ("25.8.26.8-lts", (25, 8, 26, 8)),
        ("26.9.2.1", (26, 9, 2, 1)),
        ("24.3.5.47.altinitystable", (24, 3, 5, 47)),
        ("", ()),
    ],
)
def test_versions_are_read_as_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert version_numbers(text) == numbers


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("24.3.18.7", False),
        ("24.8.14.39", False),
        ("24.12.99.99", False),
        ("25.3.14.14", False),
        ("25.8.26.7", False),
        ("25.8.26.8", True),
        ("25.8.30.1", True),
        ("25.12.1.1", False),
        ("26.3.17.9", False),
        ("26.3.17.10", True),
        ("26.4.5.90", True),
        ("26.5.5.12", False),
        ("26.5.5.13", True),
        ("26.6.2.13", False),
        ("26.6.2.14", True),
        ("26.7.1.1", True),
        ("26.9.2.1", True),
        ("27.1.1.1", True),
    ],
)
def test_below_the_fixed_releases_only_full_backups_are_taken(version: str, safe: bool) -> None:
    assert incremental_supported(version_numbers(version)) is safe


@pytest.mark.parametrize(
    ("database", "path"),
    [
        ("langfuse", "clickhouse/langfuse/"),
        ("my_db-2", "clickhouse/my_db-2/"),
        ("a b", "clickhouse/a=20b/"),
        ("..", "clickhouse/=2E=2E/"),
        ("100%/é", "clickhouse/100=25=2F=C3=A9/"),
    ],
)
def test_a_folder_is_named_so_that_clickhouse_and_we_mean_the_same_key(database: str, path: str) -> None:
    assert backup_path(database) == path


@pytest.mark.parametrize(
    ("ddl", "expected"),
    [
        ("CREATE VIEW x__drill_aaaaaa.v AS SELECT * FROM x__drill_aaaaaa.t", "CREATE VIEW lf.v AS SELECT * FROM lf.t"),
        ("SOURCE(CLICKHOUSE(DB 'x__drill_aaaaaa' TABLE 't'))", "SOURCE(CLICKHOUSE(DB 'lf' TABLE 't'))"),
        ("CREATE TABLE `x__drill_aaaaaa`.t", "CREATE TABLE `lf`.t"),
        ("SELECT 'not x__drill_aaaaaab.t'", "SELECT 'not x__drill_aaaaaab.t'"),
    ],
)
def test_a_copys_definition_is_read_as_the_live_ones(ddl: str, expected: str) -> None:
    assert with_database(ddl, "x__drill_aaaaaa", "lf") == expected


def test_an_odd_name_is_quoted_in_a_definition() -> None:
    assert with_database("CREATE TABLE copy.t", "copy", "a b") == "CREATE TABLE `a b`.t"


def test_columns_enter_the_hash_within_a_tuple_and_unstable_types_as_text() -> None:
    columns = [("id", "UInt64"), ("n.a", "Array(UInt8)"), ("s", "AggregateFunction(uniq, UInt64)"), ("d", "Dynamic")]
    assert row_expression(columns) == "cityHash64(tuple(`id`, `n.a`, toString(`s`), toString(`d`), dynamicType(`d`)))"
    assert "toJSONString(`j`)" in row_expression([("j", "Array(JSON)")])
    assert row_expression([("j", "Array(Nullable(String))")]) == "cityHash64(tuple(`j`))"


def test_what_would_take_messages_from_the_live_tables_is_not_copied() -> None:
    engines = {
        "queue": "Kafka",
        "t": "MergeTree",
        "feed": "MaterializedView",
        "timed": "MaterializedView",
        "m": "MaterializedView",
    }
    ddl = {
        "queue": "CREATE TABLE lf.queue (x UInt8) ENGINE = Kafka",
        "t": "CREATE TABLE lf.t (x UInt8) ENGINE = MergeTree",
        "feed": "CREATE MATERIALIZED VIEW lf.feed TO lf.t AS SELECT x FROM lf.queue",
        "timed": "CREATE MATERIALIZED VIEW lf.timed REFRESH EVERY 1 HOUR TO lf.t AS SELECT x FROM lf.t",
        "m": "CREATE MATERIALIZED VIEW lf.m TO lf.t AS SELECT x FROM lf.queue_history",
    }
    assert consumes(engines, ddl, "lf") == {"queue", "feed", "timed"}


LIST = b"""<config><version>1</version><contents>
<file><name>data/l%20f/t%2Ex/all_1_1_0/checksums.txt</name><size>9</size><checksum>aa</checksum></file>
<file><name>data/l%20f/t%2Ex/all_1_1_0/a&amp;b.bin</name><size>100</size><checksum>bb</checksum></file>
<file><name>data/l%20f/t%2Ex/all_1_1_0/empty.bin</name><size>0</size></file>
<file><name>data/l%20f/t%2Ex/all_1_1_0/p.proj/checksums.txt</name><size>9</size><checksum>aa</checksum><data_file>data/l%20f/t%2Ex/all_1_1_0/checksums.txt</data_file></file>
<file><name>data/l%20f/t%2Ex/all_2_2_0/checksums.txt</name><size>7</size><checksum>cc</checksum><use_base>true</use_base></file>
<file><name>data/l%20f/t%2Ex/mutations/0000000003.txt</name><size>5</size><checksum>dd</checksum></file>
<file><name>data/l%20f/log/id.bin</name><size>50</size><checksum>ee</checksum><use_base>true</use_base><base_size>30</base_size><base_checksum>ff</base_checksum></file>
<file><name>metadata/l%20f.sql</name><size>3</size><checksum>01</checksum></file>
<file><name>metadata/l%20f/t%2Ex.sql</name><size>4</size><checksum>02</checksum></file>
</contents></config>"""


def base_index(*files: tuple[str, int, str]) -> Index:
    """The index of a full backup."""
    return Index(files=[IndexedFile(name=name, bytes=size, checksum=checksum) for name, size, checksum in files])


def test_the_list_of_a_backup_is_read() -> None:
    listed = BackupList(LIST, "l f")
    assert listed.parts() == {"t.x": {"all_1_1_0", "all_2_2_0"}, "log": set()}
    assert listed.mutated() == {"t.x"}
    assert listed.tables() == {"t.x"}
    files = listed.files(base_index(("old/checksums.txt", 7, "cc"), ("log/id.bin", 30, "ff")))
    assert [(file.name.rsplit("/", 1)[-1], file.bytes, file.in_base) for file in files] == [
        ("checksums.txt", 9, False),  # stored once, though two files are equal
        ("a&b.bin", 100, False),
        ("checksums.txt", 7, True),
        ("0000000003.txt", 5, False),
        ("id.bin", 20, False),  # what was appended since the base
        ("id.bin", 30, True),
        ("l%20f.sql", 3, False),
        ("t%2Ex.sql", 4, False),
    ]


def test_a_file_that_the_base_does_not_have_is_named() -> None:
    with pytest.raises(IntegrityError, match=r"all_2_2_0/checksums\.txt should be in the base backup"):
        BackupList(LIST, "l f").files(base_index(("log/id.bin", 30, "ff")))


@pytest.mark.parametrize("data", [b"", b"not xml", b"<config><version>2</version></config>", b"<config><version>1</version>"])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError, match="is not a backup's list"):
        BackupList(data, "lf")
