"""Retention in the second store: its own rules, never after a failure, never what a kept copy needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from pydantic import SecretStr

from blocks.errors import RestoreRefused
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, s3_bucket
from flows import catalogue
from flows.backup.manifest import Manifest
from flows.catalogue import set_prefix
from flows.copy import catalogue as copies
from flows.copy.choose import due, named, policy_of_copies
from flows.copy.flow import choose, clean_up, copies_known
from flows.copy.progress import forget_others
from flows.copy.pruning import Pruned, prune_copies
from flows.copy.records import copied_sets, copy_manifest_key
from flows.copy.sending import copy_set
from flows.lease import Lease, acquire
from flows.prune.retention import RetentionPolicy, SetFacts
from flows.stack import Stack
from shared.engines.object_store import S3Engine
from tests.copy.conftest import STACK
from tests.copy.lab import Lab, store_on
from tests.manifests import NIGHT, commit, stack_of

NOTHING_ELSE = {"copy_keep_last": 1, "copy_keep_daily": 0, "copy_keep_weekly": 0, "copy_keep_monthly": 0, "copy_keep_yearly": 0}


@pytest.fixture
def stack(store: BackupStore, keys: BackupKeys, second_engine: S3Engine) -> Stack:
    """A stack of small sets that keeps only the newest copy."""
    made = stack_of(store, keys)
    second = store_on(second_engine, "copies", store.stack)
    settings = made.settings.model_copy(update={**NOTHING_ELSE, "backup_grace_hours": 0})
    return replace(made, copy=second, settings=settings)


@pytest.fixture
def lease(stack: Stack) -> Iterator[Lease]:
    held = acquire(stack.store, flow="copy", holder="test", seconds=60, wait=0)
    yield held
    held.release()


def add(stack: Stack, day: int, **changes: object) -> Manifest:
    """Commit a set on a day."""
    made = commit(stack.store, stack.keys, NIGHT + timedelta(days=day), **changes)
    stack.store.put(set_prefix(stack.store, made.id) + "postgres/globals.sql.zst.age", b"data")
    return made


def pruned(stack: Stack, lease: Lease, **options: object) -> Pruned:
    """Apply the second store's retention."""
    return prune_copies(stack, lease, copies.read(stack), **options)  # type: ignore[arg-type]


def as_reader(store: BackupStore, engine: S3Engine) -> BackupStore:
    """The store as somebody who may not delete there."""
    reader = next(one for one in engine.identities if one.name == "reader")
    name = s3_bucket(engine.endpoint_url, reader.access_key, SecretStr(reader.secret_key), store.name, engine.region)
    return BackupStore(bucket=name, prefix=store.prefix, stack=store.stack)


def test_only_what_retention_would_keep_is_sent(stack: Stack, lease: Lease) -> None:
    sets = [add(stack, day) for day in range(3)]
    known = catalogue.read(stack.store, stack.keys)
    assert due(known, set(), [], policy_of_copies(stack.settings)) == [sets[2].id]
    newer = SetFacts(id="copied-before", created_at=NIGHT + timedelta(days=9))
    assert due(known, {"copied-before"}, [newer], policy_of_copies(stack.settings)) == []
    assert due(known, set(), [], RetentionPolicy(keep_last=2, keep_daily=0))[:1] == [sets[2].id]


def test_old_copies_go_and_the_first_store_keeps_its_sets(stack: Stack, lease: Lease) -> None:
    old, new = add(stack, 0), add(stack, 1)
    for made in (old, new):
        copy_set(stack, lease, made.id)
    assert pruned(stack, lease, dry_run=True).gone == [old.id]
    assert copied_sets(stack.need_copy()) == {old.id, new.id}
    assert pruned(stack, lease, wanted=[old.id]).gone == []
    assert pruned(stack, lease).gone == [old.id]
    assert copied_sets(stack.need_copy()) == {new.id}
    assert not any(old.id in item.key for item in stack.need_copy().list(stack.need_copy().root))
    assert len(catalogue.read(stack.store, stack.keys).entries) == 2


def test_the_base_of_a_kept_copy_and_the_packs_it_needs_stay(copied: Lab, second_engine: S3Engine) -> None:
    settings = copied.stack.settings.model_copy(update={**NOTHING_ELSE, "backup_grace_hours": 0})
    second = store_on(second_engine, "copies", STACK, prefix="retention")
    lab = copied.with_copy(second)
    lab.copy()
    stack = replace(lab.stack, settings=settings)
    second.put(f"{second.root}packs/{lab.full}-00099.tar.zst.age", b"of no set")
    done = prune_copies(stack, lab.lease, copies.read(stack))
    assert done.gone == []
    assert done.plan.keep[lab.full] == [f"base of {lab.difference}"]
    assert done.packs == 1
    assert len(list(second.list(f"{second.root}packs/"))) == 2


def test_copies_that_were_never_finished_go_after_the_grace_period(stack: Stack, lease: Lease) -> None:
    made = add(stack, 0)
    copy_set(stack, lease, made.id)
    second = stack.need_copy()
    second.remove([copy_manifest_key(second, made.id)])
    second.client.create_multipart_upload(Bucket=second.name, Key=f"{second.root}sets/{made.id}/unfinished")
    patient = replace(stack, settings=stack.settings.model_copy(update={"backup_grace_hours": 1}))
    assert pruned(patient, lease).halves == []
    assert pruned(stack, lease).halves == [made.id]
    assert list(second.list(second.root)) == []
    assert list(second.uploads(second.root)) == []


def test_deletions_that_the_second_store_refuses_are_reported_and_tried_again(
    stack: Stack, lease: Lease, second_engine: S3Engine
) -> None:
    old, new = add(stack, 0), add(stack, 1)
    for made in (old, new):
        copy_set(stack, lease, made.id)
    second = stack.need_copy()
    done = pruned(replace(stack, copy=as_reader(second, second_engine)), lease)
    assert done.gone == []
    assert set(done.refused) == {old.id}
    assert copied_sets(second) == {old.id, new.id}
    assert pruned(stack, lease).gone == [old.id]


def test_a_set_that_is_not_good_is_not_copied_even_when_it_is_named(stack: Stack, lease: Lease) -> None:
    made = add(stack, 0)
    stack.store.put(set_prefix(stack.store, made.id) + "manifest.json", b"{}")
    known = catalogue.read(stack.store, stack.keys)
    assert due(known, set(), [], policy_of_copies(stack.settings)) == []
    with pytest.raises(RestoreRefused, match=r"is not copied: .*not a manifest"):
        named(known, [made.id], set())


def test_without_age_identity_nothing_is_deleted_and_the_run_says_why(
    stack: Stack, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = add(stack, 0), add(stack, 1)
    for made in (old, new):
        copy_set(stack, lease, made.id)
    blind = replace(stack, keys=stack.keys.model_copy(update={"identity": None}))
    known = catalogue.read(blind.store, blind.keys)
    with caplog.at_level("INFO", "stack-operations"):
        assert copies_known(blind) is None
    assert "no age identity here" in caplog.text
    assert choose(blind, known, copied_sets(blind.need_copy()), None, []) == []
    assert clean_up(blind, lease, known, []) is None
    assert copied_sets(stack.need_copy()) == {old.id, new.id}


def test_records_of_sets_that_are_gone_are_removed(stack: Stack) -> None:
    for name in ("gone", "there"):
        stack.store.put(f"{stack.store.root}copying/{name}.json", b"{}")
    forget_others(stack.store, {"there"})
    assert [item.key for item in stack.store.list(f"{stack.store.root}copying/")] == [f"{stack.store.root}copying/there.json"]
