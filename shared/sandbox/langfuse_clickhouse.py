"""A Langfuse-shaped ClickHouse schema of our own: real table names and engines, believable rows, made on the server.

Names and engines are those that Langfuse 3 uses (facts: apps.md 2): ReplacingMergeTree(event_ts, is_deleted) by month for what
is traced, an AggregatingMergeTree fed by materialised views with `TO`, plain views for analytics. The definitions and
the rows are written for this sandbox; rows hold NULLs, newlines, quotes, 4-byte unicode, NaN and empty maps.
"""

from __future__ import annotations

from collections.abc import Mapping

from blocks.clickhouse_client import ClickHouseClient, identifier
from shared.sandbox.langfuse_postgres import PROJECTS

__all__ = ["TRACED", "create", "load", "schema", "write_more"]


_MODIFIED = """
    created_at DateTime64(3) DEFAULT now64(3),
    updated_at DateTime64(3) DEFAULT now64(3),
    event_ts DateTime64(3),
    is_deleted UInt8"""

_PAYLOAD = """
    input Nullable(String) CODEC(ZSTD(3)),
    output Nullable(String) CODEC(ZSTD(3)),"""

_TABLES: Mapping[str, str] = {
    "traces": f"""(
    id String,
    timestamp DateTime64(3),
    name String,
    user_id Nullable(String),
    metadata Map(LowCardinality(String), String),
    release Nullable(String),
    version Nullable(String),
    project_id String,
    environment LowCardinality(String) DEFAULT 'default',
    public Bool,
    bookmarked Bool,
    tags Array(String),{_PAYLOAD}
    session_id Nullable(String),{_MODIFIED},
    INDEX idx_id id TYPE bloom_filter(0.001) GRANULARITY 1,
    INDEX idx_user_id user_id TYPE bloom_filter GRANULARITY 1,
    INDEX idx_metadata_key mapKeys(metadata) TYPE bloom_filter(0.01) GRANULARITY 1
) ENGINE = ReplacingMergeTree(event_ts, is_deleted)
PARTITION BY toYYYYMM(timestamp)
PRIMARY KEY (project_id, toDate(timestamp))
ORDER BY (project_id, toDate(timestamp), id)""",
    "observations": f"""(
    id String,
    trace_id String,
    project_id String,
    environment LowCardinality(String) DEFAULT 'default',
    type LowCardinality(String),
    parent_observation_id Nullable(String),
    start_time DateTime64(3),
    end_time Nullable(DateTime64(3)),
    name String,
    metadata Map(LowCardinality(String), String),
    level LowCardinality(String),
    status_message Nullable(String),{_PAYLOAD}
    provided_model_name Nullable(String),
    usage_details Map(LowCardinality(String), UInt64),
    cost_details Map(LowCardinality(String), Decimal64(12)),
    total_cost Nullable(Decimal64(12)),
    prompt_name Nullable(String),
    prompt_version Nullable(UInt16),{_MODIFIED},
    INDEX idx_id id TYPE bloom_filter GRANULARITY 1,
    INDEX idx_trace_id trace_id TYPE bloom_filter GRANULARITY 1
) ENGINE = ReplacingMergeTree(event_ts, is_deleted)
PARTITION BY toYYYYMM(start_time)
PRIMARY KEY (project_id, type, toDate(start_time))
ORDER BY (project_id, type, toDate(start_time), id)""",
    "scores": f"""(
    id String,
    timestamp DateTime64(3),
    project_id String,
    environment LowCardinality(String) DEFAULT 'default',
    trace_id String,
    observation_id Nullable(String),
    name String,
    value Float64,
    source LowCardinality(String),
    comment Nullable(String) CODEC(ZSTD(1)),
    data_type LowCardinality(String),
    string_value Nullable(String),{_MODIFIED},
    INDEX idx_trace_id trace_id TYPE bloom_filter GRANULARITY 1
) ENGINE = ReplacingMergeTree(event_ts, is_deleted)
PARTITION BY toYYYYMM(timestamp)
PRIMARY KEY (project_id, toDate(timestamp), name)
ORDER BY (project_id, toDate(timestamp), name, id)""",
    "blob_storage_file_log": f"""(
    id String,
    project_id String,
    entity_type LowCardinality(String),
    entity_id String,
    event_id String,
    bucket_name LowCardinality(String),
    bucket_path String,{_MODIFIED}
) ENGINE = ReplacingMergeTree(event_ts, is_deleted)
PARTITION BY toYYYYMM(created_at)
ORDER BY (project_id, entity_type, entity_id, event_id)""",
    "project_environments": """(
    project_id String,
    environments SimpleAggregateFunction(groupUniqArrayArray, Array(String))
) ENGINE = AggregatingMergeTree
ORDER BY project_id""",
    "schema_migrations": """(
    version Int64,
    dirty UInt8,
    sequence UInt64
) ENGINE = MergeTree
ORDER BY sequence""",
}

