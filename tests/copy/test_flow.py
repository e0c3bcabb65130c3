"""The whole flow on the whole stack: copied, the first store lost, drilled and restored from the copy, brought back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from blocks.errors import IntegrityError
from blocks.object_store import BackupStore
from flows.catalogue import Entry
from flows.copy import catalogue as copies
from flows.copy.flow import CopyRequest, copy
from shared.sandbox.stack import Sandbox
from tests.copy.lab import sets_and_packs
from tests.nights.night import Night

pytestmark = pytest.mark.long

TABLES = ("copy_flow_a", "copy_flow_b")


@pytest.fixture(scope="module")
def night(sandbox: Sandbox) -> Iterator[Night]:
    """The sandbox with a few rows in each engine, and one set of them."""
    night = Night(sandbox)
    night.reset()
    second(night).remove([item.key for item in second(night).list("")])
    url = sandbox.postgres.url("langfuse")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE copy_flow_a AS SELECT n AS id FROM generate_series(1, 1000) n")
    with night.clickhouse.client() as client:
        client.command("CREATE TABLE langfuse.copy_flow_b (id UInt64) ENGINE = MergeTree ORDER BY id")
        client.command("INSERT INTO langfuse.copy_flow_b SELECT number FROM numbers(1000)")
    night.call("backup")
    yield night
    night.reset()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS copy_flow_a")
    with night.clickhouse.client() as client:
        client.command("DROP TABLE IF EXISTS langfuse.copy_flow_b SYNC")


def second(night: Night) -> BackupStore:
    """The second store."""
    return night.stack.need_copy()


def run(night: Night, **request: Any) -> list[str]:
    """Run the flow in this process."""
    with night.as_worker():
        return copy(CopyRequest(**request))


def copied(night: Night) -> Entry:
    """The one copy there is, made if there is none."""
    if not copies.read(night.stack).entries:
        run(night)
    (entry,) = copies.read(night.stack).entries
    return entry


def test_a_lost_store_is_drilled_restored_and_brought_back_from_the_second_one(night: Night) -> None:
    manifest = night.newest()
    original = sets_and_packs(night.store)
    assert run(night, dry_run=True) == [manifest.id]
    assert list(second(night).list("")) == []
    assert run(night, verify=True) == [manifest.id]
    assert run(night) == []
    shown = night.sandbox.artifact("copy-sandbox")
    assert shown is not None
    assert f"Kept: {manifest.id}" in shown

    night.store.remove([item.key for item in night.store.list("")])
    assert night.sets() == []
    night.call("drill", source="copy")
    (entry,) = copies.read(night.stack).entries
    assert entry.drill is not None
    assert entry.facts().drilled_at is not None

    night.execute("DROP DATABASE langfuse WITH (FORCE)")
    night.clickhouse_query("SELECT 1")
    with night.clickhouse.client() as client:
        client.command("TRUNCATE TABLE langfuse.copy_flow_b")
    parts = ["postgres/langfuse", "clickhouse"]
    night.call("restore", source="copy", components=parts, replace=True, confirm="sandbox")
    assert night.differences(manifest) == []
    assert [key for key in night.objects() if "/sets/" in key or key.endswith(".backup")] == []
    night.call("restore", action="forget", confirm="sandbox")

    assert run(night, action="bring-back", confirm="sandbox") == [manifest.id]
    assert original.items() - {i for i in original.items() if "checks.json" in i[0]} <= sets_and_packs(night.store).items()
    night.call("drill", components=["clickhouse"])


def test_damage_in_the_second_store_is_found_by_reading_it_back_and_named(night: Night) -> None:
    entry = copied(night)
    key = next(item.key for item in second(night).list("") if item.key.endswith(".dump.zst.age"))
    data = second(night).get(key)
    second(night).put(key, data[:-1] + b"x")
    with pytest.raises(IntegrityError, match=rf"1 copies are damaged; {entry.id}: .*dump.zst.age is not what was written"):
        run(night, verify=True)
    assert not copies.read(night.stack).entries[0].good
    second(night).put(key, data)
    run(night, verify=True)
    assert copies.read(night.stack).entries[0].good


def test_after_a_failure_nothing_is_deleted_in_the_second_store_and_the_next_run_goes_on(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = copied(night)
    night.call("backup", components=["postgres/langfuse"])
    newest = night.newest()
    for kind, number in {"LAST": "1", "DAILY": "0", "WEEKLY": "0", "MONTHLY": "0", "YEARLY": "0"}.items():
        monkeypatch.setitem(night.environment, f"COPY_KEEP_{kind}", number)
    half = f"{second(night).root}sets/20200101T000000Z-killed/postgres/x.dump.zst.age"
    second(night).put(half, b"")
    monkeypatch.setitem(night.environment, "BACKUP_GRACE_HOURS", "0")
    dump = f"sets/{newest.id}/{newest.postgres[0].object.key}"
    with night.tampered(night.store.root + dump, b"damaged"), pytest.raises(IntegrityError) as failure:
        run(night)
    assert str(failure.value).startswith(f"copy: 1 sets were not copied; {newest.id}: {dump}: the stored object is not")
    assert [one.id for one in copies.read(night.stack).entries] == [entry.id]
    assert second(night).find(half) is not None
    assert run(night) == [newest.id]
    assert [one.id for one in copies.read(night.stack).entries] == [newest.id, entry.id], "the drilled one stays"
    assert second(night).find(half) is None
