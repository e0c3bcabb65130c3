"""A ClickHouse database of everything that is hard to copy: types, engines, views, names, values."""

from __future__ import annotations

from blocks.clickhouse_client import ClickHouseClient, identifier, qualified

__all__ = ["ODD_TABLE", "create", "statements"]

ODD_TABLE = "Odd name.with/every%thing `and` 'quotes'"

_TYPES = """(
    id UInt64,
    i8 Int8, u256 UInt256, f32 Float32, f64 Float64, d32 Decimal32(4), d128 Decimal128(20), d256 Decimal256(40),
    flag Bool, text String, fixed FixedString(8), uuid UUID, v4 IPv4, v6 IPv6,
    day Date, day32 Date32, moment DateTime('Europe/Berlin'), moment64 DateTime64(9, 'UTC'),
    level Enum8('low' = -1, 'high' = 1), wide Enum16('äöü' = 300, '' = 0),
    maybe Nullable(String), maybe_number Nullable(Decimal(18, 6)), maybe_time Nullable(DateTime64(3)),
    low LowCardinality(String), low_maybe LowCardinality(Nullable(String)),
    list Array(Nullable(String)), lists Array(Array(Int32)), pair Tuple(a UInt8, b Nullable(String)), point Point,
    labels Map(LowCardinality(String), String), counts Map(String, Array(Nullable(Float64))),
    items Nested(name String, price Decimal(9, 2)),
    document JSON(max_dynamic_paths = 4, a.b UInt32), documents Array(JSON),
    anything Dynamic, one_of Variant(UInt64, String, Array(UInt8)),
    doubled UInt64 MATERIALIZED id * 2,
    shouted String ALIAS upper(text),
    given String EPHEMERAL 'x',
    stored String DEFAULT concat('default-', toString(id)) CODEC(ZSTD(3)),
    INDEX by_text text TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_f64 f64 TYPE minmax GRANULARITY 2,
    INDEX by_word text TYPE tokenbf_v1(1024, 2, 0) GRANULARITY 1,
    PROJECTION by_low (SELECT low, count(), sum(id) GROUP BY low),
    CONSTRAINT small CHECK i8 < 100
) ENGINE = MergeTree PARTITION BY (toYYYYMM(day), level) ORDER BY (id, day) SAMPLE BY id
SETTINGS min_bytes_for_wide_part = 0, index_granularity = 128 COMMENT 'every type, \\'quoted\\''"""

_ROWS = """SELECT
    number, toInt8(number % 200 - 100), toUInt256('115792089237316195423570985008687907853269984665640564039457584007913129639935') - number,
    multiIf(number % 7 = 0, nan, number % 7 = 1, inf, number % 7 = 2, -inf, number % 7 = 3, -0., number / 3), if(number % 9 = 0, nan, exp(number % 300)),
    toDecimal32(number % 1000, 4) / 7, toDecimal128('-12345678901234.5678901234', 20) + number, toDecimal256('0.0000000000000000000000000000000000000001', 40),
    number % 2, ['plain', '', 'line\\nbreak', 'tab\\tand \\\\backslash', 'naïve 日本語 🚀', 'nul\\0byte', unhex('fffe80')][number % 7 + 1],
    toFixedString(toString(number % 1000), 8), reinterpretAsUUID(sipHash128(number)), toIPv4(toUInt32(sipHash64(number) % 4294967296)), toIPv6(concat('2001:db8::', lower(hex(number % 65536)))),
    toDate('2026-01-15') + toIntervalMonth(number % 3), toDate32('1900-01-01') + number % 90000, toDateTime(number * 86400 % 4000000000, 'Europe/Berlin'),
    addNanoseconds(toDateTime64('1950-06-01 00:00:00', 9, 'UTC'), number * 1000000007),
    if(number % 3 = 0, 'low', 'high'), if(number % 2 = 0, 'äöü', ''),
    if(number % 2 = 0, NULL, toString(number)), if(number % 5 = 0, NULL, number / 8), if(number % 11 = 0, NULL, toDateTime64(number, 3)),
    toString(number % 10), if(number % 4 = 0, NULL, toString(number % 10)),
    [NULL, toString(number)], [range(toInt32(number % 4)), []], (number % 256, if(number % 3 = 0, NULL, 'b')), (number, -number),
    if(number % 6 = 0, map(), map('k', toString(number), '', 'empty key')), map('x', [NULL, nan, number]),
    arrayMap(i -> concat('item ', toString(i)), range(number % 3)), arrayMap(i -> toDecimal64(i, 2) / 3, range(number % 3)),
    toJSONString(map('a', map('b', toString(number % 100)), concat('dynamic', toString(number % 9)), map('deep', 'värde'))), [toJSONString(map('n', number))],
    multiIf(number % 4 = 0, number::Dynamic, number % 4 = 1, 'text'::Dynamic, number % 4 = 2, toDate('2026-01-01')::Dynamic, NULL::Dynamic),
    multiIf(number % 3 = 0, number::Variant(UInt64, String, Array(UInt8)), number % 3 = 1, 'v'::Variant(UInt64, String, Array(UInt8)), [1, 2]::Array(UInt8)::Variant(UInt64, String, Array(UInt8)))
FROM numbers({offset}, {rows})"""

_INSERTED = """id, i8, u256, f32, f64, d32, d128, d256, flag, text, fixed, uuid, v4, v6, day, day32, moment, moment64, level, wide,
    maybe, maybe_number, maybe_time, low, low_maybe, list, lists, pair, point, labels, counts, `items.name`, `items.price`,
    document, documents, anything, one_of"""
