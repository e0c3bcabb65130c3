"""Which packs of bucket objects no kept set needs. Pure: what is listed and what is kept in, keys out."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from blocks.errors import IntegrityError
from blocks.object_store import Listed
from flows.backup.manifest import Manifest
from flows.buckets.pack_ids import pack_ids, split_id
from flows.catalogue import Entry

ENDING = ".tar.zst.age"


def unneeded(
    listed: Iterable[Listed], entries: Iterable[Entry], keep: Collection[str], now: datetime, grace: timedelta
) -> list[str]:
    """Choose the packs that can go.

    Args:
        listed: every object in the folder of packs. entries: every set there was before this prune.
        keep: ids of those that stay. now: the store's time.
        grace: packs of a set that was never committed are left alone for so long: a backup may be writing them.
    Returns: keys. Nothing at all while the manifest of a set cannot be read: nobody knows what that one needs.
    """
    by_id = {entry.id: entry.manifest for entry in entries}
    kept = [by_id[set_id] for set_id in keep if set_id in by_id]
    if any(manifest is None for manifest in by_id.values()):
        return []
    needed = {pack for manifest in kept if manifest is not None for pack in needed_packs(manifest)}
    chosen = []
    for item in listed:
        name = item.key.rsplit("/", 1)[-1].removesuffix(ENDING)
        try:
            writer, _ = split_id(name)
        except IntegrityError:
            continue  # not ours, so not ours to delete
        if name not in needed and (writer in by_id or now - item.modified >= grace):
            chosen.append(item.key)
    return chosen


def needed_packs(manifest: Manifest) -> set[str]:
    """Return the ids of the packs that a set refers to."""
    return {pack for bucket in manifest.buckets for pack in pack_ids(bucket.pack_ids)}
