"""Whole drills: what equals is proven, what does not is named, and the scratch is gone either way."""

from __future__ import annotations

import psycopg

from flows import catalogue
from tests.nights.night import Night


def test_a_drill_of_everything_marks_the_set_as_proven_and_leaves_no_scratch(night: Night) -> None:
    night.run("backup")
    night.run("drill")
    entry = catalogue.read(night.store, night.stack.keys).entries[0]
    assert entry.drill is not None
    assert entry.drill.ok
    assert entry.drill.full
    assert night.scratch() == []
    shown = night.sandbox.artifact(f"catalogue-{night.stack.name}")
    assert shown is not None
    assert "proven" in shown


def test_a_drill_of_a_part_is_never_shown_as_a_proof(night: Night) -> None:
    night.run("backup", {"components": ["postgres"]})
    night.run("drill", {"components": ["postgres/langfuse"]})
    entry = catalogue.read(night.store, night.stack.keys).entries[0]
    assert entry.drill is not None
    assert not entry.drill.full
    assert entry.facts().drilled_at is None
    shown = night.sandbox.artifact(f"catalogue-{night.stack.name}")
    assert shown is not None
    assert "not a proof" in shown


def test_a_truncated_object_fails_the_drill_by_name_and_the_scratch_is_dropped(night: Night) -> None:
    night.run("backup", {"components": ["postgres/langfuse"]})
    manifest = night.newest()
    key = f"{night.store.root}sets/{manifest.id}/{manifest.postgres[0].object.key}"
    night.store.put(key, night.store.get(key)[:-100])
    output = night.refused("drill")
    assert manifest.postgres[0].object.key in output
    assert "do not rely on this set" in output
    entry = catalogue.read(night.store, night.stack.keys).entries[0]
    assert not entry.good
    assert night.scratch() == []


def test_a_drill_on_the_live_server_drops_its_scratch_databases(night: Night) -> None:
    night.run("backup", {"components": ["postgres/langfuse", "clickhouse"]})
    night.run("drill", {"scratch": "server"})
    assert not any("__drill_" in name for name in (*night.databases(), *night.clickhouse_databases()))
    assert night.differences(night.newest()) == []


def test_writers_go_on_during_the_backup_and_the_drill_still_equals_the_manifest(night: Night) -> None:
    with night.writers() as written:
        night.run("backup")
    assert written.rows > 0
    manifest = night.newest()
    night.run("drill")
    with psycopg.connect(night.sandbox.postgres.url("litellm")) as connection:
        row = connection.execute('SELECT count(*) FROM "LiteLLM_SpendLogs"').fetchone()
    table = next(t for c in manifest.postgres for t in c.tables if "SpendLogs" in t.name and "Index" not in t.name)
    assert row is not None
    assert table.rows < row[0], "nothing was written after the snapshot, so this proved nothing"
