"""A backup set while it is being made: everything is stored below one folder, and the manifest makes it exist.

Until the manifest is there, in one PUT, nobody sees a set. A run that fails removes what it stored; one that is killed leaves a
folder without manifest, which the next prune removes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any

from blocks.errors import BackupFailed, ConditionFailed, IntegrityError, SettingsError, StackError, StoreError
from blocks.retry import retrying
from flows.backup import escape
from flows.backup.manifest import Component, Dangling, KeyFingerprints, Manifest, PostgresGlobals, Signature, StoredObject
from flows.backup.stream import store_encrypted
from flows.buckets.packs import discard_packs
from flows.catalogue import DEFINITIONS, manifest_key, set_prefix
from flows.lease import Lease, utc_now
from flows.report import flow_run_id, line
from flows.stack import Stack, project_version


def new_set_id(now: datetime) -> str:
    """Make the id of a set: its time, sortable, and six letters so that two runs never share one."""
    letters = base64.b32encode(secrets.token_bytes(4)).decode().lower()[:6]
    return f"{now:%Y%m%dT%H%M%SZ}-{letters}"


class BackupSet:
    """A set that is being made.

    Attributes:
        id: of the set. prefix: key prefix of everything in it. components: what has been taken so far.
        dangling: references between the stores that lead nowhere. pack_numbers: of the packs that this set writes.
        committed: the manifest is in the store.
    """

    def __init__(self, stack: Stack, lease: Lease, *, label: str, protect: bool) -> None:
        self._stack = stack
        self._lease = lease
        self._label = label
        self._protect = protect
        self._created_at = utc_now()
        self.id = new_set_id(self._created_at)
        self.prefix = set_prefix(stack.store, self.id)
        self.components: list[Component] = []
        self.not_taken: list[str] = []
        self.dangling: list[Dangling] = []
        self.pack_numbers = count(1)
        self.committed = False

    def add(self, *components: Component) -> None:
        """Take components into the set."""
        self.components.extend(components)
        for component in components:
            if not isinstance(component, PostgresGlobals):
                self.not_taken += [f"{component.kind} {component.name}: {what}" for what in component.not_taken]

    def leave_out(self, what: str) -> None:
        """Record something a reader might expect in the set and will not find."""
        self.not_taken.append(what)

    def commit(self) -> Manifest:
        """Verify that everything is stored, sign the manifest and put it: from then on the set exists.

        Returns: the manifest, with the details that the stored one keeps apart.
        Raises:
            IntegrityError: an object is missing or has another size than was written.
            LeaseLost: the stack's lock is no longer ours.
            StoreError: the store failed; whether the manifest is there is not known, so the set is to be discarded.
        """
        wrapped, values = self._stack.keys.fingerprint()
        draft = Manifest(
            id=self.id,
            stack=self._stack.name,
            label=self._label,
            protected=self._protect,
            created_at=self._created_at,
            committed_at=utc_now(),
            project_version=project_version(),
            flow_run=flow_run_id(),
            lease_token=self._lease.token,
            recipients=list(self._stack.keys.recipients),
            components=self.components,
            fingerprints=KeyFingerprints(wrapped_key=wrapped, values=values),
            not_taken=self.not_taken,
            dangling=self.dangling,
        )
        details = draft.details()
        draft = draft.model_copy(update={"definitions": self._store_definitions(details)})
        extras = self._store_extras(draft)
        draft = draft.with_details({}).model_copy(update={"extras": extras})
        self._verify(draft)
        public_key, value = self._stack.keys.sign(draft.signed_bytes())
        manifest = draft.model_copy(update={"signature": Signature(public_key=public_key, value=value)})
        self._lease.check()
        self._put_manifest(manifest.to_json())
        self.committed = True
        return manifest.with_details(details)

    def discard(self) -> None:
        """Remove everything this run stored, unfinished uploads included.

        The manifest goes first: it may be there although writing it seemed to fail, and a set without its objects must not be.
        """
        store = self._stack.store
        store.remove([manifest_key(store, self.id)])
        for upload in list(store.uploads(self.prefix)):
            store.abort(upload)
        store.remove_below(self.prefix)
        discard_packs(store, self.id)

    def _put_manifest(self, data: bytes) -> None:
        store, key = self._stack.store, manifest_key(self._stack.store, self.id)
        try:
            retrying(lambda: store.put(key, data, if_absent=True))
        except ConditionFailed:  # it may be our own write, whose answer got lost, or which was cut off and left nothing
            found, etag = retrying(lambda: store.get_with_etag(key))
            if found and found != data:
                raise
            if not found:
                retrying(lambda: store.put(key, data, if_etag=etag))

    def _store_definitions(self, details: dict[str, dict[str, Any]]) -> StoredObject | None:
        """Store what would make the manifest too large to list thousands of them; encrypted, as function bodies are in it."""
        if not details:
            return None
        data = json.dumps(details, sort_keys=True, ensure_ascii=False).encode()
        store, keys = self._stack.store, self._stack.keys
        return retrying(lambda: store_encrypted(store, self.prefix, DEFINITIONS, io.BytesIO(data), keys))

    def _store_extras(self, draft: Manifest) -> list[StoredObject]:
        extras = []
        for name, text in escape.files(draft, self._stack.store).items():
            data = text.encode()
            retrying(partial(self._stack.store.put, self.prefix + name, data))
            digest = hashlib.sha256(data).hexdigest()
            extras.append(StoredObject(key=name, bytes=len(data), sha256=digest, plain_bytes=len(data), plain_sha256=digest))
        return extras

    def _verify(self, draft: Manifest) -> None:
        stored = {item.key: item.bytes for item in retrying(lambda: list(self._stack.store.list(self.prefix)))}
        for item in draft.stored_objects():
            found = stored.get(self.prefix + item.key)
            if found != item.bytes:
                raise IntegrityError(
                    f"{item.key}: {'missing' if found is None else f'{found} bytes'} in the store right after it was written, "
                    f"expected {item.bytes} bytes; is somebody deleting there?"
                )
        for component in draft.clickhouse:  # each file was compared with ClickHouse's list when it was written
            size = sum(length for key, length in stored.items() if key.startswith(self.prefix + component.path))
            if size < component.bytes:
                raise IntegrityError(
                    f"{component.path}: {size} bytes in the store right after it was written, expected {component.bytes}; "
                    "is somebody deleting there?"
                )


@contextmanager
def new_set(stack: Stack, lease: Lease, *, label: str, protect: bool) -> Iterator[BackupSet]:
    """Make a set in the body; whatever goes wrong there before it is committed, nothing of it stays.

    Raises:
        BackupFailed: what went wrong; nothing was committed. Errors that are not of this project are raised as they are.
    """
    backup_set = BackupSet(stack, lease, label=label, protect=protect)
    try:
        yield backup_set
    except BaseException as error:
        if backup_set.committed:
            raise
        left = _discard(backup_set)
        if isinstance(error, StackError):
            raise BackupFailed(f"backup {backup_set.id}: {error} ({left})") from error
        raise


def _discard(backup_set: BackupSet) -> str:
    try:
        retrying(backup_set.discard)
    except StoreError as error:
        line(f"could not remove the objects of {backup_set.id}: {error}; the next prune will")
        return "nothing was committed; the next prune removes its objects"
    return "nothing was committed, its objects were removed"


KINDS = ("postgres", "clickhouse", "bucket")


def refuse_unknown(requested: Iterable[str]) -> None:
    """Refuse what is not the name of a component.

    Raises:
        SettingsError: which one, and what it should look like.
    """
    for item in requested:
        if item.partition("/")[0] not in KINDS:
            kinds = ", ".join(KINDS)
            raise SettingsError(f"component {item!r}: expected {kinds}, or one of them such as postgres/litellm")


def wanted(requested: Iterable[str], kind: str, names: Iterable[str]) -> list[str]:
    """Choose the databases or buckets of one kind.

    Args:
        requested: `kind` for all of a kind or `kind/name` for one; empty for everything.
        kind: `postgres`, `clickhouse` or `bucket`. names: all there are.
    Returns: the names to take, in the order of `names`.
    Raises:
        SettingsError: there is no such one.
    """
    requested, names = list(requested), list(names)
    if not requested or kind in requested:
        return names
    chosen = [item.removeprefix(f"{kind}/") for item in requested if item.startswith(f"{kind}/")]
    for name in chosen:
        if name not in names:
            raise SettingsError(f"there is no {kind} {name!r} to back up; there are: {', '.join(names) or 'none'}")
    return [name for name in names if name in chosen]
