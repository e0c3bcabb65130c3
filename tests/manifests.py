"""Backup sets as values, without engines: for what is about sets and not about what is in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.settings import Settings
from flows.backup.manifest import (
    ClickHouseDatabase,
    ClickHouseTable,
    Component,
    DatabaseProperties,
    Manifest,
    PostgresDatabase,
    PostgresGlobals,
    Signature,
    StoredObject,
    TableContent,
)
from flows.catalogue import manifest_key, set_prefix
from flows.stack import Stack

NIGHT = datetime(2026, 11, 23, 3, tzinfo=UTC)
PROPERTIES = DatabaseProperties(owner="litellm", encoding="UTF8", locale_provider="libc", collate="C.UTF-8", ctype="C.UTF-8")


def stored(key: str, data: bytes = b"data") -> StoredObject:
    """Describe an object."""
    digest = hashlib.sha256(data).hexdigest()
    return StoredObject(key=key, bytes=len(data), sha256=digest, plain_bytes=len(data), plain_sha256=digest)


def postgres(name: str = "litellm", **changes: Any) -> PostgresDatabase:
    """Describe a Postgres database."""
    fields: dict[str, Any] = {
        "name": name,
        "object": stored("postgres/litellm.dump.zst.age"),
        "server_version": "16.9",
        "server_major": 16,
        "client_version": "16.9",
        "database_bytes": 10_000_000,
        "properties": PROPERTIES,
        "tables": [TableContent(name='public."LiteLLM_SpendLogs"', method="full", rows=3, checksum="17")],
        "started_at": NIGHT,
        "finished_at": NIGHT + timedelta(seconds=10),
    }
    return PostgresDatabase(**(fields | changes))


def clickhouse(name: str = "langfuse", **changes: Any) -> ClickHouseDatabase:
    """Describe a ClickHouse database."""
    fields: dict[str, Any] = {
        "name": name,
        "path": f"clickhouse/{name}/",
        "server_version": "25.8.26.8",
        "engine": "Atomic",
        "bytes": 4,
        "plain_bytes": 1000,
        "index": stored(f"clickhouse/{name}.index.json.zst"),
        "backup_file_sha256": "0" * 64,
        "tables": [ClickHouseTable(name="traces", engine="ReplacingMergeTree", ddl="CREATE TABLE traces", has_data=True)],
        "started_at": NIGHT,
        "finished_at": NIGHT + timedelta(seconds=10),
    }
    return ClickHouseDatabase(**(fields | changes))


def roles() -> PostgresGlobals:
    """Describe the roles of a server."""
    return PostgresGlobals(object=stored("postgres/globals.sql.zst.age"), roles=["litellm"])


def manifest(
    created_at: datetime = NIGHT, *, stack: str = "test", components: Iterable[Component] | None = None, **changes: Any
) -> Manifest:
    """Make an unsigned manifest; its id is made of its time."""
    fields: dict[str, Any] = {
        "id": f"{created_at:%Y%m%dT%H%M%SZ}-abcdef",
        "stack": stack,
        "created_at": created_at,
        "committed_at": created_at + timedelta(minutes=5),
        "project_version": "0.1.0",
        "lease_token": 1,
        "recipients": ["age1recipient"],
        "components": [postgres(), roles()] if components is None else list(components),
    }
    return Manifest(**(fields | changes))


def signed(draft: Manifest, keys: BackupKeys) -> Manifest:
    """Sign a manifest."""
    public_key, value = keys.sign(draft.signed_bytes())
    return draft.model_copy(update={"signature": Signature(public_key=public_key, value=value)})


def commit(store: BackupStore, keys: BackupKeys, created_at: datetime = NIGHT, **changes: Any) -> Manifest:
    """Put a set into the store: a manifest and an object."""
    made = signed(manifest(created_at, stack=store.stack, **changes), keys)
    store.put(set_prefix(store, made.id) + "postgres/litellm.dump.zst.age", b"data")
    store.put(manifest_key(store, made.id), made.to_json())
    return made


def stack_of(store: BackupStore, keys: BackupKeys) -> Stack:
    """Make a stack that is nothing but a store."""
    return Stack(
        name=store.stack,
        settings=Settings(),
        store=store,
        keys=keys,
        postgres=None,
        postgres_admin=None,
        clickhouse=None,
        redis=None,
    )
