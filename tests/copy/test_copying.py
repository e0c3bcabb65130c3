"""Copies: encrypted whole, sent once, resumed, and never of anything that is damaged."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from blocks.errors import IntegrityError, LeaseLost, StoreError
from blocks.object_store import BackupStore
from flows import catalogue
from flows.backup.clickhouse_files import load_index
from flows.catalogue import load_manifest, set_prefix
from flows.copy import contents
from flows.copy.choose import due, named, policy_of_copies
from flows.copy.records import copied_sets, load_list
from flows.copy.sending import copy_set
from flows.copy.verifying import Reader
from flows.lease import acquire, lock_key
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.copy.lab import AGE, CANARY, DATABASE, Lab, sets_and_packs
from tests.forks import Forked
from tests.proxy import Proxy
from tests.stores import ONE_TRY, seen_through

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def everything_below(store: BackupStore, prefix: str = "") -> list[bytes]:
    """The bytes of every object of a store."""
    return [store.get(item.key) for item in store.list(store.root + prefix)]


def test_everything_in_the_second_store_is_encrypted(copied: Lab) -> None:
    everything = everything_below(copied.second)
    assert len(everything) > 20
    assert all(data.startswith(AGE) for data in everything)
    assert not any(CANARY.encode() in data for data in everything)
    readable = b"".join(everything_below(copied.store, f"sets/{copied.full}/"))
    assert CANARY.encode() in readable, "ClickHouse's files did not show it either, so this proved nothing"


def test_packs_that_sets_share_are_sent_once_and_as_they_are(lab: Lab) -> None:
    first, second = lab.copy()
    assert first.sent == len(first.list.objects) + 2
    assert second.sent == len(second.list.objects) + 2 - 1
    packs = {key: value for key, value in sets_and_packs(lab.second).items() if key.startswith("packs/")}
    assert len(packs) == 2
    assert packs.items() <= sets_and_packs(lab.store).items()


def test_thousands_of_files_become_few_objects(copied: Lab) -> None:
    manifest = load_manifest(copied.store, copied.stack.keys, copied.full)
    files = load_index(copied.store, set_prefix(copied.store, copied.full), manifest.clickhouse[0].index).files
    listed = load_list(copied.second, copied.stack.keys, copied.full)
    tars = [item for item in listed.objects if item.kind == "files"]
    assert [item.key for item in tars] == [f"sets/{copied.full}/clickhouse/{DATABASE}.00001.tar.zst.age"]
    assert tars[0].files == len(files) + 1, "and ClickHouse's own list"


def test_what_is_copied_is_not_due_again_and_a_base_goes_before_its_difference(copied: Lab) -> None:
    known = catalogue.read(copied.store, copied.stack.keys)
    policy = policy_of_copies(copied.stack.settings)
    assert due(known, set(), [], policy) == [copied.full, copied.difference]
    assert named(known, ["latest"], set()) == [copied.full, copied.difference]
    facts = [entry.facts() for entry in known.entries]
    assert due(known, copied_sets(copied.second), facts, policy) == []


def hang_after(client: S3Client, objects: int) -> None:
    """Make a client hang right before it writes one more of ClickHouse's objects than so many."""
    begun: set[str] = set()

    def look(params: dict[str, Any], **_: object) -> None:
        if "/clickhouse/" in params["url_path"] and params["method"] in ("PUT", "POST"):
            begun.add(params["url_path"])
            if len(begun) > objects:
                signal.pause()

    client.meta.events.register("before-call.s3", look)


