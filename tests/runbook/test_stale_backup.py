"""stale-backup, on the real store with its real lock: why there is no fresh set, what is mended, and that one is taken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from blocks.errors import BackupFailed, LeaseHeld, LeaseLost, NotHealed, ServiceError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.s3_light import Place
from blocks.settings import Settings
from flows.backup.sets import new_set
from flows.health.targets import Limits, Store, Targets
from flows.lease import Lease, acquire, holder_of, lock_key, take_away
from flows.runbook.backup_causes import Known, causes, decide
from flows.runbook.backup_runs import LastRun, Schedule
from flows.runbook.frame import Runbook, RunbookRequest, Verdict
from flows.runbook.stale_backup import Prefect, Stale
from flows.stack import Stack
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.forks import Forked
from tests.manifests import commit, stack_of
from tests.runbook.cases import CANARY, IMPATIENT, Desk

RUN = str(uuid4())
SECONDS = 3
"""A lock that nobody renews lives so long."""


@dataclass(frozen=True)
class Scheduler(Prefect):
    """A Prefect server as it answers; the real one is asked in `test_backup_runs.py`.

    Attributes:
        states: of runs, by id. down: it does not answer.
    """

    pool: str = "ops"
    found: list[Schedule] = field(default_factory=lambda: [Schedule(registered=True, workers=1)])
    states: dict[str, str] = field(default_factory=dict)
    down: bool = False

    def look(self) -> Schedule:
        if self.down:
            raise ServiceError("prefect: its API failed")
        return self.found[-1]

    def resume(self) -> str:
        self.found.append(replace(self.found[-1], paused="", pool_paused=False))
        return "resumed: schedule nightly"

    def state_of(self, run_id: str) -> str:
        if self.down:
            raise ServiceError("prefect: its API failed")
        return self.states.get(run_id, "")


class Site:
    """The backups of one stack, without engines: sets are whole and signed, and hold nothing."""

    def __init__(self, store: BackupStore, keys: BackupKeys, engine: S3Engine) -> None:
        base = stack_of(store, keys)
        settings = Settings(backup_lease_seconds=SECONDS, backup_lock_wait_seconds=1)
        self.stack: Stack = replace(base, settings=settings)
        secret = SecretStr(engine.secret_key)
        place = Place(engine.endpoint_url, store.name, engine.region, engine.access_key, secret, "path")
        watched = Store(place, store.root, signing_key=keys.signing_key)
        self.targets = Targets(timeout=5.0, store=watched, limits=Limits(backup_hours=26))
        self.prefect = Scheduler()
        self.fails: list[str] = []

    def take(self) -> str:
        """Take a set as the flow does, under the lock."""
        if self.fails:
            raise BackupFailed(self.fails.pop(0))
        with self.stack.exclusive("backup") as lease, new_set(self.stack, lease, label="", protect=False) as made:
            return made.commit().id

    def lock(self, flow: str = "backup", holder: str = RUN) -> Lease:
        return acquire(self.stack.store, flow=flow, holder=holder, seconds=SECONDS, wait=0)

    def runbook(self, take: Callable[[], str] | None = None) -> Runbook:
        return Stale(self.stack, self.targets, self.prefect, take or self.take, look=0.05, patience=60)

    def sets(self) -> list[str]:
        return sorted(self.stack.store.folders(f"{self.stack.store.root}sets/"))


@pytest.fixture
def site(store: BackupStore, keys: BackupKeys, s3_engine: S3Engine) -> Site:
    made = Site(store, keys, s3_engine)
    commit(store, keys, datetime.now(UTC) - timedelta(hours=40))
    return made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def test_a_paused_schedule_is_resumed_and_a_set_is_taken(site: Site, desk: Desk) -> None:
    site.prefect.found.append(Schedule(registered=True, paused="its schedule is not active", workers=1))
    assert desk.heal(site.runbook()) == "healed"
    assert site.prefect.look().paused == ""
    assert len(site.sets()) == 2
    assert "because: its schedule is not active" in desk.text()
    assert [entry.what for entry in desk.trail() if entry.kind == "began"] == [
        "resume what starts backup/nightly: its schedule is not active",
        "take a backup set of everything",
    ]
    assert desk.heal(site.runbook()) == "nothing to do", "run twice"
    assert len(site.sets()) == 2


def test_the_last_runs_error_is_told_and_a_backup_that_fails_again_is_handed_over(site: Site, desk: Desk) -> None:
    desk.pace = IMPATIENT
    last = LastRun(RUN, "FAILED", "Failed", datetime.now(UTC), "pg_dump 15 cannot dump a 16 server")
    site.prefect.found.append(Schedule(registered=True, workers=1, last=last))
    site.fails.append("pg_dump 15 cannot dump a 16 server (nothing was committed)")
    with pytest.raises(NotHealed, match=r"a person is needed: .*tried: take a backup set .*failed: pg_dump 15"):
        desk.heal(site.runbook())
    assert "the last backup of" in desk.text()
    assert len(site.sets()) == 1


def test_the_lock_of_a_run_that_has_ended_is_taken_from_the_process_that_still_renews_it(site: Site, desk: Desk) -> None:
    site.prefect.states[RUN] = "CRASHED"
    lease = site.lock()
    assert desk.heal(site.runbook()) == "healed"
    assert len(site.sets()) == 2
    with pytest.raises(LeaseLost, match=r"taken over|ran out"):
        lease.check()
    lease.release()
    assert holder_of(site.stack.store, SECONDS) is None
    assert "is held by a backup that ended as CRASHED" in desk.text()


def test_the_lock_of_a_process_that_was_killed_runs_out_by_itself(site: Site, desk: Desk) -> None:
    site.prefect.states[RUN] = "CRASHED"
    seconds = 60
    site.stack = replace(site.stack, settings=Settings(backup_lease_seconds=SECONDS, backup_lock_wait_seconds=seconds))
    with Forked(lambda: wait_until(lambda: site.lock().token < 0, timeout=60, what="its end")) as process:
        wait_until(lambda: holder_of(site.stack.store, SECONDS) is not None, timeout=60, what="the lock to be taken")
        process.kill()
    assert desk.heal(site.runbook()) == "healed"
    assert len(site.sets()) == 2


def test_a_backup_that_is_under_way_is_waited_for_and_not_taken_twice(site: Site, desk: Desk) -> None:
    site.prefect.states[RUN] = "RUNNING"
    lease = site.lock()

    def commits(name: str, work: Callable[[], object]) -> object:
        desk.steps.append(name)
        if name.startswith("remedy"):
            commit(site.stack.store, site.stack.keys, datetime.now(UTC))
            lease.release()
        return work()

    desk._step = commits  # type: ignore[method-assign]  # the other run ends while it is waited for
    assert desk.heal(site.runbook(lambda: pytest.fail("taken twice"))) == "healed"
    assert len(site.sets()) == 2


def test_a_restore_under_way_keeps_it_from_acting(site: Site, desk: Desk) -> None:
    lease = site.lock("restore")
    try:
        with pytest.raises(NotHealed, match="restore is under way and holds the stack's lock"):
            desk.heal(site.runbook())
        site.prefect.states[RUN] = "CRASHED"
        with pytest.raises(NotHealed, match=r"the restore ended as CRASHED .* end that process"):
            desk.heal(site.runbook())
        lease.check()
    finally:
        lease.release()
    assert len(site.sets()) == 1


def test_a_store_that_is_down_is_healed_by_others_first(site: Site, desk: Desk) -> None:
    site.stack.store.put(lock_key(site.stack.store), b"not a lock")
    with pytest.raises(NotHealed, match=r"the store of the backups cannot be read.*heal it first"):
        desk.heal(site.runbook())
    assert len(site.sets()) == 1


def test_a_dry_run_changes_nothing_and_writes_nothing(site: Site, desk: Desk) -> None:
    site.prefect.found.append(Schedule(registered=True, pool_paused=True, workers=0))
    before = {item.key: item.etag for item in site.stack.store.list(site.stack.store.root)}
    assert desk.heal(site.runbook(), RunbookRequest(dry_run=True)) == "can heal"
    assert {item.key: item.etag for item in site.stack.store.list(site.stack.store.root)} == before
    assert site.prefect.look().pool_paused
    assert desk.told[-2:] == [
        "would resume what starts backup/nightly: the work pool is paused",
        "would take a backup set of everything",
    ]


def test_killed_between_resuming_and_taking_the_next_run_takes_the_set(site: Site, desk: Desk) -> None:
    class Killed(BaseException):
        pass

    def dies() -> str:
        raise Killed

    site.prefect.found.append(Schedule(registered=True, paused="its schedule is not active", workers=1))
    with pytest.raises(Killed):
        desk.heal(site.runbook(dies))
    assert desk.heal(site.runbook()) == "healed"
    assert len(site.sets()) == 2


def test_a_prefect_that_does_not_answer_keeps_nobody_from_taking_a_backup(site: Site, desk: Desk) -> None:
    site.prefect = Scheduler(down=True)
    assert desk.heal(site.runbook()) == "healed"
    assert "prefect: its API failed" in desk.text()
    assert CANARY not in desk.text()


# --- the lock ------------------------------------------------------------------------------------------------------------


def test_a_lock_that_has_changed_hands_since_it_was_looked_at_is_not_taken_away(site: Site) -> None:
    first = site.lock()
    held = holder_of(site.stack.store, SECONDS)
    assert held is not None
    first.release()
    second = site.lock(holder=str(uuid4()))
    with pytest.raises(LeaseHeld, match="has changed hands"):
        take_away(site.stack.store, held, SECONDS)
    second.check()
    second.release()


def test_a_token_that_was_taken_away_is_never_given_again(site: Site) -> None:
    first = site.lock()
    held = holder_of(site.stack.store, SECONDS)
    assert held is not None
    take_away(site.stack.store, held, SECONDS)
    second = site.lock()
    assert second.token == first.token + 2
    first.release()
    second.check()
    second.release()


# --- decisions -----------------------------------------------------------------------------------------------------------

STALE = ["the newest good backup set is 40 h old, expected one not older than 26 h"]


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known([]), Verdict.NOTHING, "is fresh"),
        (Known(STALE, store_error="no answer"), Verdict.PERSON, "no answer"),
        (Known(STALE, schedule=Schedule()), Verdict.HEALS, "Prefect has no deployment backup/nightly"),
        (Known(STALE, schedule=Schedule(True)), Verdict.HEALS, "no worker of the pool lives"),
        (Known(STALE, schedule=Schedule(True, workers=1), faults=["x: damaged"]), Verdict.HEALS, "newer sets are not good: x"),
        (Known(STALE, prefect_error="no Prefect"), Verdict.HEALS, "no Prefect"),
        (Known(STALE, schedule=Schedule(True, workers=1)), Verdict.HEALS, "nobody knows why"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    found = decide(known, lambda _: ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_a_run_that_completed_is_no_cause() -> None:
    assert causes(Known(STALE, schedule=Schedule(True, workers=1, last=LastRun(RUN, "COMPLETED", "Completed")))) == []
