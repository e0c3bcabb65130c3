"""What dead runs leave behind, on the real store, and the carrying out of a plan."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from blocks.errors import LeaseLost
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows import catalogue
from flows.catalogue import manifest_key, set_prefix
from flows.lease import acquire, lock_key
from flows.prune.flow import delete_sets, remove_leftovers
from flows.prune.leftovers import Leftovers, find
from tests.manifests import NIGHT, clickhouse, commit, stack_of

DAY = timedelta(hours=24)
HALF = "20261122T030000Z-halfaa"


def look(store: BackupStore, keys: BackupKeys, now: datetime, grace: timedelta = DAY) -> Leftovers:
    """Look for leftovers at some time."""
    return find(store, catalogue.read(store, keys), now, grace)


def begin_upload(store: BackupStore, key: str) -> None:
    """Begin a multipart upload and never end it."""
    store.client.create_multipart_upload(Bucket=store.bucket.bucket_name, Key=store.root + key)


def test_a_committed_set_is_none(store: BackupStore, keys: BackupKeys) -> None:
    commit(store, keys)
    assert look(store, keys, store.now() + 100 * DAY) == Leftovers(halves=[], young=[], uploads=[])


def test_a_folder_without_manifest_is_left_alone_until_it_has_been_quiet_for_the_grace_period(
    store: BackupStore, keys: BackupKeys
) -> None:
    """The backup that writes it may be under way."""
    store.put(set_prefix(store, HALF) + "postgres/litellm.dump.zst.age", b"half")
    now = store.now()
    assert look(store, keys, now + DAY - timedelta(minutes=1)) == Leftovers(halves=[], young=[HALF], uploads=[])
    assert look(store, keys, now + DAY + timedelta(minutes=1)) == Leftovers(halves=[HALF], young=[], uploads=[])


def test_an_empty_manifest_is_none(store: BackupStore, keys: BackupKeys) -> None:
    """What SeaweedFS keeps of a process that was killed between the head and the body of its request."""
    store.put(manifest_key(store, HALF), b"")
    assert look(store, keys, store.now() + 2 * DAY).halves == [HALF]


def test_unfinished_uploads_are_found_after_the_grace_period(store: BackupStore, keys: BackupKeys) -> None:
    begin_upload(store, f"sets/{HALF}/postgres/litellm.dump.zst.age")
    assert look(store, keys, store.now()).uploads == []
    assert [u.key for u in look(store, keys, store.now() + 2 * DAY).uploads] == [
        f"{set_prefix(store, HALF)}postgres/litellm.dump.zst.age"
    ]


def test_an_upload_that_was_begun_lately_keeps_its_folder_young(store: BackupStore, keys: BackupKeys) -> None:
    """The last object may be older than the grace period while a large dump is being stored."""
    store.put(set_prefix(store, HALF) + "clickhouse/x", b"")
    begin_upload(store, f"sets/{HALF}/postgres/litellm.dump.zst.age")
    listed = catalogue.Catalogue(halves=[HALF])
    begun = next(store.uploads(store.root)).begun
    assert find(store, listed, begun + timedelta(hours=1), timedelta(hours=1)).halves == [HALF]
    assert find(store, listed, begun + timedelta(minutes=59), timedelta(hours=1)).young == [HALF]


def test_another_stack_s_leftovers_are_none_of_ours(store: BackupStore, keys: BackupKeys) -> None:
    other = store.model_copy(update={"stack": store.stack + "-two"})
    other.put(set_prefix(other, HALF) + "x", b"")
    begin_upload(other, "sets/x")
    assert look(store, keys, store.now() + 2 * DAY) == Leftovers(halves=[], young=[], uploads=[])


def test_leftovers_are_removed_and_nothing_else(store: BackupStore, keys: BackupKeys) -> None:
    stack = stack_of(store, keys)
    good = commit(store, keys)
    store.put(set_prefix(store, HALF) + "a", b"")
    store.put(set_prefix(store, HALF) + "b/c", b"")
    begin_upload(store, f"sets/{HALF}/d")
    left = look(store, keys, store.now() + 2 * DAY)
    lease = acquire(store, flow="prune", holder="test", seconds=60, wait=0)
    remove_leftovers(stack, lease, left)
    lease.release()
    assert list(store.uploads(store.root)) == []
    assert {item.key.removeprefix(store.root).split("/")[1] for item in store.list(f"{store.root}sets/")} == {good.id}


def test_a_deletion_begins_with_the_manifest(store: BackupStore, keys: BackupKeys) -> None:
    """Whatever happens next, the set is not visible any more, and what is left of it is a half set."""
    made = commit(store, keys)
    order: list[str] = []

    def note(params: dict[str, str], **_: object) -> None:
        order.append(params["Key"])

    store.client.meta.events.register("before-parameter-build.s3.DeleteObject", note)
    lease = acquire(store, flow="prune", holder="test", seconds=60, wait=0)
    try:
        delete_sets(stack_of(store, keys), lease, [made.id])
    finally:
        store.client.meta.events.unregister("before-parameter-build.s3.DeleteObject", note)
        lease.release()
    assert order == [manifest_key(store, made.id), set_prefix(store, made.id) + "postgres/litellm.dump.zst.age"]
    assert [item.key for item in store.list(store.root)] == [lock_key(store)]


def test_nothing_is_deleted_without_the_lock(store: BackupStore, keys: BackupKeys) -> None:
    made = commit(store, keys)
    store.put(set_prefix(store, HALF) + "a", b"")
    lease = acquire(store, flow="prune", holder="test", seconds=60, wait=0)
    store.remove([lock_key(store)])
    stack = stack_of(store, keys)
    with pytest.raises(LeaseLost):
        delete_sets(stack, lease, [made.id])
    with pytest.raises(LeaseLost):
        remove_leftovers(stack, lease, Leftovers(halves=[HALF], young=[], uploads=[]))
    lease.release()
    assert len(list(store.list(f"{store.root}sets/"))) == 3


def test_a_set_whose_base_is_gone_is_not_good(store: BackupStore, keys: BackupKeys) -> None:
    base = commit(store, keys, NIGHT - timedelta(days=1), components=[clickhouse()])
    made = commit(store, keys, components=[clickhouse(base=base.id)])
    assert [entry.good for entry in catalogue.read(store, keys).entries] == [True, True]
    store.remove([manifest_key(store, base.id)])
    entry = catalogue.read(store, keys).entries[0]
    assert entry.id == made.id
    assert not entry.good
    assert base.id in entry.fault
