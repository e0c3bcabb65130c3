"""Packs: tar files of about 64 MB with the bytes of many objects, compressed and encrypted; where they lie, how they are read.

A pack is read from its start to its end, as a stream. `aws s3 cp | age -d | zstd -d | tar x` opens one without this project.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import tarfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from blocks.errors import IntegrityError, SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.backup.manifest import BucketContents
from flows.backup.pipes import CHUNK, HashingReader, pumped
from flows.buckets.lines import spooled

__all__ = [
    "PACK_BYTES",
    "Member",
    "PackEntry",
    "discard_packs",
    "member_name",
    "pack_key",
    "read_pack",
    "read_packs_list",
    "stored_packs",
]

PACK_BYTES = 64 * 1024 * 1024
"""Plain bytes after which a pack is full."""
_SUFFIX = ".tar.zst.age"
_LONGEST = 255
"""Bytes of a file's name on the usual file systems."""


@dataclass(frozen=True, slots=True)
class PackEntry:
    """One pack, as the list of packs of a bucket has it.

    Attributes:
        id: of the pack. bytes, sha256: of the stored object. plain_bytes: of the tar. members: how many it has in all.
    """

    id: str
    bytes: int
    sha256: str
    plain_bytes: int
    members: int

    def line(self) -> builtins.bytes:
        """Return the entry as a line, without its end."""
        names = ("id", "bytes", "sha256", "plain_bytes", "members")
        return json.dumps({name: getattr(self, name) for name in names}, separators=(",", ":")).encode()

    @classmethod
    def parse(cls, line: builtins.bytes) -> PackEntry:
        """Read a line; fields of later versions are passed over.

        Raises:
            IntegrityError: it is not a line of a list of packs.
        """
        try:
            body = json.loads(line)
            return cls(body["id"], body["bytes"], body["sha256"], body["plain_bytes"], body["members"])
        except (ValueError, KeyError, TypeError):
            raise IntegrityError("a line of the list of packs is not what this version writes; use another set") from None


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a pack while it is read; `file` ends with it, and is only good until the next one is asked for."""

    name: str
    size: int
    file: IO[bytes]


def pack_key(store: BackupStore, pack_id: str) -> str:
    """Return the full key of a pack."""
    return f"{store.root}packs/{pack_id}{_SUFFIX}"


def member_name(key: str) -> str:
    """Return the name of an object in a tar: its key where that is a safe relative path, else a name made of its hash.

    `tar` would take a leading slash off, refuse `..`, and cannot make a file whose name is longer than 255 bytes. Keys below
    `odd/` get such a name too, so that none of them can be mistaken for another key's.
    """
    segments = key.split("/")
    safe = all(part not in ("", ".", "..") and len(part.encode()) <= _LONGEST for part in segments)
    if safe and "\0" not in key and segments[0] != "odd":
        return key
    return f"odd/{hashlib.sha256(key.encode()).hexdigest()}"


def stored_packs(store: BackupStore) -> dict[str, int]:
    """List the packs in the store: id -> stored size in bytes."""
    prefix = f"{store.root}packs/"

    def listed() -> dict[str, int]:
        items = store.list(prefix)
        return {i.key.removeprefix(prefix).removesuffix(_SUFFIX): i.bytes for i in items if i.key.endswith(_SUFFIX)}

    return retrying(listed)


def discard_packs(store: BackupStore, set_id: str) -> int:
    """Remove every pack that a set wrote, unfinished uploads included; only for sets that were not committed.

    Returns: how many packs were removed.
    """
    if not set_id or "/" in set_id:
        raise SettingsError(f"store: refusing to remove packs of {set_id!r}: it is not the id of a set")
    prefix = f"{store.root}packs/{set_id}-"
    for upload in retrying(lambda: list(store.uploads(prefix))):
        store.abort(upload)
    return retrying(lambda: store.remove([item.key for item in store.list(prefix)]))


def read_packs_list(
    store: BackupStore, prefix: str, component: BucketContents, folder: Path | None = None
) -> dict[str, PackEntry]:
    """Read the list of packs of a bucket: id -> pack; one line for each ~64 MB of it.

    Args:
        store: where. prefix: key prefix of its set, with slash. component: as its manifest has it.
    Raises:
        IntegrityError: it is not the list that was backed up.
        ObjectMissing: it is gone.
    """
    with spooled(store, prefix, component.packs, folder) as source:
        packs = [PackEntry.parse(line) for line in source.lines()]
    return {pack.id: pack for pack in packs}


def read_pack(store: BackupStore, keys: BackupKeys, pack: PackEntry) -> Generator[Member, None, None]:
    """Yield the members of a pack in the order they lie in it, decrypted, in constant memory.

    What a member holds is only proven by its own hash: the pack's is known when its last byte has been read.

    Raises:
        IntegrityError: the pack is damaged or another one; names it. At the latest when its last member has been read.
        ObjectMissing: it is gone.
        SettingsError: there is no age identity here.
    """
    try:
        with _opened(store, keys, pack) as (plain, stored):
            yield from _members(plain, pack)
            for source in (plain, cast(IO[bytes], stored)):
                while source.read(CHUNK):
                    pass
        _compare(pack, stored)
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise IntegrityError(f"pack {pack.id}: is damaged ({type(error).__name__}); use another set") from None
    except IntegrityError as error:
        raise IntegrityError(f"pack {pack.id}: {error}") from None


def _members(plain: IO[bytes], pack: PackEntry) -> Iterator[Member]:
    # a member is what the index calls it: types, owners and paths that a tar may carry are never acted upon
    with tarfile.open(fileobj=plain, mode="r|", bufsize=CHUNK, errorlevel=2) as archive:
        for info in archive:
            file = archive.extractfile(info)
            if file is None:
                raise IntegrityError(f"{info.name!r} in it is not a file; use another set")
            yield Member(info.name, info.size, file)
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all; typeshed does not name the list


@contextmanager
def _opened(store: BackupStore, keys: BackupKeys, pack: PackEntry) -> Iterator[tuple[IO[bytes], HashingReader]]:
    with retrying(lambda: store.open(pack_key(store, pack.id))) as reader:
        stored = HashingReader(cast(IO[bytes], reader))
        with pumped(lambda target: keys.decrypt(cast(IO[bytes], stored), target), f"decrypt pack {pack.id}") as decrypted:
            decompressor = zstandard.ZstdDecompressor()
            with decompressor.stream_reader(cast(IO[bytes], decrypted), read_size=CHUNK, closefd=False) as plain:
                yield cast(IO[bytes], plain), stored


def _compare(pack: PackEntry, stored: HashingReader) -> None:
    if (stored.bytes, stored.sha256) != (pack.bytes, pack.sha256):
        raise IntegrityError(
            f"the stored object is not the one that was written ({stored.bytes} bytes with SHA-256 {stored.sha256[:12]}..., "
            f"expected {pack.bytes} with {pack.sha256[:12]}...); use another set"
        )
