"""What langfuse-web does before it listens: both schemas, then the project of LANGFUSE_INIT_* (facts: apps.md 2.1, 2.5).

A ClickHouse schema that is newer than the program, or that a migration left dirty, ends the program with the message that the
original's migration tool has for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from uuid import uuid4

import psycopg

from blocks.clickhouse_client import identifier
from shared.sandbox import langfuse_clickhouse, langfuse_postgres
from shared.sandbox.langfuse_double.configuration import Stores
from shared.sandbox.langfuse_double.warehouse import Warehouse, WarehouseError

__all__ = ["MigrationFailed", "fast_hash", "migrate_clickhouse", "migrate_postgres", "newest_migration"]

_HEADS: Sequence[tuple[tuple[int, ...], int]] = (((3,), 37), ((3, 226), 38), ((4,), 46), ((4, 17), 47))
"""The newest ClickHouse migration from each version on: of v3.225.4 and v4.16.0, and one more in whatever comes after them."""

_COLUMNS = """
    project_id String,
    trace_id String,
    span_id String,
    parent_span_id Nullable(String),
    trace_name Nullable(String),
    user_id Nullable(String),
    session_id Nullable(String),
    tags Array(String),
    environment LowCardinality(String) DEFAULT 'default',
    type LowCardinality(String),
    name String,
    start_time DateTime64(3),
    end_time Nullable(DateTime64(3)),
    level LowCardinality(String) DEFAULT 'DEFAULT',
    status_message Nullable(String),
    provided_model_name Nullable(String),
    usage_details Map(LowCardinality(String), UInt64),
    metadata Map(LowCardinality(String), String),
    input Nullable(String) CODEC(ZSTD(3)),
    output Nullable(String) CODEC(ZSTD(3)),
    created_at DateTime64(3) DEFAULT now64(3),
    updated_at DateTime64(3) DEFAULT now64(3),
    event_ts DateTime64(3),
    is_deleted UInt8"""

_EVENTS = """({columns}
) ENGINE = ReplacingMergeTree(event_ts, is_deleted)
PARTITION BY toYYYYMM(start_time)
ORDER BY (project_id, toDate(start_time), trace_id, span_id)"""

_SHORT = 200

_BACKGROUND = {
    3: ("sandbox_backfill_trace_names", "sandbox_backfill_observation_costs"),
    4: ("sandbox_backfill_trace_names", "sandbox_backfill_observation_costs", "sandbox_events_historic_backfill"),
}
_GATED = "sandbox_events_historic_backfill"


class MigrationFailed(Exception):
    """The program must not listen."""


def fast_hash(secret_key: str, salt: str) -> str:
    """`fast_hashed_secret_key` of an API key (facts: apps.md 2.1, SALT)."""
    return sha256((secret_key + sha256(salt.encode()).hexdigest()).encode()).hexdigest()


def migrate_postgres(stores: Stores, *, major: int) -> None:
    """Create what is missing, background migrations included, and upsert organization, project and key, if there is a project.

    A key that is there stays as it is, also when its secret has changed.
    """
    langfuse_postgres.apply(stores.postgres_url)
    with psycopg.connect(stores.postgres_url, connect_timeout=10) as connection:
        for name in _BACKGROUND[major]:
            connection.execute(
                "INSERT INTO background_migrations (id, name, script, args) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                [str(uuid4()), name, name.removeprefix("sandbox_"), json.dumps({"envGate": "V4"} if name == _GATED else {})],
            )
        if stores.project:
            _initialize(connection, stores)


def _initialize(connection: psycopg.Connection[Any], stores: Stores) -> None:
    connection.execute(
        "INSERT INTO organizations (id, name) VALUES (%s, 'Sandbox') ON CONFLICT DO NOTHING", [stores.organization]
    )
    connection.execute(
        "INSERT INTO projects (id, org_id, name) VALUES (%s, %s, 'Sandbox') ON CONFLICT DO NOTHING",
        [stores.project, stores.organization],
    )
    hashed = fast_hash(stores.secret_key, stores.salt)
    connection.execute(
        "INSERT INTO api_keys (id, public_key, hashed_secret_key, fast_hashed_secret_key, display_secret_key, project_id) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        [str(uuid4()), stores.public_key, f"fast:{hashed}", hashed, f"sk-lf-...{stores.secret_key[-4:]}", stores.project],
    )


async def migrate_clickhouse(warehouse: Warehouse, database: str, *, version: str) -> None:
    """Create what is missing.

    Args:
        version: of Langfuse.
    Raises:
        MigrationFailed: the schema is dirty, or newer than this version knows.
        WarehouseError, httpx.TransportError: ClickHouse refuses, or does not answer.
    """
    head, (base, of_four) = newest_migration(version), (newest_migration("3"), newest_migration("4"))
    now, dirty = await _state(warehouse)
    if dirty:
        raise MigrationFailed(f"Dirty database version {now}. Fix and force version.")
    if now > head:
        raise MigrationFailed(f"no migration found for version {now}: read down for version {now} .: file does not exist")
    if now == 0:
        for statement in langfuse_clickhouse.schema(database):
            await warehouse.run(statement)
        await _record(warehouse, base)
    if now < of_four <= head:
        for statement in _events(identifier(database)):
            await warehouse.run(statement)
        await _record(warehouse, of_four)
    if head not in (base, of_four) and now < head:
        await warehouse.run(f"ALTER TABLE {identifier(database)}.traces MODIFY COMMENT 'since migration {head}'")
        await _record(warehouse, head)


def newest_migration(version: str) -> int:
    """The newest ClickHouse migration that a version of Langfuse knows."""
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    return max(head for since, head in _HEADS if since <= numbers)


def _events(database: str) -> list[str]:
    """The one table that v4 writes to, and the one with short texts that a view fills."""
    short = ", ".join(f"left({name}, {_SHORT}) AS {name}" for name in ("input", "output"))
    return [
        f"CREATE TABLE IF NOT EXISTS {database}.{table} {_EVENTS.format(columns=_COLUMNS)}"
        for table in ("events_full", "events_core")
    ] + [
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.events_core_mv TO {database}.events_core AS "
        f"SELECT * REPLACE({short}) FROM {database}.events_full"
    ]


async def _state(warehouse: Warehouse) -> tuple[int, bool]:
    """The version of the schema and whether it is dirty; 0 where there is none."""
    try:
        rows = await warehouse.select("SELECT version, dirty FROM schema_migrations ORDER BY sequence DESC LIMIT 1")
    except WarehouseError as error:
        if "UNKNOWN_TABLE" in str(error):
            return 0, False
        raise
    return (int(rows[0]["version"]), bool(rows[0]["dirty"])) if rows else (0, False)


async def _record(warehouse: Warehouse, version: int) -> None:
    await warehouse.run(
        "INSERT INTO schema_migrations "
        f"SELECT {version}, clean = 0, (SELECT max(sequence) FROM schema_migrations) + 1 + clean "
        "FROM (SELECT arrayJoin([0, 1]) AS clean)"
    )
