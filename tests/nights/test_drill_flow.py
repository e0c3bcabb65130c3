"""Whole drills: what equals is proven, what does not is named, and the scratch is gone either way."""

from __future__ import annotations

import psycopg
import pytest

from blocks.errors import DrillFailed, IntegrityError
from flows import catalogue
from flows.buckets.pack_ids import pack_ids
from flows.buckets.packs import pack_key
from tests.nights.night import Night


@pytest.fixture(scope="module")
def backed_up(loaded: Night) -> Night:
    """The stack with one set of everything."""
    loaded.reset()
    loaded.call("backup")
    return loaded


def newest(night: Night) -> catalogue.Entry:
    """The newest set, as the catalogue sees it."""
    return catalogue.read(night.store, night.stack.keys).entries[0]


def shown(night: Night) -> str:
    """The catalogue artifact."""
    return night.sandbox.artifact("catalogue-sandbox") or ""


@pytest.mark.long
def test_a_drill_of_a_part_is_never_shown_as_a_proof(backed_up: Night) -> None:
    backed_up.call("drill", components=["postgres/langfuse"])
    entry = newest(backed_up)
    assert entry.drill is not None
    assert not entry.drill.full
    assert entry.facts().drilled_at is None
    assert "not a proof" in shown(backed_up)


def test_a_drill_of_everything_marks_the_set_as_proven_and_leaves_no_scratch(backed_up: Night) -> None:
    backed_up.call("drill")
    entry = newest(backed_up)
    assert entry.drill is not None
    assert entry.drill.ok
    assert entry.drill.full
    assert backed_up.scratch() == []
    assert "proven" in shown(backed_up)


@pytest.mark.long
def test_a_drill_on_the_live_server_drops_its_scratch_databases(backed_up: Night) -> None:
    backed_up.call("drill", scratch="server")
    assert not any("__drill_" in name for name in (*backed_up.databases(), *backed_up.clickhouse_databases()))
    assert backed_up.differences(backed_up.newest()) == []


@pytest.mark.long
@pytest.mark.parametrize("what", ["postgres", "definitions", "clickhouse"])
def test_a_truncated_object_fails_the_drill_by_name_and_the_scratch_is_dropped(backed_up: Night, what: str) -> None:
    manifest = backed_up.manifest(backed_up.sets()[0])
    assert manifest.definitions is not None
    damaged = {
        "postgres": manifest.postgres[0].object.key,
        "definitions": manifest.definitions.key,
        "clickhouse": next(key for key in backed_up.objects() if key.endswith("data.bin")).split(f"{manifest.id}/")[1],
    }[what]
    key = f"{backed_up.store.root}sets/{manifest.id}/{damaged}"
    with (
        backed_up.tampered(key, backed_up.store.get(key)[:-10]),
        pytest.raises(DrillFailed, match=r"do not rely on this set") as failure,
    ):
        backed_up.call("drill", set_id=manifest.id)
    assert damaged.rsplit("/", 1)[-1] in str(failure.value)
    assert not newest(backed_up).good
    assert backed_up.scratch() == []
    assert "FAILED" in shown(backed_up)


@pytest.mark.long
def test_writers_go_on_during_the_backup_and_the_drill_still_equals_the_manifest(night: Night) -> None:
    with night.writers() as written:
        night.call("backup")
    assert written.rows > 0
    manifest = night.newest()
    night.call("drill")
    with psycopg.connect(night.sandbox.postgres.url("litellm")) as connection:
        row = connection.execute('SELECT count(*) FROM "LiteLLM_SpendLogs"').fetchone()
    table = next(t for c in manifest.postgres for t in c.tables if t.name == 'public."LiteLLM_SpendLogs"')
    assert row is not None
    assert table.rows < row[0], "nothing was written after the snapshot, so this proved nothing"


@pytest.mark.long
def test_references_that_led_nowhere_at_the_backup_do_not_fail_the_drill_but_a_lost_pack_does(night: Night) -> None:
    lost = next(item.key for item in night.source.list("media/"))
    data = night.source.get(lost)
    night.source.remove([lost])
    night.clickhouse_command("INSERT INTO langfuse.traces (id, project_id, timestamp) VALUES ('t', 'prj-gone', now64(3))")
    try:
        night.call("backup")
    finally:
        night.source.put(lost, data)
        night.clickhouse_command("ALTER TABLE langfuse.traces DELETE WHERE project_id = 'prj-gone' SETTINGS mutations_sync = 1")
    manifest = night.newest()
    assert {item.name: (item.count, item.examples) for item in manifest.dangling} == {
        "clickhouse projects without postgres project": (1, ["prj-gone"]),
        "finished media without object": (1, [lost]),
    }
    assert night.call("drill").full
    pack = pack_key(night.store, next(pack_ids(manifest.buckets[0].pack_ids)))
    night.store.remove([pack])
    with pytest.raises(DrillFailed, match=r"bucket langfuse: pack \S+: expected \d+ bytes, found nothing"):
        night.call("drill", components=["bucket"])
    with pytest.raises(IntegrityError, match=r"verify: \S+: pack \S+ is missing"):
        night.call("verify")
    assert night.sets() == [manifest.id]
    assert not night.entries()[0].good


@pytest.mark.long
def test_the_next_backup_reads_only_what_is_new_in_the_bucket(night: Night) -> None:
    night.call("backup", components=["bucket"])
    night.source.put("events/new.json", b"{}")
    night.call("backup", components=["bucket"])
    first, second = (night.manifest(set_id).buckets[0] for set_id in reversed(night.sets()))
    night.source.remove(["events/new.json"])
    assert (second.objects, second.new_objects) == (first.objects + 1, 1)
    assert second.pack_ids.keys() == {*night.sets()}
