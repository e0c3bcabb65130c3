"""Packs proven: present, whole, and with the bytes that the index says; and which of them are read tonight."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date
from itertools import groupby
from pathlib import Path

from blocks.errors import IntegrityError, ObjectMissing
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows.backup.manifest import BucketContents
from flows.backup.pipes import CHUNK
from flows.buckets.index import IndexEntry, open_index
from flows.buckets.listing import external_sort
from flows.buckets.pack_ids import short
from flows.buckets.packs import Member, PackEntry, read_pack, read_packs_list, stored_packs
from flows.compare.differences import Difference

__all__ = ["packs_to_read", "prove_packs"]

_MOST = 100
"""Differences that are named of one pack; a pack that is another one would differ in thousands."""


def packs_to_read(
    packs: Iterable[str], last_read: Mapping[str, date], today: date, rotation_days: int, everything: bool = False
) -> list[str]:
    """Choose the packs that are read tonight: each at least once in `rotation_days` nights, spread over them evenly.

    Args:
        packs: ids of those there are. last_read: when each was last read whole and found good. today: the night's date.
        rotation_days: nights for a whole round. everything: all of them.
    Returns: those never read, those last read so many nights ago, and the share of a night where that is more; those that
        have waited longest first.
    """
    waiting = sorted(set(packs), key=lambda pack: (last_read.get(pack, date.min), pack))
    if everything:
        return waiting
    due = sum(1 for pack in waiting if pack not in last_read or (today - last_read[pack]).days >= rotation_days)
    rested = sum(1 for pack in waiting if pack not in last_read or last_read[pack] < today)
    share = -(-len(waiting) // max(rotation_days, 1))
    return waiting[: max(due, min(share, rested))]


def prove_packs(
    store: BackupStore,
    keys: BackupKeys,
    prefix: str,
    component: BucketContents,
    pack_ids: Collection[str],
    folder: Path | None = None,
) -> list[Difference]:
    """Compare a bucket of a set with what the store holds of it, in constant memory.

    Looks for every pack and its size; reads the chosen ones whole, and every member in them that the index refers to.

    Args:
        store, keys: where the set is, and what opens it. prefix: key prefix of the set, with slash.
        component: as its manifest has it. pack_ids: which packs are read; those of other buckets are passed over.
        folder: for temporary files; None for the system's own.
    Returns: what is not as it should be; empty when all is.
    Raises:
        StoreError: the store failed.
        SettingsError: there is no age identity here.
    """
    name = f"bucket {component.name}"
    try:
        packs = read_packs_list(store, prefix, component, folder)
        with open_index(store, prefix, component, folder) as index:
            differences = [*_listed(store, name, component, packs), *_referred(index.entries(), name, component, packs)]
            chosen = set(pack_ids) & packs.keys()
            entries = external_sort(
                (entry for entry in index.entries() if entry.pack in chosen),
                folder,
                key=lambda entry: (entry.pack, entry.key),
                dump=lambda entry: entry.line(),
                load=IndexEntry.parse,
            )
            for pack_id, group in groupby(entries, key=lambda entry: entry.pack):
                differences += _read(store, keys, name, packs[pack_id], {entry.member: entry for entry in group})
    except (IntegrityError, ObjectMissing) as error:
        return [Difference(name, "index and list of packs", "as they were written", str(error))]
    return differences


def _listed(store: BackupStore, name: str, component: BucketContents, packs: Mapping[str, PackEntry]) -> Iterator[Difference]:
    if short(packs) != component.pack_ids:
        yield Difference(name, "list of packs", str(component.pack_ids), str(short(packs)))
    there = stored_packs(store)
    for pack in packs.values():
        if there.get(pack.id) != pack.bytes:
            found = f"{there[pack.id]} bytes" if pack.id in there else "nothing"
            yield Difference(name, f"pack {pack.id}", f"{pack.bytes} bytes", found)


def _referred(
    entries: Iterable[IndexEntry], name: str, component: BucketContents, packs: Mapping[str, PackEntry]
) -> Iterator[Difference]:
    count = size = 0
    unknown: set[str] = set()
    for entry in entries:
        count, size = count + 1, size + entry.bytes
        if entry.pack not in packs:
            unknown.add(entry.pack)
    for pack_id in sorted(unknown):
        yield Difference(name, f"pack {pack_id}", "in the list of packs, as objects are in it", "not listed")
    if (count, size) != (component.objects, component.bytes):
        expected = f"{component.objects} objects of {component.bytes} bytes"
        yield Difference(name, "index", expected, f"{count} objects of {size} bytes")


def _read(
    store: BackupStore, keys: BackupKeys, name: str, pack: PackEntry, expected: dict[str, IndexEntry]
) -> list[Difference]:
    differences: list[Difference] = []
    members = 0
    try:
        for member in read_pack(store, keys, pack):
            members += 1
            entry = expected.pop(member.name, None)
            found = _digest(member)
            if entry is not None and (member.size, found) != (entry.bytes, entry.sha256):
                told = f"{entry.bytes} bytes with SHA-256 {entry.sha256}"
                differences.append(Difference(name, f"object {entry.key!r}", told, f"{member.size} bytes with {found}"))
    except (IntegrityError, ObjectMissing) as error:
        return [*differences[:_MOST], Difference(name, f"pack {pack.id}", "as it was written", str(error))]
    if members != pack.members:
        differences.append(Difference(name, f"pack {pack.id}", f"{pack.members} members", f"{members} members"))
    left = expected.values()
    differences += [Difference(name, f"object {entry.key!r}", f"in pack {pack.id}", "nothing") for entry in left]
    return differences[:_MOST]


def _digest(member: Member) -> str:
    digest = hashlib.sha256()
    while data := member.file.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()
