"""The runbooks of the backups as the worker runs them: on the real Prefect server, with real sets and real drills."""

from __future__ import annotations

import pytest

from flows.catalogue import Entry
from flows.runbook.backup_runs import look, resume, run_state
from flows.runbook.failed_drill import DrillFailedRequest, failed_drill
from flows.runbook.stale_backup import StaleRequest, stale_backup
from tests.nights.night import Night

pytestmark = pytest.mark.long


def test_a_paused_schedule_is_resumed_and_a_real_set_taken_and_a_damaged_one_replaced_by_a_proven_one(night: Night) -> None:
    with night.as_worker():
        resume("ops")  # the sandbox's schedules are off: that is a paused one
        assert (look("ops").paused, look("ops").registered) == ("", True)
        assert resume("ops") == "nothing was paused any more"
        assert stale_backup(StaleRequest(by="a test")) == "healed"
        last = look("ops").last
        assert last is not None
        assert (last.state, run_state(last.id)) == ("COMPLETED", "COMPLETED")
        assert look("ops").workers == 1
        assert stale_backup() == "nothing to do"
    first = night.newest()
    shown = night.sandbox.artifact("runbook-stale-backup-backups-sandbox") or ""
    assert "stale-backup of backups in sandbox" in shown

    key = f"{night.store.root}sets/{first.id}/{first.postgres[0].object.key}"
    with night.tampered(key, night.store.get(key)[:-10]), night.as_worker():
        with pytest.raises(Exception, match="do not rely on this set"):
            night.call("drill", set_id=first.id)
        assert failed_drill(DrillFailedRequest(by="a test")) == "healed"
    entries: dict[str, Entry] = {one.id: one for one in night.entries()}
    fresh = night.newest()
    assert fresh.id != first.id
    assert (entries[first.id].good, entries[fresh.id].facts().drilled_at is not None) == (False, True)
    assert all(component.base is None for component in fresh.clickhouse), "it shares nothing with the bad one"
