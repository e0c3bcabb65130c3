"""failed-drill, on the real store: a fresh set is taken and proven, the bad one is marked, the last proven one is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from blocks.errors import DrillFailed, NotHealed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows import catalogue, side_file
from flows.catalogue import Entry
from flows.health.targets import Limits
from flows.lease import acquire
from flows.prune import retention
from flows.prune.retention import RetentionPolicy
from flows.runbook.drills import Known, decide, fresh_set
from flows.runbook.failed_drill import Unproven
from flows.runbook.frame import Runbook, RunbookRequest, Verdict
from flows.side_file import DrillRecord
from shared.engines.object_store import S3Engine
from tests.manifests import clickhouse, commit, manifest
from tests.runbook.cases import IMPATIENT, Desk
from tests.runbook.test_stale_backup import Site

DIFFERENCE = "postgres litellm: table users: 2 rows, expected 3"


def drilled(set_id: str, at: datetime, *differences: str, full: bool = True) -> DrillRecord:
    return DrillRecord(
        set_id=set_id,
        at=at,
        ok=not differences,
        full=full,
        recovery_seconds=1,
        compare_seconds=1,
        components=["postgres/litellm"],
        scratch="embedded",
        differences=list(differences),
    )


class Drills(Site):
    """Backups whose drills do what a test wants.

    Attributes:
        drills: sets that were drilled. differ: what the next drills find, each a difference or empty.
    """

    def __init__(self, store: BackupStore, keys: BackupKeys, engine: S3Engine) -> None:
        super().__init__(store, keys, engine)
        self.targets = replace(self.targets, limits=Limits(backup_hours=26, drill_hours=50))
        self.drills: list[str] = []
        self.differ: list[str] = []

    def drill(self, set_id: str) -> None:
        """Record what came of a drill, and raise as the flow does."""
        self.drills.append(set_id)
        found = [one for one in self.differ[:1] if one]
        self.differ = self.differ[1:]
        side_file.record(self.stack.store, set_id, drill=drilled(set_id, datetime.now(UTC), *found))
        if found:
            raise DrillFailed(f"drill of {set_id}: {found[0]}; do not rely on this set")

    def unproven(self, take: Callable[[], str] | None = None) -> Runbook:
        return Unproven(self.stack, self.targets, take or self.take, self.drill)

    def entries(self) -> list[Entry]:
        return catalogue.read(self.stack.store, self.stack.keys).entries


@pytest.fixture
def site(store: BackupStore, keys: BackupKeys, s3_engine: S3Engine) -> Drills:
    """A set that was proven, and one whose drill failed two hours ago."""
    made = Drills(store, keys, s3_engine)
    now = datetime.now(UTC).replace(microsecond=0)
    good = commit(store, keys, now - timedelta(hours=30))
    bad = commit(store, keys, now - timedelta(hours=6))
    side_file.record(store, good.id, drill=drilled(good.id, now - timedelta(hours=28)))
    side_file.record(store, bad.id, drill=drilled(bad.id, now - timedelta(hours=2), DIFFERENCE))
    return made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def test_after_a_failed_drill_a_fresh_set_is_taken_and_proven(site: Drills, desk: Desk) -> None:
    good, bad = site.sets()
    assert desk.heal(site.unproven()) == "healed"
    fresh = next(one for one in site.sets() if one not in (good, bad))
    assert site.drills == [fresh]
    assert f"the drill of {bad} failed: {DIFFERENCE}; the set that was proven last is {good}" in desk.text()
    assert {one.id: one.good for one in site.entries()} == {fresh: True, bad: False, good: True}
    assert desk.heal(site.unproven()) == "nothing to do", "run twice"
    assert site.drills == [fresh]


def test_where_the_fresh_set_fails_too_a_person_is_called_and_prune_keeps_what_was_proven(site: Drills, desk: Desk) -> None:
    desk.pace = IMPATIENT
    good, bad = site.sets()
    site.differ = [DIFFERENCE]
    with pytest.raises(
        NotHealed, match=rf"the last drill failed: {DIFFERENCE}.*tried: take a fresh .*; drill .*failed: drill of"
    ):
        desk.heal(site.unproven())
    policy = RetentionPolicy(keep_last=1, keep_daily=0, keep_weekly=0, keep_monthly=0, keep_yearly=0)
    plan = retention.plan([one.facts() for one in site.entries()], policy)
    assert "newest drilled" in plan.keep[good]
    assert set(plan.keep) >= {good, bad}, "what is bad and newer than every good set is evidence"
    assert len(site.sets()) == 3


def test_drills_that_only_stayed_away_begin_with_the_newest_set_and_take_no_other(
    store: BackupStore, keys: BackupKeys, s3_engine: S3Engine, desk: Desk
) -> None:
    site = Drills(store, keys, s3_engine)
    made = commit(store, keys, datetime.now(UTC) - timedelta(hours=3))
    assert desk.heal(site.unproven(lambda: pytest.fail("no set was asked for"))) == "healed"
    assert site.drills == [made.id]


def test_a_dry_run_takes_nothing_and_drills_nothing(site: Drills, desk: Desk) -> None:
    before = {item.key: item.etag for item in site.stack.store.list(site.stack.store.root)}
    assert desk.heal(site.unproven(), RunbookRequest(dry_run=True)) == "can heal"
    assert {item.key: item.etag for item in site.stack.store.list(site.stack.store.root)} == before
    assert site.drills == []
    assert desk.told[-2].startswith("would take a fresh backup set of everything")


def test_while_a_restore_is_under_way_nothing_is_taken(site: Drills, desk: Desk) -> None:
    lease = acquire(site.stack.store, flow="restore", holder="a test", seconds=60, wait=0)
    try:
        with pytest.raises(NotHealed, match="restore is under way"):
            desk.heal(site.unproven())
    finally:
        lease.release()
    assert len(site.sets()) == 2


def test_without_an_age_identity_a_person_is_told_where_drills_run(site: Drills, desk: Desk) -> None:
    site.stack = replace(site.stack, keys=site.stack.keys.model_copy(update={"identity": None}))
    with pytest.raises(NotHealed, match=r"no age identity here.*drills run where that key is"):
        desk.heal(site.unproven())


def test_killed_after_the_set_was_taken_the_next_run_drills_that_one_and_takes_no_other(site: Drills, desk: Desk) -> None:
    class Killed(BaseException):
        pass

    def dies() -> str:
        site.take()
        raise Killed

    with pytest.raises(Killed):
        desk.heal(site.unproven(dies))
    taken = site.sets()
    assert desk.heal(site.unproven(lambda: pytest.fail("taken twice"))) == "healed"
    assert site.drills == taken[-1:]


# --- decisions -----------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 26, 3, tzinfo=UTC)
WRONG = ["no full drill has proven any of the newest 2 backup sets, expected within 50 h"]


def entry(hours: int, *, drill: DrillRecord | None = None, base: str | None = None, fault: str = "") -> Entry:
    made = manifest(NOW - timedelta(hours=hours), components=[clickhouse(base=base)])
    return Entry(made.id, made, fault, side_file.SideFile(drill=drill))


def test_a_set_that_is_a_difference_to_the_bad_one_is_named_and_not_taken_for_a_fresh_one() -> None:
    full = entry(30, drill=drilled("full", NOW - timedelta(hours=9), DIFFERENCE))
    difference = entry(1, base=full.id)
    known = Known(WRONG, [difference, full])
    assert known.failed is full
    assert known.suspects == [difference.id]
    assert fresh_set(known.entries) is None
    assert fresh_set([entry(1), full]) is not None
    assert fresh_set([entry(12), full]) is None, "older than the drill: it may be what failed"


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known([]), Verdict.NOTHING, "proven its set"),
        (Known(WRONG, store_error="no answer"), Verdict.PERSON, "no answer"),
        (Known(WRONG, [entry(3)], at_work="upgrade"), Verdict.PERSON, "upgrade is under way"),
        (Known(WRONG, []), Verdict.PERSON, "no good backup set that could be drilled"),
        (Known(WRONG, [entry(3)]), Verdict.HEALS, "no other set is proven"),
        (Known(WRONG, [entry(3, drill=drilled("x", NOW, full=False))]), Verdict.HEALS, "no other set is proven"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    found = decide(known, lambda _: ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence
