"""Level 1: a share of the stored objects is read back and hashed, each object once in so many days."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import IO, cast

from blocks.errors import IntegrityError, ObjectMissing
from blocks.object_store import BackupStore
from flows.backup.clickhouse_files import load_index
from flows.backup.manifest import Manifest
from flows.backup.stream import CHUNK
from flows.buckets.packs import pack_key, read_packs_list
from flows.catalogue import set_prefix


@dataclass(frozen=True)
class Hashed:
    """An object and the hash that was recorded of it.

    Attributes:
        key: full. algorithm: sha256, or md5 where only the store's ETag is known (ClickHouse writes those objects itself).
        digest: hex.
    """

    key: str
    algorithm: str
    digest: str


def due(key: str, today: date, every: int) -> bool:
    """Say whether it is an object's turn: each has one day in `every`, spread evenly by its name."""
    turn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return turn % every == today.toordinal() % every


def hashed_objects(store: BackupStore, manifest: Manifest) -> Iterator[Hashed]:
    """Yield the objects in a set's own folder of which a hash is known.

    Raises:
        IntegrityError: a list of files is not what was stored.
    """
    prefix = set_prefix(store, manifest.id)
    for item in manifest.stored_objects():
        yield Hashed(prefix + item.key, "sha256", item.sha256)
    for component in manifest.clickhouse:
        for file in load_index(store, prefix, component.index).files:
            if not file.in_base and (digest := _md5_of(file.etag)):
                yield Hashed(prefix + component.path + file.name, "md5", digest)


def hashed_packs(store: BackupStore, manifests: Iterable[Manifest]) -> Iterator[tuple[Hashed, set[str]]]:
    """Yield every pack that sets refer to, once, with the ids of those sets.

    Raises:
        IntegrityError: a list of packs is not what was stored.
    """
    users: dict[str, set[str]] = {}
    digests: dict[str, str] = {}
    for manifest in manifests:
        for bucket in manifest.buckets:
            for pack in read_packs_list(store, set_prefix(store, manifest.id), bucket).values():
                users.setdefault(pack.id, set()).add(manifest.id)
                digests[pack.id] = pack.sha256
    for pack_id, sets in sorted(users.items()):
        yield Hashed(pack_key(store, pack_id), "sha256", digests[pack_id]), sets


def differs(store: BackupStore, item: Hashed) -> tuple[str, int]:
    """Read an object back.

    Returns: what is wrong with it, empty when nothing is; and how many bytes were read.
    """
    digest, count = hashlib.new(item.algorithm, usedforsecurity=False), 0
    name = item.key.removeprefix(store.root)
    try:
        with store.open(item.key) as reader:
            while piece := cast(IO[bytes], reader).read(CHUNK):
                digest.update(piece)
                count += len(piece)
    except ObjectMissing:
        return f"{name} is missing", count
    if digest.hexdigest() != item.digest and (item.algorithm != "md5" or store.etag_is_md5(item.key)):
        return f"{name} is not what was stored ({item.algorithm} differs)", count
    return "", count


def chosen_objects(store: BackupStore, manifest: Manifest, today: date, every: int, *, everything: bool) -> list[Hashed]:
    """Choose what of a set is read today.

    Args:
        everything: all of it: it was asked for, or the last check found something.
    Raises:
        IntegrityError: a list of files is not what was stored.
    """
    try:
        return [item for item in hashed_objects(store, manifest) if everything or due(item.key, today, every)]
    except ObjectMissing as error:
        raise IntegrityError(str(error)) from None


def _md5_of(etag: str) -> str:
    """Return the MD5 that an ETag is, or nothing for one of a multipart upload or an encrypted object."""
    text = etag.strip('"').lower()
    return text if len(text) == 32 and all(letter in "0123456789abcdef" for letter in text) else ""
