"""Whole restores on the whole stack: previewed, refused, swapped, undone, and killed before and after the swap."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest

from blocks.errors import ApprovalMissing, IntegrityError, RestoreRefused, SettingsError, StackError
from blocks.keys import BackupKeys
from shared.engines.process import wait_until
from tests.nights.night import CLICKHOUSE_DATABASE, Night

LANGFUSE: dict[str, Any] = {"components": ["postgres/langfuse"], "replace": True, "confirm": "sandbox"}


@pytest.fixture(scope="module")
def backed_up(loaded: Night) -> Night:
    """The stack with one set of everything; each test leaves live data that equals it."""
    loaded.reset()
    loaded.call("backup")
    return loaded


def side_databases(night: Night) -> list[str]:
    """Databases that restores made beside the live ones."""
    return [name for name in (*night.databases(), *night.clickhouse_databases()) if "__" in name]


def test_what_a_disaster_took_comes_back_equal_to_the_manifest(backed_up: Night) -> None:
    backed_up.execute("DROP DATABASE langfuse WITH (FORCE)")
    with backed_up.clickhouse.client() as client:
        client.command(f"TRUNCATE TABLE {CLICKHOUSE_DATABASE}.observations")
    backed_up.call("restore", components=["postgres/langfuse", "clickhouse"], replace=True, confirm="sandbox")
    assert backed_up.differences(backed_up.newest()) == []
    backed_up.call("restore", action="forget", confirm="sandbox")
    assert side_databases(backed_up) == []


def test_a_dry_run_says_what_would_happen_and_changes_nothing(backed_up: Night) -> None:
    before = (backed_up.databases(), backed_up.clickhouse_databases(), backed_up.objects())
    assert backed_up.call("restore", dry_run=True, replace=True) is None
    plan = backed_up.sandbox.artifact("restore-plan-sandbox")
    assert plan is not None
    assert "postgres langfuse: " in plan
    assert "is kept as langfuse__kept_" in plan
    assert (backed_up.databases(), backed_up.clickhouse_databases(), backed_up.objects()) == before


def test_live_data_is_not_replaced_unless_that_was_asked_for(backed_up: Night) -> None:
    with pytest.raises(RestoreRefused, match=r"postgres langfuse exists and holds data; set replace"):
        backed_up.call("restore", **LANGFUSE | {"replace": False})


def test_a_confirmation_for_another_stack_is_refused(backed_up: Night) -> None:
    with pytest.raises(ApprovalMissing, match=r"confirmed for 'production', but this is the stack 'sandbox'"):
        backed_up.call("restore", **LANGFUSE | {"confirm": "production"})


@pytest.mark.long
def test_a_restore_killed_before_its_swap_left_the_live_database_alone(backed_up: Night) -> None:
    manifest = backed_up.newest()
    flow = backed_up.start("restore", LANGFUSE)
    flow.kill_when(lambda: any("langfuse__restore_" in n for n in backed_up.databases()), "it is staged beside the live one")
    assert not any("__kept_" in name for name in backed_up.databases())
    assert backed_up.differences(manifest) == []
    backed_up.call("restore", **LANGFUSE)
    assert backed_up.differences(manifest) == []
    assert not any("__restore_" in name for name in backed_up.databases())
    backed_up.call("restore", action="forget", confirm="sandbox")


@pytest.mark.long
def test_a_restore_killed_after_its_swap_began_is_finished_by_the_next_run(backed_up: Night) -> None:
    manifest = backed_up.newest()
    request = {"components": ["postgres", "clickhouse"], "replace": True, "confirm": "sandbox"}
    flow = backed_up.start("restore", request)
    flow.kill_when(lambda: any("__kept_" in name for name in backed_up.databases()), "a database was swapped")
    backed_up.call("restore", action="finish")
    assert backed_up.differences(manifest) == []
    assert not any("__restore_" in name for name in backed_up.databases())
    with psycopg.connect(backed_up.sandbox.postgres.url("langfuse")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    backed_up.call("restore", action="forget", confirm="sandbox")


@pytest.mark.long
def test_undo_puts_back_what_was_there_and_says_what_it_discards(backed_up: Night) -> None:
    url = backed_up.sandbox.postgres.url("langfuse")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE written_since (id int)")
    backed_up.call("restore", **LANGFUSE)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regclass('written_since')").fetchone() == (None,)
    flow = backed_up.run("restore", {"action": "undo", "confirm": "sandbox"})
    assert "Writes made since the restore leave the live database" in flow.output
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT to_regclass('written_since')").fetchone() == ("written_since",)
        connection.execute("DROP TABLE written_since")
    backed_up.call("restore", action="forget", confirm="sandbox")


@pytest.mark.parametrize(
    ("variable", "value", "error", "message"),
    [
        ("LITELLM_SALT_KEY", "sk-another", RestoreRefused, "LITELLM_SALT_KEY here is not the one this set was written with"),
        ("BACKUP_AGE_IDENTITY", "", SettingsError, "no age identity here; set BACKUP_AGE_IDENTITY"),
    ],
)
def test_wrong_or_missing_keys_are_refused(
    backed_up: Night, variable: str, value: str, error: type[StackError], message: str
) -> None:
    with backed_up.other_settings(**{variable: value}), pytest.raises(error, match=message):
        backed_up.call("restore", **LANGFUSE)
    assert side_databases(backed_up) == []


def test_another_age_key_is_refused(backed_up: Night) -> None:
    stranger = backed_up.new_identity()
    recipient = BackupKeys(recipients=["unused"], identity=stranger).own_recipient()
    with (
        backed_up.other_settings(BACKUP_AGE_IDENTITY=stranger, BACKUP_AGE_RECIPIENTS=recipient),
        pytest.raises(IntegrityError, match="it was encrypted to other keys"),
    ):
        backed_up.call("restore", **LANGFUSE)


def test_a_manifest_that_was_changed_is_refused(backed_up: Night) -> None:
    key = f"{backed_up.store.root}sets/{backed_up.newest().id}/manifest.json"
    changed = backed_up.store.get(key).replace(b'"label": ""', b'"label": "harmless"')
    with backed_up.tampered(key, changed), pytest.raises(RestoreRefused, match="signature does not fit"):
        backed_up.call("restore", **LANGFUSE | {"set_id": key.split("/")[-2]})


def test_an_exchanged_object_is_refused_before_anything_is_restored(backed_up: Night) -> None:
    manifest = backed_up.newest()
    prefix = f"{backed_up.store.root}sets/{manifest.id}/"
    ours, other = (next(c for c in manifest.postgres if c.name == name).object.key for name in ("langfuse", "litellm"))
    with (
        backed_up.tampered(prefix + ours, backed_up.store.get(prefix + other)),
        pytest.raises(IntegrityError, match=f"{ours}: the stored object is not the one that was backed up"),
    ):
        backed_up.call("restore", **LANGFUSE)
    assert side_databases(backed_up) == []


@pytest.mark.long
def test_without_confirmation_the_run_pauses_and_goes_on_when_a_person_approves(backed_up: Night) -> None:
    run_id = backed_up.sandbox.api.start_run("restore/on-demand", {"request": LANGFUSE | {"confirm": ""}})
    backed_up.sandbox.api.wait_for_state(run_id, "PAUSED")
    assert side_databases(backed_up) == []
    backed_up.resume(run_id, {"decision": "approve", "confirm": "sandbox"})
    assert backed_up.sandbox.api.wait(run_id).ok
    assert backed_up.differences(backed_up.newest()) == []
    muted = re.compile(r"maintenance window \S+ for postgres, .*langfuse-web.* until ")
    wait_until(lambda: bool(muted.search(backed_up.sandbox.flow_logs(run_id))), timeout=30, what="the swap to be announced")
    backed_up.call("restore", action="forget", confirm="sandbox")


@pytest.mark.long
def test_a_rejected_run_changes_nothing(backed_up: Night) -> None:
    run_id = backed_up.sandbox.api.start_run("restore/on-demand", {"request": LANGFUSE | {"confirm": ""}})
    backed_up.sandbox.api.wait_for_state(run_id, "PAUSED")
    backed_up.resume(run_id, {"decision": "reject", "confirm": ""})
    result = backed_up.sandbox.api.wait(run_id)
    assert result.state_type == "FAILED"
    assert "rejected; nothing was changed" in result.message
    assert side_databases(backed_up) == []


@pytest.mark.long
def test_a_restore_of_everything_puts_objects_back_and_its_undo_takes_them_away(night: Night) -> None:
    night.call("backup")
    before = night.bucket()
    lost, altered = "events/new.json", next(key for key in before if key.startswith("media/"))
    data = night.source.get(altered)
    night.source.remove([key for key in before if key.startswith("events/")][:20])
    night.source.put(altered, b"overwritten")
    night.source.put(lost, b"written since")
    damaged = night.bucket()
    try:
        with pytest.raises(RestoreRefused, match="bucket langfuse has 1 objects that differ from the set's; set replace"):
            night.call("restore", components=["bucket"], confirm="sandbox")
        journal = night.call("restore", replace=True, confirm="sandbox")
        assert journal.buckets == ["langfuse"]
        assert night.bucket() == before | {lost: damaged[lost]}
        night.call("restore", action="undo", confirm="sandbox")
        assert night.bucket() == damaged
        night.call("restore", action="forget", confirm="sandbox")
        assert not [key for key in night.objects() if "/kept/" in key]
    finally:
        night.source.remove([lost])
        night.source.put(altered, data)
        night.call("restore", components=["bucket"], replace=True, confirm="sandbox")
    assert night.bucket() == before
