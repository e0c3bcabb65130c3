"""One set to the second store: each object sent once and proven on the way, the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, cast

from blocks.errors import IntegrityError, StoreError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, Listed
from blocks.retry import retrying
from flows.backup.manifest import Manifest, Signature
from flows.backup.stream import store_encrypted
from flows.buckets.lines import BytesReader
from flows.catalogue import load_manifest, manifest_key, set_prefix
from flows.copy.contents import Item, items_of
from flows.copy.locking import keep_locked, lock_bases
from flows.copy.progress import Sent
from flows.copy.records import CopiedObject, CopyList, copy_list_key, copy_manifest_key
from flows.copy.sealing import Proven, put_compressed, seal
from flows.copy.tar import tar_of
from flows.lease import Lease, utc_now
from flows.stack import Stack, project_version

__all__ = ["Copied", "absent", "copy_set", "send", "what_is_there"]


@dataclass(frozen=True)
class Copied:
    """A set that was copied.

    Attributes:
        list: what the copy consists of. sent, sent_bytes: objects that went over now, and their size; the others were there.
    """

    list: CopyList
    sent: int
    sent_bytes: int


def copy_set(stack: Stack, lease: Lease, set_id: str) -> Copied:
    """Copy a set; what an earlier run has sent is not sent again. The sets that it is a difference to are copied before.

    Raises:
        IntegrityError: an object of the set is not what was backed up (it is named, and was not copied), or one of the copy
            is not there right after it was written.
        StoreError: one of the stores failed; the copy does not exist, and the next run goes on with it.
        LeaseLost: the stack's lock is no longer ours.
    """
    try:
        return _copy_set(stack, lease, set_id)
    except StoreError as error:
        if type(error) is not StoreError:
            raise
        where = f"{stack.need_copy().name} at {stack.need_copy().endpoint or 'AWS'}"
        raise StoreError(f"copy of {set_id} to {where}: {error}", permanent=error.permanent) from None


def _copy_set(stack: Stack, lease: Lease, set_id: str) -> Copied:
    store, copy, keys = stack.store, stack.need_copy(), stack.keys
    manifest, original = read_original(store, keys, set_id)
    there = what_is_there(copy, manifest)
    progress = Sent(store, set_id)
    objects: list[CopiedObject] = []
    old: list[str] = []
    sent = sent_bytes = 0
    for item in items_of(store, manifest):
        found = progress.find(item, there.get(item.key))
        if found is None:
            found = retrying(lambda: send(store, copy, keys, item))  # noqa: B023 - called at once
            progress.add(found)
            sent, sent_bytes = sent + 1, sent_bytes + found.bytes
        else:
            old.append(copy.root + found.key)
        objects.append(found)
    if problems := absent(objects, what_is_there(copy, manifest)):
        raise IntegrityError(f"copy of {set_id}: {problems[0]} right after it was written; is somebody deleting there?")
    keep_locked(copy, old)
    lock_bases(copy, manifest)
    listed = _signed(stack, set_id, original, objects)
    lease.check()
    put_compressed(copy, copy_list_key(copy, set_id), listed.model_dump_json().encode(), keys)
    sealed = keys.encrypt_bytes(original)
    retrying(lambda: copy.put(copy_manifest_key(copy, set_id), sealed))
    progress.forget()
    return Copied(listed, sent + 2, sent_bytes + len(sealed))


def read_original(store: BackupStore, keys: BackupKeys, set_id: str) -> tuple[Manifest, bytes]:
    """Read a manifest, its signature verified, and its very bytes."""
    manifest = load_manifest(store, keys, set_id)
    original = retrying(lambda: store.get(manifest_key(store, set_id)))
    if Manifest.from_json(original) != manifest:
        raise IntegrityError(f"set {set_id}: its manifest changed while it was read; is somebody writing there?")
    return manifest, original


def what_is_there(copy: BackupStore, manifest: Manifest) -> dict[str, Listed]:
    """List what the second store has of a set, packs included, by key below its root."""
    prefixes = [set_prefix(copy, manifest.id)]
    prefixes += sorted({f"{copy.root}packs/{writer}-" for bucket in manifest.buckets for writer in bucket.pack_ids})
    found: dict[str, Listed] = {}
    for prefix in prefixes:
        found |= {i.key.removeprefix(copy.root): i for i in retrying(lambda: list(copy.list(prefix)))}  # noqa: B023
    return found


def absent(objects: Iterable[CopiedObject], there: dict[str, Listed]) -> list[str]:
    """Name what is missing from a copy, or is another object than was written: a phrase each."""
    problems = []
    for item in objects:
        found = there.get(item.key)
        if found is None:
            problems.append(f"{item.key} is missing")
        elif found.bytes != item.bytes:
            problems.append(f"{item.key} has {found.bytes} bytes instead of {item.bytes}")
        elif item.etag and found.etag != item.etag:
            problems.append(f"{item.key} was replaced (another ETag)")
    return problems


def send(store: BackupStore, copy: BackupStore, keys: BackupKeys, item: Item) -> CopiedObject:
    """Send one object.

    Args:
        store: from. copy: to. item: what.
    Returns: what stands in the second store now.
    Raises:
        IntegrityError: what was read is not what was backed up; nothing was stored.
    """
    size, sha256, plain_bytes, plain_sha256 = _send(store, copy, keys, item)
    found = copy.find(copy.root + item.key)
    if found is None or found.bytes != size:
        raise StoreError(f"copy: {item.key} is not there right after it was written, or is cut short; is somebody deleting?")
    return CopiedObject(
        key=item.key,
        kind=item.kind,
        stands_for=item.stands_for,
        bytes=size,
        sha256=sha256,
        plain_bytes=plain_bytes,
        plain_sha256=plain_sha256,
        files=len(item.files) or 1,
        etag=found.etag,
    )


def _send(store: BackupStore, copy: BackupStore, keys: BackupKeys, item: Item) -> tuple[int, str, int, str]:
    """Send; returns size and hash of what was stored, and of what it stands for."""
    if item.kind == "files":
        source = cast(IO[bytes], BytesReader(tar_of(store, item.files)))
        stored = store_encrypted(copy, copy.root, item.key, source, keys, expected_bytes=item.bytes)
        return stored.bytes, stored.sha256, stored.plain_bytes, stored.plain_sha256
    with store.open(store.root + item.stands_for) as reader:
        proven = cast(IO[bytes], Proven(cast(IO[bytes], reader), item.stands_for, item.bytes, item.sha256))
        if item.kind == "sealed":
            sealed = seal(copy, copy.root + item.key, proven, keys, expected_bytes=item.bytes)
            return sealed.bytes, sealed.sha256, item.bytes, item.sha256
        copy.put_stream(copy.root + item.key, proven, expected_bytes=item.bytes)
    return item.bytes, item.sha256, item.bytes, item.sha256


def _signed(stack: Stack, set_id: str, original: bytes, objects: list[CopiedObject]) -> CopyList:
    draft = CopyList(
        set_id=set_id,
        stack=stack.name,
        copied_at=utc_now(),
        project_version=project_version(),
        manifest_sha256=hashlib.sha256(original).hexdigest(),
        objects=objects,
    )
    public_key, value = stack.keys.sign(draft.signed_bytes())
    return draft.model_copy(update={"signature": Signature(public_key=public_key, value=value)})