def test_a_copy_that_was_killed_goes_on_where_it_was(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an object for each of ClickHouse's files, so that there are many."""
    monkeypatch.setattr(contents, "FILES_BYTES", 1)

    def copy() -> None:
        stack = lab.with_own_connections().stack
        hang_after(stack.need_copy().client, 8)
        apart = stack.store.model_copy(update={"prefix": "child"})  # the tests hold the stack's own lock
        copy_set(stack, acquire(apart, flow="copy", holder="child", seconds=60, wait=0), lab.full)

    with Forked(copy, temporary=tmp_path) as child:
        there = f"{lab.second.root}sets/{lab.full}/clickhouse/"
        wait_until(
            lambda: len(list(lab.second.list(there))) >= 8 or not child.running, timeout=60, what="some objects are there"
        )
        assert child.running
    assert copied_sets(lab.second) == set(), "it had ended before it was killed"
    before = sets_and_packs(lab.second)
    (done,) = lab.copy(lab.full)
    assert len(before) - 1 <= len(done.list.objects) + 2 - done.sent, "at most the one that was under way was sent again"
    after = sets_and_packs(lab.second)
    assert sum(after[key] == value for key, value in before.items()) >= len(before) - 1
    assert Reader(lab.second).problems(done.list) == []
    assert list(lab.store.list(f"{lab.store.root}copying/")) == []


@pytest.mark.parametrize("kind", ["same", "sealed", "files", "definitions"])
def test_a_damaged_object_is_never_copied_and_is_named(lab: Lab, kind: str) -> None:
    folder = f"sets/{lab.full}/"
    manifest = load_manifest(lab.store, lab.stack.keys, lab.full)
    assert manifest.definitions is not None
    keys = [item.key.removeprefix(lab.store.root) for item in lab.store.list(lab.store.root + folder)]
    key = {
        "same": folder + manifest.postgres[0].object.key,
        "sealed": folder + manifest.extras[0].key,
        "files": next(key for key in keys if key.endswith("data.bin")),
        "definitions": folder + manifest.definitions.key,
    }[kind]
    data = bytearray(lab.store.get(lab.store.root + key))
    data[len(data) // 2] ^= 1
    with (
        lab.tampered(lab.store, key, bytes(data)),
        pytest.raises(IntegrityError, match=key.rsplit("/", 1)[-1].replace(".", r"\.")),
    ):
        lab.copy(lab.full)
    assert copied_sets(lab.second) == set()
    there = [item.key.removeprefix(lab.second.root) for item in lab.second.list(lab.second.root)]
    assert key not in there
    assert key + ".age" not in there
    assert list(lab.second.uploads(lab.second.root)) == []


def test_a_second_store_that_is_down_refuses_or_breaks_off_is_an_error_and_the_first_stays_as_it_is(
    lab: Lab, second_engine: S3Engine
) -> None:
    before = sets_and_packs(lab.store)
    with Proxy(second_engine.port) as proxy:
        seen = seen_through(lab.second, url=proxy.url, config=ONE_TRY)
        proxy.go_down()
        with pytest.raises(StoreError, match="is the store reachable"):
            lab.with_copy(seen).copy(lab.full)
        proxy.come_back()
        proxy.cut_after(2000)
        lab.with_copy(seen).copy(lab.full)
        assert proxy.cuts == 1
    stranger = lab.second.bucket.model_copy(
        update={"credentials": lab.second.bucket.credentials.model_copy(update={"minio_root_password": SecretStr("wrong")})}
    )
    refusing = BackupStore(bucket=stranger, prefix="refused", stack=lab.second.stack)
    with pytest.raises(StoreError, match=r"refused .*check the access key") as refused:
        lab.with_copy(refusing).copy(lab.full)
    assert refused.value.permanent
    assert sets_and_packs(lab.store) == before


def test_without_age_identity_a_set_is_copied(lab: Lab) -> None:
    blind = replace(lab, stack=replace(lab.stack, keys=lab.stack.keys.model_copy(update={"identity": None})))
    blind.copy(lab.full)
    assert copied_sets(lab.second) == {lab.full}
    assert load_list(lab.second, lab.stack.keys, lab.full).set_id == lab.full


def test_a_copy_does_not_exist_when_the_lock_was_lost(lab: Lab) -> None:
    elsewhere = lab.store.model_copy(update={"prefix": "another"})
    lease = acquire(elsewhere, flow="copy", holder="test", seconds=60, wait=0)
    elsewhere.remove([lock_key(elsewhere)])
    with pytest.raises(LeaseLost):
        copy_set(lab.stack, lease, lab.full)
    lease.release()
    assert copied_sets(lab.second) == set()


def test_reading_back_finds_what_was_exchanged(lab: Lab) -> None:
    (done,) = lab.copy(lab.full)
    reader = Reader(lab.second)
    assert reader.problems(done.list) == []
    assert reader.bytes == sum(item.bytes for item in done.list.objects)
    victim = next(item for item in done.list.objects if item.kind == "same")
    lab.second.put(lab.second.root + victim.key, AGE * 3)
    assert Reader(lab.second).problems(done.list) == [f"{victim.key} is not what was written (sha256 differs)"]
    lab.second.remove([lab.second.root + victim.key])
    assert Reader(lab.second).problems(done.list) == [f"{victim.key} is missing"]
