"""Whole restores on the whole stack: previewed, refused, swapped, undone, and killed before and after the swap."""

from __future__ import annotations

import psycopg
import pytest

from blocks.keys import BackupKeys
from tests.nights.night import CLICKHOUSE_DATABASE, Night

LANGFUSE = {"components": ["postgres/langfuse"], "replace": True, "confirm": "sandbox"}


@pytest.fixture
def backed_up(night: Night) -> Night:
    """The stack with one set of everything."""
    night.run("backup")
    return night


def test_what_a_disaster_took_comes_back_equal_to_the_manifest(backed_up: Night) -> None:
    with psycopg.connect(backed_up.sandbox.postgres.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE langfuse WITH (FORCE)")
    with backed_up.clickhouse.client() as client:
        client.command(f"TRUNCATE TABLE {CLICKHOUSE_DATABASE}.observations")
    request = {"components": ["postgres/langfuse", "clickhouse"], "replace": True, "confirm": backed_up.stack.name}
    backed_up.run("restore", request)
    assert backed_up.differences(backed_up.newest()) == []
    backed_up.run("restore", {"action": "forget", "confirm": backed_up.stack.name})
    assert [name for name in backed_up.databases() if "__" in name] == []
    assert [name for name in backed_up.clickhouse_databases() if "__" in name] == []


def test_a_dry_run_says_what_would_happen_and_changes_nothing(backed_up: Night) -> None:
    before = (backed_up.databases(), backed_up.clickhouse_databases(), backed_up.objects())
    flow = backed_up.run("restore", {"dry_run": True, "replace": True})
    assert "postgres langfuse: " in flow.output
    assert "is kept as langfuse__kept_" in flow.output
    assert (backed_up.databases(), backed_up.clickhouse_databases(), backed_up.objects()) == before


def test_live_data_is_not_replaced_unless_that_was_asked_for(backed_up: Night) -> None:
    output = backed_up.refused("restore", {"components": ["postgres/langfuse"], "confirm": backed_up.stack.name})
    assert "postgres langfuse exists and holds data; set replace" in output


def test_a_confirmation_for_another_stack_is_refused(backed_up: Night) -> None:
    output = backed_up.refused("restore", {**LANGFUSE, "confirm": "production"})
    assert "confirmed for 'production', but this is the stack" in output


def test_a_restore_killed_before_its_swap_left_the_live_database_alone(backed_up: Night) -> None:
    manifest = backed_up.newest()
    flow = backed_up.start("restore", {**LANGFUSE, "confirm": backed_up.stack.name})
    flow.kill_when(lambda: any("langfuse__restore_" in n for n in backed_up.databases()), "it is staged beside the live one")
    assert not any("__kept_" in name for name in backed_up.databases())
    assert backed_up.differences(manifest) == []
    backed_up.run("restore", {**LANGFUSE, "confirm": backed_up.stack.name})
    assert backed_up.differences(manifest) == []
    assert not any("__restore_" in name for name in backed_up.databases())


def test_a_restore_killed_after_its_swap_is_finished_by_the_next_run(backed_up: Night) -> None:
    manifest = backed_up.newest()
    request = {"components": ["postgres", "clickhouse"], "replace": True, "confirm": backed_up.stack.name}
    flow = backed_up.start("restore", request)
    flow.kill_when(lambda: any("__kept_" in name for name in backed_up.databases()), "a database was swapped")
    backed_up.run("restore", {"action": "finish"})
    assert backed_up.differences(manifest) == []
    assert not any("__restore_" in name for name in backed_up.databases())
    with psycopg.connect(backed_up.sandbox.postgres.url("langfuse")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_undo_puts_back_what_was_there_and_says_what_it_discards(backed_up: Night) -> None:
    url = backed_up.sandbox.postgres.url("langfuse")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE written_since (id int)")
    backed_up.run("restore", {**LANGFUSE, "confirm": backed_up.stack.name})
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('written_since')").fetchone() == (None,)
    flow = backed_up.run("restore", {"action": "undo", "confirm": backed_up.stack.name})
    assert "Writes made since the restore leave the live database" in flow.output
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT to_regclass('written_since')").fetchone() == ("written_since",)
        connection.execute("DROP TABLE written_since")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LITELLM_SALT_KEY", "sk-another", "LITELLM_SALT_KEY here is not the one this set was written with"),
        ("BACKUP_AGE_IDENTITY", "", "no age identity here; set BACKUP_AGE_IDENTITY"),
    ],
)
def test_wrong_or_missing_keys_are_refused(backed_up: Night, variable: str, value: str, message: str) -> None:
    with backed_up.other_settings(**{variable: value}):
        output = backed_up.refused("restore", {**LANGFUSE, "confirm": backed_up.stack.name})
    assert message in output
    assert not any("__restore_" in name for name in backed_up.databases())


def test_another_age_key_is_refused(backed_up: Night) -> None:
    stranger = backed_up.new_identity()
    recipient = BackupKeys(recipients=["unused"], identity=stranger).own_recipient()
    with backed_up.other_settings(BACKUP_AGE_IDENTITY=stranger, BACKUP_AGE_RECIPIENTS=recipient):
        output = backed_up.refused("restore", {**LANGFUSE, "confirm": backed_up.stack.name})
    assert "it was encrypted to other keys" in output


def test_a_manifest_that_was_changed_is_refused(backed_up: Night) -> None:
    manifest = backed_up.newest()
    key = f"{backed_up.store.root}sets/{manifest.id}/manifest.json"
    changed = manifest.model_copy(update={"label": "harmless"})
    backed_up.store.put(key, changed.to_json())
    output = backed_up.refused("restore", {**LANGFUSE, "set_id": manifest.id, "confirm": backed_up.stack.name})
    assert "signature does not fit" in output


def test_an_exchanged_object_is_refused_before_anything_is_restored(backed_up: Night) -> None:
    manifest = backed_up.newest()
    prefix = f"{backed_up.store.root}sets/{manifest.id}/"
    ours, other = (next(c for c in manifest.postgres if c.name == name).object.key for name in ("langfuse", "litellm"))
    backed_up.store.put(prefix + ours, backed_up.store.get(prefix + other))
    output = backed_up.refused("restore", {**LANGFUSE, "confirm": backed_up.stack.name})
    assert f"{ours}: the stored object is not the one that was backed up" in output
    assert not any("__restore_" in name for name in backed_up.databases())
