"""Whole sets from their copies back into the stack's own store, byte for byte; the manifest is put last."""

from __future__ import annotations

import hashlib
from typing import IO, cast

from blocks.errors import IntegrityError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows import side_file
from flows.backup.clickhouse_files import LIST_NAME, Index, IndexedFile, load_index, store_index
from flows.backup.manifest import ClickHouseDatabase, Manifest, Signature
from flows.catalogue import load_manifest, manifest_key, set_prefix
from flows.copy.landing import put_files
from flows.copy.records import CopiedObject, copy_manifest_key, load_list
from flows.copy.sealing import Proven, Unsealed, matches
from flows.lease import Lease, utc_now
from flows.report import line
from flows.side_file import Check
from flows.stack import Stack

__all__ = ["bring_back"]


def bring_back(stack: Stack, lease: Lease, set_id: str) -> int:
    """Make a set again in the stack's own store. The sets that it is a difference to are brought back before.

    What lies there already and is right is not fetched; what is damaged is replaced. Where ClickHouse's files get other ETags
    than they had (another kind of server), the set's index is written anew with these, and the manifest signed anew.

    Returns: how many objects were written.
    Raises:
        IntegrityError: an object of the copy is not what was written; the set does not exist, or is as damaged as it was.
        StoreError: one of the stores failed; run it again.
        LeaseLost: the stack's lock is no longer ours.
    """
    store, copy, keys = stack.store, stack.need_copy(), stack.keys
    listed = load_list(copy, keys, set_id)
    original = keys.decrypt_bytes(retrying(lambda: copy.get(copy_manifest_key(copy, set_id))))
    if hashlib.sha256(original).hexdigest() != listed.manifest_sha256:
        raise IntegrityError(f"copy of {set_id}: its manifest is not the one that was copied; use another copy")
    written = 0
    for item in listed.objects:
        lease.check()
        written += retrying(lambda: _put(store, copy, keys, item))  # noqa: B023 - called at once
    manifest = Manifest.from_json(original)
    fitted = _fit_indexes(store, keys, manifest)
    if fitted != manifest:
        public_key, value = keys.sign(fitted.signed_bytes())
        original = fitted.model_copy(update={"signature": Signature(public_key=public_key, value=value)}).to_json()
        line(f"{set_id}: this store gives other ETags to ClickHouse's files, so index and manifest were written anew")
    lease.check()
    retrying(lambda: store.put(manifest_key(store, set_id), original))
    load_manifest(store, keys, set_id)
    whole = Check(at=utc_now(), ok=True, what="brought back from the copy, every hash compared")
    side_file.record(store, set_id, presence=whole, hashes=whole)  # what was found out before is about other bytes
    return written + 1


def _put(store: BackupStore, copy: BackupStore, keys: BackupKeys, item: CopiedObject) -> int:
    """Write what an object of the copy stands for; returns how many objects."""
    target = store.root + item.stands_for
    if item.kind == "files":
        put_files(copy, keys, item, store, target)
        return item.files
    if matches(store, target, item.plain_bytes, item.plain_sha256):
        return 0
    there = copy.root + item.key
    source = Unsealed(copy, there, keys) if item.kind == "sealed" else copy.open(there)
    with source:
        proven = Proven(cast(IO[bytes], source), item.stands_for, item.plain_bytes, item.plain_sha256)
        store.put_stream(target, cast(IO[bytes], proven), expected_bytes=item.plain_bytes)
    return 1


def _fit_indexes(store: BackupStore, keys: BackupKeys, manifest: Manifest) -> Manifest:
    """Return the manifest with indexes whose ETags are those of this store."""
    components = [
        _fit_index(store, keys, manifest.id, component) if isinstance(component, ClickHouseDatabase) else component
        for component in manifest.components
    ]
    return manifest.model_copy(update={"components": components})


def _fit_index(store: BackupStore, keys: BackupKeys, set_id: str, component: ClickHouseDatabase) -> ClickHouseDatabase:
    prefix = set_prefix(store, set_id)
    index = load_index(store, prefix, component.index)
    listed = {
        i.key.removeprefix(prefix + component.path): i for i in retrying(lambda: list(store.list(prefix + component.path)))
    }
    in_base = _files_of_base(store, keys, component)
    files = []
    for file in index.files:
        if file.in_base:
            etag = in_base.get(file.name, file.etag)
        else:
            found = listed.get(file.name)
            if found is None or found.bytes != file.bytes:
                raise IntegrityError(f"{component.path}{file.name}: is missing after it was brought back, or cut short")
            etag = found.etag
        files.append(file.model_copy(update={"etag": etag}))
    if LIST_NAME not in listed:
        raise IntegrityError(f"{component.path}{LIST_NAME}: the copy holds no list of the backup; use another copy")
    if files == index.files:
        return component
    changed = Index(files=files, tables=index.tables)
    return component.model_copy(update={"index": store_index(store, prefix, component.index.key, changed)})


def _files_of_base(store: BackupStore, keys: BackupKeys, component: ClickHouseDatabase) -> dict[str, str]:
    """Return the ETags of the base's files as its own index, just brought back or never lost, has them."""
    if component.base is None:
        return {}
    manifest = load_manifest(store, keys, component.base)
    base = next((c for c in manifest.clickhouse if c.name == component.name), None)
    if base is None:
        raise IntegrityError(f"set {component.base}: holds no clickhouse {component.name}, which is the base of another set")
    files: list[IndexedFile] = load_index(store, set_prefix(store, manifest.id), base.index).files
    return {file.name: file.etag for file in files}
