"""A stack with real sets in it, and second stores by the dozen, without Prefect."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count

from pydantic import SecretStr

from blocks.object_store import BackupStore, s3_bucket
from flows import catalogue
from flows.backup.clickhouse import BaseBackup, backup_database
from flows.backup.manifest import Manifest
from flows.backup.postgres import dump_database, dump_globals
from flows.backup.sets import new_set
from flows.buckets.backup import Previous, backup_bucket
from flows.catalogue import set_prefix
from flows.compare.postgres import compare_database as compare_postgres
from flows.copy.sending import Copied, copy_set
from flows.copy.view import reading_from
from flows.lease import Lease
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from flows.restore.choose import base_of
from flows.stack import Stack
from shared.engines.object_store import S3Engine
from tests.stores import seen_through

CANARY = "CANARY-4711-of-the-data"
DATABASE = "copyapp"
AGE = b"age-encryption.org/v1\n"


def store_on(engine: S3Engine, bucket: str, stack: str, **fields: object) -> BackupStore:
    """A store on an S3 server; the bucket is made."""
    engine.create_bucket(bucket)
    name = s3_bucket(engine.endpoint_url, engine.access_key, SecretStr(engine.secret_key), bucket, engine.region)
    return BackupStore.model_validate({"bucket": name, "stack": stack, **fields})


def contents(store: BackupStore, below: str = "") -> dict[str, str]:
    """Every object below a folder of a store: key below its root -> SHA-256."""
    keys = [item.key for item in store.list(store.root + below)]
    return {key.removeprefix(store.root): hashlib.sha256(store.get(key)).hexdigest() for key in keys}


def sets_and_packs(store: BackupStore) -> dict[str, str]:
    """Every object of every set, packs included: without locks and records."""
    return contents(store, "sets/") | contents(store, "packs/")


@dataclass(frozen=True)
class Lab:
    """One test's view: a stack whose sets are shared by all tests, and a second store of its own.

    Attributes:
        stack: with its second store. lease: the stack's lock. full, difference: ids of the two sets that are there.
    """

    stack: Stack
    lease: Lease
    full: str
    difference: str

    @property
    def store(self) -> BackupStore:
        """The stack's own store."""
        return self.stack.store

    @property
    def second(self) -> BackupStore:
        """The second store."""
        return self.stack.need_copy()

    def copy(self, *ids: str) -> list[Copied]:
        """Copy sets; default both."""
        return [copy_set(self.stack, self.lease, set_id) for set_id in ids or (self.full, self.difference)]

    def with_copy(self, copy: BackupStore) -> Lab:
        """The same with another second store."""
        return replace(self, stack=replace(self.stack, copy=copy))

    def with_own_connections(self) -> Lab:
        """The same for another process."""
        return replace(self, stack=replace(self.stack, store=seen_through(self.store), copy=seen_through(self.second)))

    @contextmanager
    def tampered(self, store: BackupStore, key: str, data: bytes) -> Iterator[None]:
        """Replace an object during the body."""
        before = store.get(store.root + key)
        store.put(store.root + key, data)
        try:
            yield
        finally:
            store.put(store.root + key, before)

    def drill(self, set_id: str, *, source: str = "copy") -> list[str]:
        """Restore a set beside the live databases, compare, drop; returns the differences."""
        found = []
        with reading_from(self.stack, "copy" if source == "copy" else "store") as stack:
            manifest = catalogue.with_definitions(stack.store, stack.keys, catalogue.read(stack.store, stack.keys).need(set_id))
            prefix = set_prefix(stack.store, manifest.id)
            for component in manifest.postgres:
                server, target = stack.need_postgres_admin(), f"{component.name}__drill_{secrets.token_hex(3)}"
                try:
                    on_postgres.restore_database(server, component, stack.store, prefix, stack.keys, target, analyze=False)
                    found += [str(item) for item in compare_postgres(server, component, target)]
                finally:
                    on_postgres.drop_database(server, target)
            for table_set in manifest.clickhouse:
                clickhouse, target = stack.need_clickhouse(), f"{table_set.name}__drill_{secrets.token_hex(3)}"
                try:
                    base = base_of(stack, table_set)
                    on_clickhouse.restore_database(clickhouse, table_set, stack.store, prefix, base, target)
                    found += [str(item) for item in on_clickhouse.compare(clickhouse, table_set, target)]
                finally:
                    on_clickhouse.drop_database(clickhouse, target)
        return found

    def landed(self) -> list[str]:
        """What restores from a copy have left in the stack's own store, besides their lock."""
        folder = f"{self.store.root}landing/"
        return [item.key for item in self.store.list(folder) if not item.key.endswith("/lock.json")]


def take_set(stack: Stack, lease: Lease, earlier: Manifest | None = None) -> Manifest:
    """Take a set of everything, as the backup flow does; a difference where there is an earlier one."""
    with new_set(stack, lease, label="", protect=False) as backup_set:
        base = None
        if earlier is not None:
            base = BaseBackup(earlier.id, set_prefix(stack.store, earlier.id), earlier.clickhouse[0])
        taken = backup_database(
            stack.need_clickhouse(), DATABASE, stack.store, backup_set.prefix, backup_set.id, base=base, deadline=120
        )
        backup_set.add(taken)
        backup_set.add(dump_database(stack.need_postgres(), DATABASE, stack.store, backup_set.prefix, stack.keys))
        backup_set.add(dump_globals(stack.need_postgres(), stack.store, backup_set.prefix, stack.keys))
        previous = Previous(set_prefix(stack.store, earlier.id), earlier.buckets[0]) if earlier is not None else None
        backup_set.add(
            backup_bucket(
                stack.sources[0],
                stack.store,
                stack.keys,
                backup_set.prefix,
                backup_set.id,
                previous=previous,
                numbers=count(1),
                folder=None,
                progress=lambda _text: None,
            )
        )
        return backup_set.commit()
