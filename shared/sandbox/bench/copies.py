"""The bench row of copies: a set whose one object has a gigabyte, against a plain stream of it from store to store."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import IO, Protocol, cast

from blocks.object_store import BackupStore
from flows.backup.manifest import Manifest, PostgresGlobals, Signature, StoredObject
from flows.backup.pipes import CHUNK
from flows.backup.sets import new_set_id
from flows.buckets.lines import BytesReader
from flows.catalogue import manifest_key, set_prefix
from flows.copy.sending import copy_set
from flows.lease import acquire, utc_now
from flows.stack import Stack, project_version

__all__ = ["copy_row"]

KEY = "postgres/globals.sql.zst.age"


class _Compare(Protocol):
    """`Bench.compare`."""

    def __call__(
        self, name: str, ours: Callable[[], object], reference: Callable[[], object], *, at_most: float | None = None
    ) -> None: ...


def copy_row(stack: Stack, compare: _Compare, *, gigabytes: float = 1.0) -> None:
    """Add the row `copy_1gb`: copying a set to the second store against `get_object` -> `put_stream` of its one object.

    Args:
        stack: with a second store. compare: `Bench.compare`. gigabytes: size of the object.
    """
    bench = replace(stack, store=_apart(stack.store), copy=_apart(stack.need_copy()))
    store, copy = bench.store, bench.need_copy()
    manifest = _make_set(bench, round(gigabytes * 1e9))
    prefix, target = set_prefix(store, manifest.id), f"{copy.root}reference"

    def ours() -> None:
        copy.remove_below(set_prefix(copy, manifest.id))
        lease = acquire(store, flow="copy", holder="bench", seconds=600, wait=0)
        try:
            copy_set(bench, lease, manifest.id)
        finally:
            lease.release()

    def reference() -> None:
        copy.remove([target])
        body = store.client.get_object(Bucket=store.name, Key=prefix + KEY)["Body"]
        copy.put_stream(target, cast(IO[bytes], body))

    try:
        compare("copy_1gb", ours, reference, at_most=1.2)
    finally:
        for one in (store, copy):
            one.remove([item.key for item in one.list(one.root)])


def _apart(store: BackupStore) -> BackupStore:
    """The same store in a folder of the bench's own."""
    return store.model_copy(update={"prefix": "bench-copy"})


def _make_set(stack: Stack, size: int) -> Manifest:
    """Commit a set of one object with random bytes, as encrypted ones look."""
    set_id, pieces = new_set_id(utc_now()), size // CHUNK
    piece, digest = secrets.token_bytes(CHUNK), hashlib.sha256()
    for _ in range(pieces):
        digest.update(piece)
    source = BytesReader(piece for _ in range(pieces))
    stack.store.put_stream(set_prefix(stack.store, set_id) + KEY, cast(IO[bytes], source))
    count = pieces * CHUNK
    stored = StoredObject(key=KEY, bytes=count, sha256=digest.hexdigest(), plain_bytes=count, plain_sha256=digest.hexdigest())
    draft = Manifest(
        id=set_id,
        stack=stack.name,
        created_at=utc_now(),
        committed_at=utc_now() + timedelta(seconds=1),
        project_version=project_version(),
        lease_token=1,
        recipients=list(stack.keys.recipients),
        components=[PostgresGlobals(object=stored, roles=[])],
    )
    public_key, value = stack.keys.sign(draft.signed_bytes())
    made = draft.model_copy(update={"signature": Signature(public_key=public_key, value=value)})
    stack.store.put(manifest_key(stack.store, set_id), made.to_json())
    return made
