"""Whole backups on the whole stack: by the CLI and a worker, twice at once, and killed at the worst moments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from blocks.errors import BackupFailed, LeaseHeld
from flows.lease import acquire
from shared.engines.process import wait_until
from shared.sandbox.stack import ROOT
from tests.nights.night import CLICKHOUSE_DATABASE, Night


def test_backup_nightly_started_by_the_cli_completes_and_leaves_its_artifacts(night: Night) -> None:
    command = [sys.executable, "-m", "prefect", "deployment", "run", "backup/nightly", "--watch"]
    done = subprocess.run(
        command, env=night.sandbox.environment(), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    manifest = night.newest()
    assert manifest.label == "nightly"
    assert {c.name for c in manifest.postgres} == {"litellm", "langfuse"}
    assert [c.name for c in manifest.clickhouse] == [CLICKHOUSE_DATABASE]
    assert night.merges_stopped() == []
    catalogue = night.sandbox.artifact(f"catalogue-{night.stack.name}")
    assert catalogue is not None
    assert manifest.id in catalogue
    summary = night.sandbox.artifact(f"backup-{night.stack.name}")
    assert summary is not None
    assert "postgres litellm" in summary


@pytest.mark.long
def test_two_backups_at_once_take_turns_and_both_commit(night: Night) -> None:
    first = night.start("backup")
    second = night.start("backup", {"components": ["postgres/langfuse"]})
    assert first.wait() == 0, first.output
    assert second.wait() == 0, second.output
    tokens = [entry.lease_token for entry in map(night.manifest, night.sets())]
    assert len(set(tokens)) == 2


def test_a_backup_that_may_not_wait_is_refused_with_the_name_of_the_holder(night: Night) -> None:
    lease = acquire(night.store, flow="restore", holder="run 17", seconds=60, wait=0)
    night.environment["BACKUP_LOCK_WAIT_SECONDS"] = "0"
    try:
        with pytest.raises(LeaseHeld, match=r"the stack's lock is held by restore \(run 17\)"):
            night.call("backup", components=["postgres/langfuse"])
    finally:
        night.environment["BACKUP_LOCK_WAIT_SECONDS"] = "120"
        lease.release()
    assert night.sets() == []


@pytest.mark.long
def test_a_flow_killed_while_it_dumps_postgres_leaves_no_set_and_the_next_run_succeeds(night: Night) -> None:
    flow = night.start("backup", {"components": ["postgres"]})
    flow.kill_when(lambda: night.uploading("litellm.dump.zst.age"), "the dump is being uploaded")
    assert night.sets() == []
    night.call("backup", components=["postgres"])
    assert len(night.sets()) == 1
    night.call("prune", grace_hours=0)
    assert night.halves() == []
    assert list(night.store.uploads(night.store.root)) == []
    assert len(night.sets()) == 1


def killed_with_merges_stopped(night: Night) -> None:
    """Kill a backup between ClickHouse's first file and its last, when merges are stopped."""
    flow = night.start("backup", {"components": ["clickhouse"]})
    wait_until(lambda: any("/clickhouse/" in key for key in night.objects()), timeout=120, what="ClickHouse writes")
    os.kill(flow.pid, signal.SIGSTOP)  # what it has stopped stays so, however long the look takes
    assert night.merges_stopped() != []
    os.kill(flow.pid, signal.SIGKILL)
    assert flow.wait() != 0


@pytest.mark.long
def test_a_flow_killed_while_clickhouse_backs_up_leaves_no_set_and_merges_run_after_the_next(night: Night) -> None:
    killed_with_merges_stopped(night)
    assert night.sets() == []
    night.call("backup", components=["clickhouse"])
    assert len(night.sets()) == 1
    assert night.merges_stopped() == []


@pytest.mark.long
def test_merges_that_a_killed_backup_left_stopped_run_again_after_a_prune(night: Night) -> None:
    killed_with_merges_stopped(night)
    night.call("prune")
    assert night.merges_stopped() == []


@pytest.mark.long
def test_pg_dump_killed_in_the_middle_is_tried_again_and_never_becomes_a_truncated_object(night: Night) -> None:
    with night.running("backup", {"components": ["postgres"]}) as flow:
        night.kill_child(flow, "pg_dump", lambda: night.uploading("litellm.dump.zst.age"), "the dump is being uploaded")
    assert "was killed by signal 9" in flow.output
    assert len(night.sets()) == 1
    night.call("drill", components=["postgres"])


@pytest.mark.long
def test_a_store_killed_in_the_middle_never_shows_a_half_set(night: Night) -> None:
    with night.running("backup", {"components": ["postgres"]}):
        wait_until(lambda: night.uploading("litellm.dump.zst.age"), timeout=120, what="the dump is being uploaded")
        night.sandbox.store.kill()
        night.sandbox.store.start()
    for set_id in night.sets():
        night.call("drill", set_id=set_id)
    night.call("backup", components=["postgres"])
    assert night.newest().postgres


@pytest.mark.long
def test_postgres_killed_in_the_middle_never_shows_a_half_set(night: Night) -> None:
    with night.running("backup", {"components": ["postgres"]}) as flow:
        wait_until(lambda: night.uploading("litellm.dump.zst.age"), timeout=120, what="the dump is being uploaded")
        night.sandbox.postgres.kill()
        assert night.sets() == [], flow.output
        night.sandbox.postgres.start()
    night.call("backup", components=["postgres"])
    assert night.differences(night.newest()) == []


@pytest.mark.long
def test_clickhouse_killed_in_the_middle_never_shows_a_half_set_and_merges_run_again(night: Night) -> None:
    with night.running("backup", {"components": ["clickhouse"]}) as flow:
        wait_until(lambda: bool(night.merges_stopped()), timeout=120, what="merges are stopped")
        night.sandbox.clickhouse.kill()
        assert night.sets() == [], flow.output
        night.sandbox.clickhouse.start()
    night.call("backup", components=["clickhouse"])
    assert night.merges_stopped() == []
    assert night.differences(night.newest()) == []


def test_a_failed_backup_removes_its_own_objects_and_says_what_to_do_in_one_line(night: Night) -> None:
    night.execute("ALTER ROLE backup NOBYPASSRLS", "REVOKE pg_read_all_data FROM backup")
    try:
        with pytest.raises(BackupFailed, match=r"nothing was committed, its objects were removed"):
            night.call("backup", components=["clickhouse", "postgres/litellm"])
    finally:
        night.execute("ALTER ROLE backup BYPASSRLS", "GRANT pg_read_all_data TO backup")
    assert [key for key in night.objects() if "/sets/" in key] == []


def test_an_unknown_database_is_refused_with_the_names_of_those_there_are(night: Night) -> None:
    with pytest.raises(BackupFailed, match=r"there is no postgres 'nosuch' to back up; there are: "):
        night.call("backup", components=["postgres/nosuch"])