TRACED = ("traces", "observations", "scores")
"""The tables that grow with every call through the gateway."""

_HOURLY = {"traces": "timestamp", "observations": "start_time", "scores": "timestamp"}

_PHRASES = (
    "summarise the ticket in two sentences",
    "the customer asks for a refund of order",
    "SELECT name, sum(total) FROM orders GROUP BY name",
    "line one\\nline two\\ttabbed\\\\and a backslash",
    "réponds en français s''il te plaît",
    "日本語で要約してください",
    "it works 🎉 ship it 🚀",
    '{\\"role\\": \\"user\\", \\"content\\": \\"hello\\"}',
    "I could not find that in the knowledge base",
    "here is a step by step explanation",
    "temperature 0.7, top_p 1, no stop sequence",
    "the quick brown fox jumps over the lazy dog",
    "please translate the following paragraph",
    "function calls: search(query), fetch(url)",
    "as an assistant I can help with that",
    "NULL is not the string ''NULL''",
)


_TEXT = "concat(phrases[h % 16 + 1], ' ', phrases[bitShiftRight(h, 4) % 16 + 1], ' ', phrases[bitShiftRight(h, 8) % 16 + 1])"
_TIME = "at - toIntervalSecond(bitShiftRight(h, 9) % 7776000)"
_COMMON = {
    "project_id": "projects[h % 4 + 1]",
    "environment": "['default', 'production', 'staging'][bitShiftRight(h, 3) % 3 + 1]",
    "event_ts": "at",
    "created_at": "at",
    "updated_at": "at",
    "is_deleted": "h % 997 = 0",
}
_INPUT = f"if(h % 11 = 0, NULL, concat({_TEXT}, ' #', toString(n)))"
_OUTPUT = f'if(h % 13 = 0, NULL, concat(\'{{"answer": "\', {_TEXT}, \'", "id": "\', hex(h), \'"}}\'))'
_METADATA = (
    "if(h % 7 = 0, map(), map('client', 'sdk-python', 'attempt', toString(h % 3), 'host', concat('web-', toString(h % 40))))"
)

_SOURCES: Mapping[str, Mapping[str, str]] = {
    # column: its value, made from a row's number `n` and the hash `h` of it
    "traces": _COMMON
    | {
        "id": "concat('trace-', lower(hex(h)))",
        "timestamp": _TIME,
        "name": "['chat', 'rag-answer', 'summarise', ''][h % 4 + 1]",
        "user_id": "if(h % 5 = 0, NULL, concat('user-', toString(h % 5000)))",
        "metadata": _METADATA,
        "release": "if(h % 3 = 0, NULL, 'v1.4.2')",
        "public": "h % 100 = 0",
        "bookmarked": "h % 50 = 0",
        "tags": "arraySlice(['beta', 'eu', 'paid'], 1, h % 4)",
        "input": _INPUT,
        "output": _OUTPUT,
        "session_id": "if(h % 4 = 0, NULL, concat('session-', toString(h % 20000)))",
    },
    "observations": _COMMON
    | {
        "id": "concat('obs-', lower(hex(h)))",
        "trace_id": "concat('trace-', lower(hex(sipHash64(intDiv(n, 3), seed))))",
        "type": "['GENERATION', 'SPAN', 'EVENT'][h % 3 + 1]",
        "parent_observation_id": "if(n % 3 = 0, NULL, concat('obs-', lower(hex(sipHash64(n - 1, seed)))))",
        "start_time": _TIME,
        "end_time": f"if(h % 17 = 0, NULL, {_TIME} + toIntervalMillisecond(h % 9000))",
        "name": "['litellm-completion', 'retriever', 'tool-call'][h % 3 + 1]",
        "metadata": _METADATA,
        "level": "['DEFAULT', 'WARNING', 'ERROR'][if(h % 40 = 0, 3, 1)]",
        "status_message": "if(h % 40 = 0, concat('429: rate limited, retry in ', toString(h % 60), ' s'), NULL)",
        "input": _INPUT,
        "output": _OUTPUT,
        "provided_model_name": "['gpt-4o', 'claude-sonnet', 'mistral-small', NULL][bitShiftRight(h, 5) % 4 + 1]",
        "usage_details": "map('input', h % 4000, 'output', h % 900, 'total', h % 4000 + h % 900)",
        "cost_details": "map('total', toDecimal64((h % 4000) / 1000000, 12))",
        "total_cost": "if(h % 19 = 0, NULL, toDecimal64((h % 4000) / 1000000, 12))",
        "prompt_version": "if(h % 6 = 0, toUInt16(h % 30), NULL)",
    },
    "scores": _COMMON
    | {
        "id": "concat('score-', lower(hex(h)))",
        "timestamp": _TIME,
        "trace_id": "concat('trace-', lower(hex(sipHash64(n, seed))))",
        "observation_id": "if(h % 2 = 0, NULL, concat('obs-', lower(hex(sipHash64(n * 2, seed)))))",
        "name": "['helpfulness', 'toxicity', 'user-feedback'][h % 3 + 1]",
        "value": "multiIf(h % 1000 = 0, nan, h % 1001 = 0, -inf, (h % 1000) / 1000)",
        "source": "['API', 'EVAL', 'ANNOTATION'][h % 3 + 1]",
        "comment": f"if(h % 3 = 0, {_TEXT}, NULL)",
        "data_type": "'NUMERIC'",
    },
    "blob_storage_file_log": {
        **{name: value for name, value in _COMMON.items() if name != "environment"},
        "id": "toString(n)",
        "entity_type": "['trace', 'observation'][h % 2 + 1]",
        "entity_id": "concat('trace-', lower(hex(sipHash64(intDiv(n, 3), seed))))",
        "event_id": "lower(hex(h))",
        "bucket_name": "'langfuse'",
        "bucket_path": "concat('events/', projects[h % 4 + 1], '/trace/', lower(hex(h)), '.json')",
    },
}

