"""Packs are shared between sets: one goes when no kept set needs it, and none goes while that cannot be known."""

from __future__ import annotations

from datetime import datetime, timedelta

from blocks.object_store import Listed
from flows.backup.manifest import BucketContents, Manifest
from flows.buckets.pack_ids import make_id, short
from flows.catalogue import Entry
from flows.prune.packs import unneeded
from tests.manifests import NIGHT, manifest, stored

NOW = NIGHT + timedelta(days=10)
GRACE = timedelta(hours=24)


def with_packs(day: int, *packs: str) -> Manifest:
    """A set whose bucket refers to these packs."""
    bucket = BucketContents(
        name="langfuse",
        index=stored("buckets/langfuse.index.zst"),
        packs=stored("buckets/langfuse.packs.zst"),
        pack_ids=short(packs),
        objects=1,
        bytes=1,
        started_at=NIGHT,
        finished_at=NIGHT,
    )
    return manifest(NIGHT + timedelta(days=day), components=[bucket])


def listed(pack: str, modified: datetime = NIGHT) -> Listed:
    """A pack as the store lists it."""
    return Listed(f"root/packs/{pack}.tar.zst.age", 1, '"e"', modified)


FIRST, SECOND = with_packs(0).id, with_packs(1).id
A, B, C = make_id(FIRST, 1), make_id(FIRST, 2), make_id(SECOND, 1)
SETS = [Entry(FIRST, with_packs(0, A, B)), Entry(SECOND, with_packs(1, B, C))]


def test_a_pack_goes_with_the_last_set_that_needs_it() -> None:
    packs = [listed(A), listed(B), listed(C)]
    assert unneeded(packs, SETS, [FIRST, SECOND], NOW, GRACE) == []
    assert unneeded(packs, SETS, [SECOND], NOW, GRACE) == [packs[0].key]
    assert unneeded(packs, SETS, [FIRST], NOW, GRACE) == [packs[2].key]


def test_packs_of_a_run_that_died_go_after_the_grace_period() -> None:
    dead = make_id("20261125T030000Z-dead00", 7)
    assert unneeded([listed(dead, NOW - timedelta(hours=1))], SETS, [FIRST], NOW, GRACE) == []
    assert unneeded([listed(dead, NOW - GRACE)], SETS, [FIRST], NOW, GRACE) == [listed(dead).key]


def test_nothing_goes_while_a_manifest_cannot_be_read() -> None:
    entries = [*SETS, Entry("20261126T030000Z-unread", None, fault="its signature does not hold")]
    assert unneeded([listed(A), listed(C)], entries, [FIRST], NOW, GRACE) == []


def test_what_is_not_ours_is_left_alone() -> None:
    assert unneeded([Listed("root/packs/notes.txt", 1, "", NIGHT)], SETS, [], NOW, GRACE) == []
