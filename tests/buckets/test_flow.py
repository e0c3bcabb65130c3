"""The flow that puts objects back, on the whole stack: previewed, refused, carried out, taken back, forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from blocks.errors import ApprovalMissing, RestoreRefused, SettingsError
from flows.buckets.backup import backup_bucket
from flows.buckets.flow import BucketRestoreRequest, restore_bucket
from flows.buckets.plan import restores_of
from flows.catalogue import set_prefix
from flows.stack import Stack
from shared.sandbox.blocks import stack_from
from shared.sandbox.stack import Sandbox
from tests.manifests import NIGHT, commit

pytestmark = pytest.mark.long

BELOW = "flow-test/"
SET = f"{NIGHT:%Y%m%dT%H%M%SZ}-abcdef"


@pytest.fixture
def stack(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The sandbox as a worker sees it, with one set of a few objects of its bucket."""
    environment = sandbox.environment()
    stack = stack_from(environment)
    source, store = stack.sources[0].model_copy(update={"prefix": BELOW}), stack.store
    store.remove([item.key for item in store.list(store.root)])  # of whoever had the sandbox before
    for number in range(5):
        source.put(f"{BELOW}{number}", b"%d" % number)
    component = backup_bucket(
        source,
        store,
        stack.keys,
        set_prefix(store, SET),
        SET,
        previous=None,
        numbers=itertools.count(1),
        folder=None,
        progress=lambda _: None,
    )
    commit(store, stack.keys, components=[component])
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        yield stack
    source.remove([item.key for item in source.list(BELOW)])
    store.remove([item.key for item in store.list(store.root)])


def test_objects_are_put_back_by_the_flow_and_that_is_taken_back(stack: Stack, sandbox: Sandbox) -> None:
    source, name = stack.sources[0], stack.name

    def live() -> dict[str, bytes]:
        return {item.key.removeprefix(BELOW): source.get(item.key) for item in source.list(BELOW)}

    then = live()
    source.remove([f"{BELOW}1", f"{BELOW}2"])
    source.put(f"{BELOW}3", b"altered")
    source.put(f"{BELOW}later", b"extra")
    damaged = live()

    assert restore_bucket(BucketRestoreRequest(set_id=SET, dry_run=True)) is None
    plan = sandbox.artifact(f"restore-bucket-plan-{name}")
    assert plan is not None
    assert "2 missing, put back, 1 different, overwritten, 0 extra, deleted" in plan
    assert "1 objects were not there then and are left alone" in plan
    with pytest.raises(ApprovalMissing, match="this is the stack"):
        restore_bucket(BucketRestoreRequest(set_id=SET, confirm="another"))
    with pytest.raises(SettingsError, match="no bucket 'absent'"):
        restore_bucket(BucketRestoreRequest(set_id=SET, bucket="absent"))
    with pytest.raises(RestoreRefused, match="no restore 'absent' to finish"):
        restore_bucket(BucketRestoreRequest(set_id=SET, restore_id="absent"))
    with pytest.raises(RestoreRefused, match="no restore '' to act on; the latest are: none"):
        restore_bucket(BucketRestoreRequest(action="undo", confirm=name))
    assert live() == damaged
    assert list(stack.store.list(f"{stack.store.root}restores/")) == []

    one = restore_bucket(BucketRestoreRequest(set_id=SET, key=f"{BELOW}1", confirm=name))
    assert one is not None
    assert one.counts == {"added": 1}
    rest = restore_bucket(BucketRestoreRequest(set_id=SET, prefix=BELOW, delete_extra=True, confirm=name))
    assert rest is not None
    assert rest.counts == {"added": 1, "replaced": 1, "deleted": 1}
    assert live() == then
    shown = sandbox.artifact(f"restore-bucket-{name}")
    assert shown is not None
    assert f'"restore_id": "{rest.id}"' in shown

    assert restore_bucket(BucketRestoreRequest(action="undo", restore_id=rest.id, confirm=name, dry_run=True)) is None
    assert live() == then
    undone = restore_bucket(BucketRestoreRequest(action="undo", restore_id=rest.id, confirm=name))
    assert undone is not None
    assert undone.id == rest.id
    assert live() == damaged | {"1": b"1"}
    for restore in (one, rest):
        restore_bucket(BucketRestoreRequest(action="forget", restore_id=restore.id, confirm=name))
    assert restores_of(stack.store, source.name) == []
    assert list(stack.store.list(f"{stack.store.root}kept/")) == []
