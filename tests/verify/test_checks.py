"""Levels 0 and 1 on the real store: what is missing, cut off or altered is named and written down beside the set."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows import catalogue
from flows.backup.manifest import Manifest
from flows.catalogue import manifest_key, set_prefix
from flows.verify.hashes import due
from flows.verify.tasks import check_hashes, check_presence
from tests.manifests import commit, postgres, stack_of

DUMP = "postgres/litellm.dump.zst.age"
TODAY = date(2026, 11, 24)


@pytest.fixture
def made(store: BackupStore, keys: BackupKeys) -> Manifest:
    """A set of one object."""
    return commit(store, keys, components=[postgres()])


def presence(store: BackupStore, keys: BackupKeys) -> list[str]:
    """Run level 0 over all sets."""
    return check_presence.fn(stack_of(store, keys), catalogue.read(store, keys).entries)


def hashes(store: BackupStore, keys: BackupKeys, *, everything: bool = True, today: date = TODAY) -> list[str]:
    """Run level 1 over all sets."""
    return check_hashes.fn(stack_of(store, keys), catalogue.read(store, keys).entries, today, everything=everything)


def test_a_whole_set_is_found_whole(store: BackupStore, keys: BackupKeys, made: Manifest) -> None:
    assert presence(store, keys) == hashes(store, keys) == []
    checks = catalogue.read(store, keys).entries[0].checks
    assert checks.presence
    assert checks.presence.ok
    assert checks.hashes
    assert checks.hashes.what == "1 object read back, 4 B"
    assert checks.size
    assert checks.size.what == "the first set"


@pytest.mark.parametrize(("data", "says"), [(None, f"{DUMP} is missing"), (b"da", f"{DUMP} has 2 bytes instead of 4")])
def test_level_0_names_what_is_missing_or_cut_off(
    store: BackupStore, keys: BackupKeys, made: Manifest, data: bytes | None, says: str
) -> None:
    key = set_prefix(store, made.id) + DUMP
    if data is None:
        store.remove([key])
    else:
        store.put(key, data)
    assert presence(store, keys) == [f"{made.id}: {says}"]
    assert not catalogue.read(store, keys).entries[0].good


def test_level_1_names_what_was_altered_and_reads_it_again_until_it_is_mended(
    store: BackupStore, keys: BackupKeys, made: Manifest
) -> None:
    key = set_prefix(store, made.id) + DUMP
    not_its_day = next(TODAY + timedelta(days=n) for n in range(30) if not due(key, TODAY + timedelta(days=n), 30))
    store.put(key, b"DATA")
    assert presence(store, keys) == []
    assert hashes(store, keys, everything=False, today=not_its_day) == []
    assert hashes(store, keys) == [f"{made.id}: sets/{made.id}/{DUMP} is not what was stored (sha256 differs)"]
    assert hashes(store, keys, everything=False, today=not_its_day) != []
    store.put(key, b"data")
    assert hashes(store, keys, everything=False, today=not_its_day) == []
    assert catalogue.read(store, keys).entries[0].good


def test_a_set_that_is_pruned_meanwhile_is_no_finding(store: BackupStore, keys: BackupKeys, made: Manifest) -> None:
    entries = catalogue.read(store, keys).entries
    store.remove([manifest_key(store, made.id), set_prefix(store, made.id) + DUMP])
    assert check_presence.fn(stack_of(store, keys), entries) == []
    assert check_hashes.fn(stack_of(store, keys), entries, TODAY, everything=True) == []
    assert catalogue.read(store, keys).entries == []


@given(st.text(), st.dates(), st.integers(min_value=1, max_value=60))
def test_every_object_has_its_turn_once_in_so_many_days(key: str, begin: date, every: int) -> None:
    days = [date.fromordinal(n) for n in range(begin.toordinal(), min(begin.toordinal() + every, date.max.toordinal()))]
    if len(days) == every:
        assert sum(due(key, day, every) for day in days) == 1


def test_a_day_s_share_is_about_even() -> None:
    share = [sum(due(f"sets/x/{n}", TODAY + timedelta(days=d), 10) for n in range(2000)) for d in range(10)]
    assert sum(share) == 2000
    assert 120 < min(share) <= max(share) < 280
