"""A ClickHouse database of everything that is hard to copy: types, values, engines, views, names."""

from __future__ import annotations

from collections.abc import Mapping

from blocks.clickhouse_client import ClickHouseClient, identifier, qualified

__all__ = ["ODD_TABLE", "add_rows", "create", "statements"]

ODD_TABLE = "Odd name.with/every%thing `and` 'quotes' é"

_ONE_OF = "Variant(UInt64, String, Array(UInt8))"

_VALUES: Mapping[str, tuple[str, str]] = {
    "i8": ("Int8", "toInt8(number % 200 - 100)"),
    "u256": ("UInt256", "bitNot(toUInt256(number))"),
    "f32": (
        "Float32",
        "multiIf(number % 7 = 0, nan, number % 7 = 1, inf, number % 7 = 2, -inf, number % 7 = 3, -0., number / 3)",
    ),
    "f64": ("Float64", "if(number % 9 = 0, nan, exp(number % 300))"),
    "d32": ("Decimal32(4)", "toDecimal32(number % 1000, 4) / 7"),
    "d128": ("Decimal128(20)", "toDecimal128('-12345678901234.5678901234', 20) + number"),
    "d256": ("Decimal256(40)", "toDecimal256('0.0000000000000000000000000000000000000001', 40) * number"),
    "flag": ("Bool", "number % 2"),
    "text": (
        "String",
        "['plain', '', 'line\\nbreak', 'tab\\tand \\\\backslash', 'naïve 日本語 🚀', 'nul\\0byte', unhex('fffe80')]"
        "[number % 7 + 1]",
    ),
    "fixed": ("FixedString(8)", "toFixedString(toString(number % 1000), 8)"),
    "uuid": ("UUID", "reinterpretAsUUID(sipHash128(number))"),
    "v4": ("IPv4", "toIPv4(toUInt32(sipHash64(number) % 4294967296))"),
    "v6": ("IPv6", "toIPv6(concat('2001:db8::', lower(hex(toUInt16(number)))))"),
    "day": ("Date", "toDate('2026-01-15') + toIntervalMonth(number % 3)"),
    "day32": ("Date32", "toDate32('1900-01-01') + number % 90000"),
    "moment": ("DateTime('Europe/Berlin')", "toDateTime(number * 86400 % 4000000000, 'Europe/Berlin')"),
    "moment64": (
        "DateTime64(9, 'UTC')",
        "addNanoseconds(toDateTime64('1950-06-01 00:00:00', 9, 'UTC'), number * 1000000007)",
    ),
    "level": ("Enum8('low' = -1, 'high' = 1)", "if(number % 3 = 0, 'low', 'high')"),
    "wide": ("Enum16('äöü' = 300, '' = 0)", "if(number % 2 = 0, 'äöü', '')"),
    "maybe": ("Nullable(String)", "if(number % 2 = 0, NULL, toString(number))"),
    "maybe_number": ("Nullable(Decimal(18, 6))", "if(number % 5 = 0, NULL, toDecimal64(number, 6) / 8)"),
    "maybe_time": ("Nullable(DateTime64(3))", "if(number % 11 = 0, NULL, toDateTime64(number, 3))"),
    "low": ("LowCardinality(String)", "toString(number % 10)"),
    "low_maybe": ("LowCardinality(Nullable(String))", "if(number % 4 = 0, NULL, toString(number % 10))"),
    "list": ("Array(Nullable(String))", "[NULL, toString(number)]"),
    "lists": ("Array(Array(Int32))", "[range(toInt32(number % 4)), []]"),
    "pair": ("Tuple(a UInt8, b Nullable(String))", "(number % 256, if(number % 3 = 0, NULL, 'b'))"),
    "point": ("Point", "(number, -number)"),
    "labels": (
        "Map(LowCardinality(String), String)",
        "if(number % 6 = 0, map(), map('k', toString(number), '', 'empty key'))",
    ),
    "counts": ("Map(String, Array(Nullable(Float64)))", "map('x', [NULL, nan, number])"),
    "items": ("Nested(name String, price Decimal(9, 2))", ""),
    "items.name": ("", "arrayMap(i -> concat('item ', toString(i)), range(number % 3))"),
    "items.price": ("", "arrayMap(i -> toDecimal64(i, 2) / 3, range(number % 3))"),
    "document": (
        "JSON(max_dynamic_paths = 4, `a.b` UInt32)",
        'concat(\'{"a": {"b": \', toString(number % 100), \'}, "dynamic\', toString(number % 9), \'": "värde", \','
        " '\"list\": [1, \"two\", null], \"n\": ', if(number % 2 = 0, '1', '\"1\"'), '}')",
    ),
    "documents": ("Array(JSON)", "[concat('{\"n\": ', toString(number), '}')]"),
    "anything": (
        "Dynamic",
        "multiIf(number % 4 = 0, number::Dynamic, number % 4 = 1, toString(number)::Dynamic,"
        " number % 4 = 2, toDate('2026-01-01')::Dynamic, NULL::Dynamic)",
    ),
    "one_of": (
        _ONE_OF,
        f"multiIf(number % 3 = 0, number::{_ONE_OF}, number % 3 = 1, 'v'::{_ONE_OF}, [1, 2]::Array(UInt8)::{_ONE_OF})",
    ),
}