_SHARES = {"traces": 0.25, "observations": 0.55, "scores": 0.15, "blob_storage_file_log": 0.05}
_BASE_TIME = "2026-11-01 12:00:00.000"
_ROWS_AT_ONCE = 500_000
_FAST_INSERT = {"max_insert_threads": 2, "max_partitions_per_insert_block": 0}


def schema(database: str) -> list[str]:
    """Return the statements that make the tables and views, in order.

    Args:
        database: which exists and is empty.
    """
    name = identifier(database)
    statements = [f"CREATE TABLE {name}.{table} {definition}" for table, definition in _TABLES.items()]
    for table, time in _HOURLY.items():
        statements.append(
            f"CREATE MATERIALIZED VIEW {name}.project_environments_{table}_mv TO {name}.project_environments AS "
            f"SELECT project_id, groupUniqArray(toString(environment)) AS environments FROM {name}.{table} GROUP BY project_id"
        )
        statements.append(
            f"CREATE VIEW {name}.analytics_{table} AS "
            f"SELECT project_id, name, toStartOfHour({time}) AS hour, uniq(id) AS count FROM {name}.{table} FINAL "
            f"GROUP BY project_id, name, hour"
        )
    return statements


def create(client: ClickHouseClient, database: str) -> None:
    """Make the database, its tables and views, and the row of the schema's version. What has them already stays as it is."""
    client.command(f"CREATE DATABASE IF NOT EXISTS {identifier(database)}")
    if int(client.command(f"EXISTS TABLE {identifier(database)}.schema_migrations")):
        return
    for statement in schema(database):
        client.command(statement)
    client.command(f"INSERT INTO {identifier(database)}.schema_migrations VALUES (37, 1, 1), (37, 0, 2)")


def load(client: ClickHouseClient, database: str, rows: int, seed: int = 1) -> None:
    """Fill the traced tables and the blob log.

    Args:
        rows: in all tables together. seed: the same seed gives the same rows.
    """
    _insert(client, database, rows, seed, offset=0)


def write_more(client: ClickHouseClient, database: str, share: float, seed: int = 2) -> int:
    """Write more rows, as a working day would.

    Args:
        share: of the rows that are there, for example 0.01.
    Returns: how many rows.
    """
    counts = " + ".join(f"(SELECT count() FROM {identifier(database)}.{table})" for table in _SHARES)
    there = int(client.command(f"SELECT {counts}"))
    rows = max(len(_SHARES), int(there * share))
    _insert(client, database, rows, seed, offset=(1 << 40) + there)  # never the same rows twice
    return rows


def _insert(client: ClickHouseClient, database: str, rows: int, seed: int, offset: int) -> None:
    phrases = ", ".join(f"'{phrase}'" for phrase in _PHRASES)
    projects = ", ".join(f"'{project}'" for project in PROJECTS)
    for table, share in _SHARES.items():
        columns, wanted = _SOURCES[table], max(1, int(rows * share))
        for start in range(0, wanted, _ROWS_AT_ONCE):
            client.command(
                f"INSERT INTO {identifier(database)}.{table} ({', '.join(columns)}) "
                f"WITH [{phrases}] AS phrases, [{projects}] AS projects, {seed} AS seed, number AS n, sipHash64(n, seed) AS h, "
                f"toDateTime64('{_BASE_TIME}', 3, 'UTC') AS at SELECT {', '.join(columns.values())} "
                f"FROM numbers({offset + start}, {min(_ROWS_AT_ONCE, wanted - start)})",
                _FAST_INSERT,
            )
