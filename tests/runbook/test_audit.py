"""The audit trail: what is written stays, is found again by time and incident, and never keeps anybody from healing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from blocks.object_store import BackupStore
from flows.runbook.audit import Entry, Trail, months_between, read
from flows.runbook.frame import Action, Diagnosis, Runbook, Verdict
from shared.engines.process import free_port
from tests.runbook.cases import Desk
from tests.stores import ONE_TRY, seen_through

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def entry(minutes: float, incident: str = "") -> Entry:
    return Entry(at=NOON + timedelta(minutes=minutes), kind="ended", actor="redis-policy", service="redis", incident=incident)


def test_entries_are_found_again_in_order_by_time_and_by_incident(store: BackupStore) -> None:
    trail = Trail(store)
    written = [entry(0), entry(5, "prod/redis/ping/1"), entry(24 * 60, "prod/redis/ping/2")]
    for one in reversed(written):
        trail.add(one)
    assert read(store, NOON, NOON + timedelta(days=2)) == written, "also over the end of a month"
    assert read(store, NOON, NOON + timedelta(hours=1)) == written[:2]
    assert read(store, NOON, NOON + timedelta(days=2), incident="prod/redis/ping/2") == written[2:]


def test_an_entry_is_written_once_and_a_damaged_one_is_left_out(store: BackupStore) -> None:
    trail = Trail(store)
    trail.add(one := entry(0))
    trail.add(one.model_copy(update={"result": "another story"}))
    store.put(f"{store.root}audit/2026-11/20261130T120000000Z-zzzzzz.json", b"{")
    assert read(store, NOON, NOON) == [one]


@pytest.mark.parametrize(
    ("begin", "end", "months"),
    [
        (NOON, NOON, ["2026-11"]),
        (NOON, NOON + timedelta(days=40), ["2026-11", "2026-12", "2027-01"]),
        (NOON, NOON - timedelta(days=40), []),
    ],
)
def test_the_months_between_two_moments(begin: datetime, end: datetime, months: list[str]) -> None:
    assert months_between(begin, end) == months


class Sick(Runbook):
    """Well after its one action."""

    name, service = "a-runbook", "minio"

    def __init__(self, cure: Action) -> None:
        self.cure = cure

    def diagnose(self) -> Diagnosis:
        return Diagnosis(Verdict.HEALS, "it is sick", {}, (self.cure,))

    def wrong(self) -> list[str]:
        return []


class Cure(Action):
    """Mends the store."""

    def __init__(self, trail: list[str]) -> None:
        self.trail = trail

    def describe(self) -> str:
        return "mend it"

    def do(self) -> str:
        self.trail.append("done")
        return "mended"


def test_a_store_that_is_down_itself_keeps_nobody_from_healing(store: BackupStore) -> None:
    gone = seen_through(store, url=f"http://127.0.0.1:{free_port()}", config=ONE_TRY)
    done: list[str] = []
    assert Desk(gone).heal(Sick(Cure(done))) == "healed"
    assert done == ["done"]


def test_what_the_store_did_not_take_is_written_when_it_is_back_in_the_order_in_which_it_happened(store: BackupStore) -> None:
    trail = Trail(seen_through(store, url=f"http://127.0.0.1:{free_port()}", config=ONE_TRY))
    trail.add(entry(0))
    trail.add(entry(1))
    assert [one.at.minute for one in trail.since(NOON, NOON + timedelta(hours=1))] == [0, 1], "what is owed counts"
    trail.store = store
    trail.add(entry(2))
    assert trail.owed == []
    assert [one.at.minute for one in read(store, NOON, NOON + timedelta(hours=1))] == [0, 1, 2]