_DERIVED = """
    doubled UInt64 MATERIALIZED id * 2,
    shouted String ALIAS upper(text),
    given String EPHEMERAL 'x',
    stored String DEFAULT concat('default-', toString(id)) CODEC(ZSTD(3)),
    INDEX by_text text TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_f64 f64 TYPE minmax GRANULARITY 2,
    INDEX by_word text TYPE tokenbf_v1(1024, 2, 0) GRANULARITY 1,
    PROJECTION by_low (SELECT low, count(), sum(id) GROUP BY low),
    CONSTRAINT small CHECK i8 <= 100
"""

_WIDE = ("text", "f64", "maybe", "low_maybe", "list", "labels", "document", "anything", "one_of")
"""Columns of the table whose parts keep each of them in files of its own."""

_ENGINE = """MergeTree PARTITION BY level ORDER BY (id, day) SAMPLE BY id
SETTINGS index_granularity = 128, lightweight_mutation_projection_mode = 'rebuild'"""


def statements(database: str) -> list[str]:
    """Return the statements that make and fill everything, in order.

    Args:
        database: which exists and is empty.
    """
    db = identifier(database)
    columns = ", ".join(f"{identifier(name)} {kind}" for name, (kind, _) in _VALUES.items() if kind)
    wide = ", ".join(f"{name} {_VALUES[name][0]}" for name in _WIDE)
    odd = qualified(database, ODD_TABLE)
    return [
        f"CREATE TABLE {db}.types (id UInt64, {columns}, {_DERIVED}) ENGINE = {_ENGINE} COMMENT 'every type, \\'quoted\\''",
        f"CREATE TABLE {odd} (`a column.with dots` Nullable(Int64), `select` String) ENGINE = MergeTree ORDER BY tuple()",
        f"INSERT INTO {odd} VALUES (NULL, 'a'), (NULL, 'a'), (1, ''), (-1, 'b\\nc')",
        f"CREATE TABLE {db}.empty (id UInt64) ENGINE = MergeTree ORDER BY id",
        # Rows that are gone already by their TTL: a merge would drop them, so none may run before the comparison.
        f"CREATE TABLE {db}.expired (id UInt64, at DateTime, note String TTL at + INTERVAL 1 DAY) "
        "ENGINE = MergeTree ORDER BY id TTL at + INTERVAL 1 MONTH DELETE SETTINGS merge_with_ttl_timeout = 1000000",
        f"SYSTEM STOP MERGES {db}.expired",
        f"INSERT INTO {db}.expired SELECT number, now() - INTERVAL number DAY, 'n' FROM numbers(100)",
        f"CREATE TABLE {db}.versions (id UInt64, name Nullable(String), version UInt32, gone UInt8) "
        "ENGINE = ReplacingMergeTree(version, gone) ORDER BY id",
        f"INSERT INTO {db}.versions SELECT number % 50, if(number % 3 = 0, NULL, 'x'), number, number % 20 = 0 "
        "FROM numbers(100)",
        f"INSERT INTO {db}.versions SELECT number % 50, 'second', number + 100, 0 FROM numbers(30)",
        f"CREATE TABLE {db}.states (k UInt8, users AggregateFunction(uniq, UInt64), "
        "p AggregateFunction(quantiles(0.5, 0.9), Float64), "
        "words AggregateFunction(groupUniqArray, String), last AggregateFunction(argMax, Nullable(String), DateTime), "
        "total SimpleAggregateFunction(sum, UInt64), seen SimpleAggregateFunction(groupUniqArrayArray, Array(String))) "
        "ENGINE = AggregatingMergeTree ORDER BY k",
        f"INSERT INTO {db}.states SELECT number % 3, uniqState(number), quantilesState(0.5, 0.9)(toFloat64(number)), "
        "groupUniqArrayState(toString(number % 5)), argMaxState(if(number % 2 = 0, NULL, 'x'), toDateTime(number)), "
        "sum(number), groupUniqArrayArray([toString(number % 4)]) FROM numbers(1000) GROUP BY number % 3",
        f"CREATE TABLE {db}.sums (day Date, n UInt64) ENGINE = SummingMergeTree ORDER BY day",
        f"CREATE MATERIALIZED VIEW {db}.to_sums TO {db}.sums AS SELECT day, count() AS n FROM {db}.types GROUP BY day",
        f"CREATE MATERIALIZED VIEW {db}.own_rows ENGINE = SummingMergeTree ORDER BY level "
        f"AS SELECT level, count() AS n, max(maybe) AS last FROM {db}.types GROUP BY level",
        f"CREATE VIEW {db}.plain_view AS SELECT id, text, shouted FROM {db}.types WHERE flag",
        f"CREATE VIEW {db}.`view of a view` AS SELECT count() AS c FROM {db}.plain_view",
        f"CREATE VIEW {db}.with_parameter AS SELECT id FROM {db}.types WHERE id = {{wanted:UInt64}}",
        f"CREATE DICTIONARY {db}.names (id UInt64, text String DEFAULT 'none') PRIMARY KEY id "
        f"SOURCE(CLICKHOUSE(DB '{database}' TABLE 'types')) LAYOUT(HASHED()) LIFETIME(0)",
        f"CREATE TABLE {db}.sink (id UInt64) ENGINE = Null",
        f"CREATE TABLE {db}.log (id UInt64, note Nullable(String)) ENGINE = Log",
        f"INSERT INTO {db}.log SELECT number, if(number % 2 = 0, NULL, 'odd') FROM numbers(1000)",
        f"CREATE TABLE {db}.memory (id UInt64) ENGINE = Memory",
        f"INSERT INTO {db}.memory SELECT number FROM numbers(10)",
        f"CREATE TABLE {db}.joined (id UInt64, v String) ENGINE = Join(ANY, LEFT, id)",
        f"INSERT INTO {db}.joined VALUES (1, 'x')",
        insert(database, offset=0, rows=3000),
        insert(database, offset=3000, rows=500),
        f"CREATE TABLE {db}.wide (id UInt64, {wide}) ENGINE = MergeTree ORDER BY id SETTINGS min_bytes_for_wide_part = 0",
        f"INSERT INTO {db}.wide SELECT id, {', '.join(_WIDE)} FROM {db}.types",
        f"DELETE FROM {db}.types WHERE id % 97 = 0 SETTINGS lightweight_deletes_sync = 2",
    ]


def insert(database: str, *, offset: int, rows: int) -> str:
    """Return the statement that adds rows to the table with every type."""
    values = {name: value for name, (_, value) in _VALUES.items() if value}
    names = ", ".join(identifier(name) for name in values)
    return (
        f"INSERT INTO {identifier(database)}.types (id, {names}) "
        f"SELECT number, {', '.join(values.values())} FROM numbers({offset}, {rows})"
    )


def create(client: ClickHouseClient, database: str) -> None:
    """Make the database and everything in it.

    Args:
        client: of a user who may do anything. database: its name, which does not exist.
    """
    client.command(f"CREATE DATABASE {identifier(database)}")
    for statement in statements(database):
        client.command(statement)


def add_rows(client: ClickHouseClient, database: str, *, offset: int, rows: int) -> None:
    """Write more rows into the table with every type, and through it into the views that feed on it."""
    client.command(insert(database, offset=offset, rows=rows))
