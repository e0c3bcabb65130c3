"""What of a set is copied, and as what: a list of items that is the same each time, so that a killed copy can go on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from blocks.object_store import BackupStore
from flows.backup.clickhouse_files import LIST_NAME, load_index, load_list, verify_files
from flows.backup.manifest import ClickHouseDatabase, Manifest, StoredObject
from flows.buckets.packs import PackEntry, pack_key, read_packs_list
from flows.catalogue import set_prefix
from flows.copy.records import SEALED

__all__ = ["FILES_BYTES", "File", "Item", "items_of"]

FILES_BYTES = 64 * 1024 * 1024
"""Plain bytes after which a tar of ClickHouse's files is full."""


@dataclass(frozen=True, slots=True)
class File:
    """One of ClickHouse's files.

    Attributes:
        name: below the folder of its backup. key: full. bytes: its size.
        md5, sha256: what is known of its content, hex; ClickHouse writes its files itself, so mostly an ETag.
    """

    name: str
    key: str
    bytes: int
    md5: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Item:
    """One object that a copy shall have.

    Attributes:
        key: below the root of the second store. kind: see `CopiedObject`.
        stands_for: key, or folder with slash, below the root of the stack's own store.
        bytes: size of what it stands for. sha256: of that, hex; empty for files.
        files: what a tar holds, in this order.
    """

    key: str
    kind: Literal["same", "sealed", "files"]
    stands_for: str
    bytes: int
    sha256: str = ""
    files: Sequence[File] = ()


def items_of(store: BackupStore, manifest: Manifest) -> Iterator[Item]:
    """Yield what a copy of a set consists of.

    Args:
        store: the stack's own. manifest: of the set.
    Raises:
        IntegrityError: names an object of the set that is missing or was replaced.
    """
    prefix = set_prefix(store, manifest.id)
    folder = prefix.removeprefix(store.root)
    for item in manifest.stored_objects():
        yield _single(folder, item)
    for component in manifest.clickhouse:
        yield from _clickhouse(store, prefix, component)
    packs: dict[str, PackEntry] = {}
    for bucket in manifest.buckets:
        packs |= read_packs_list(store, prefix, bucket)
    for pack_id, pack in sorted(packs.items()):
        key = pack_key(store, pack_id).removeprefix(store.root)
        yield Item(key, "same", key, pack.bytes, pack.sha256)


def _single(folder: str, item: StoredObject) -> Item:
    key = folder + item.key
    if key.endswith(SEALED):
        return Item(key, "same", key, item.bytes, item.sha256)
    return Item(key + SEALED, "sealed", key, item.bytes, item.sha256)


def _clickhouse(store: BackupStore, prefix: str, component: ClickHouseDatabase) -> Iterator[Item]:
    folder = prefix + component.path
    listed = load_list(store, folder, component.name, sha256=component.backup_file_sha256)
    own = [file for file in load_index(store, prefix, component.index).files if not file.in_base]
    verify_files(own, store, folder, None, component.name)
    files = [File(file.name, folder + file.name, file.bytes, md5=md5_of(file.etag)) for file in own]
    files.append(File(LIST_NAME, folder + LIST_NAME, listed.bytes, sha256=component.backup_file_sha256))
    below = folder.removeprefix(store.root)
    for number, group in enumerate(_grouped(sorted(files, key=lambda file: file.name)), 1):
        key = f"{below.rstrip('/')}.{number:05}.tar.zst.age"
        yield Item(key, "files", below, sum(file.bytes for file in group), files=group)


def _grouped(files: Iterable[File]) -> Iterator[list[File]]:
    group: list[File] = []
    size = 0
    for file in files:
        group.append(file)
        size += file.bytes
        if size >= FILES_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def md5_of(etag: str) -> str:
    """Return the MD5 that an ETag is, or nothing for one of a multipart upload."""
    text = etag.strip('"').lower()
    return text if len(text) == 32 and all(letter in "0123456789abcdef" for letter in text) else ""
