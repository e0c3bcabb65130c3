"""The object store and the backups in it, against a real S3 server put into each bad state and back."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from blocks.errors import ConditionFailed, ObjectMissing, StoreError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.s3_light import LightStore, Place
from flows.catalogue import manifest_key, set_prefix
from flows.health.observation import Status
from flows.health.targets import Limits, Store, Targets
from flows.side_file import Check, DrillRecord, record
from shared.engines.object_store import Identity, S3Engine
from shared.engines.process import free_port
from tests.health.looks import CANARY, Scripted, Seen, look
from tests.manifests import clickhouse, commit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FINE = ["put-get-delete", "private-backups", "bucket-backups"]


@pytest.fixture(scope="module")
def reader(state_directory: Path) -> Iterator[tuple[S3Engine, Identity]]:
    """A server with a key pair that may only read."""
    identity = Identity("reader", "reader", actions=("Read:backups", "List:backups"))
    engine = S3Engine(state_directory / "watched-s3", identities=[identity])
    engine.start()
    engine.create_bucket("backups")
    yield engine, identity
    engine.stop()


def place(engine: S3Engine, bucket: str = "backups") -> Place:
    return Place(engine.endpoint_url, bucket, engine.region, engine.access_key, SecretStr(engine.secret_key))


def look_at(store: Store, service: str = "minio", *, seconds: float = 5.0, **limits: float) -> Seen:
    return look(Targets(store=store, timeout=seconds, limits=replace(Limits(), **limits)), service)  # type: ignore[arg-type]


@contextmanager
def public(client: S3Client, bucket: str, *actions: str) -> Iterator[None]:
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statement = {"Effect": "Allow", "Principal": "*", "Action": list(actions), "Resource": resources}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    try:
        yield
    finally:
        client.delete_bucket_policy(Bucket=bucket)


@pytest.fixture
def source(s3_engine: S3Engine, shared_store: BackupStore) -> Iterator[Place]:
    """A bucket that is backed up, with an object in it."""
    name = f"events-{secrets.token_hex(4)}"
    s3_engine.create_bucket(name)
    shared_store.client.put_object(Bucket=name, Key="a b/ü", Body=b"event")
    yield place(s3_engine, name)
    for item in shared_store.client.list_objects_v2(Bucket=name).get("Contents", []):
        shared_store.client.delete_object(Bucket=name, Key=item["Key"])
    shared_store.client.delete_bucket(Bucket=name)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["one server", "events on another server"])
def test_a_healthy_store_is_ok_and_nothing_of_the_probe_stays(
    s3_engine: S3Engine, store: BackupStore, source: Place, host: str
) -> None:
    source = replace(source, endpoint=source.endpoint.replace("127.0.0.1", host))
    seen = look_at(Store(place(s3_engine), store.root, (source,)))
    assert seen.bad() == {}
    assert sorted(seen) == sorted([*FINE, f"bucket-{source.bucket}", f"private-{source.bucket}"])
    assert next(iter(seen)) == "put-get-delete"
    assert list(store.list(store.root)) == []


@pytest.mark.parametrize("actions", [("s3:ListBucket", "s3:GetObject"), ("s3:GetObject",)], ids=["listing", "objects only"])
def test_a_bucket_that_anybody_can_read_is_down_until_it_is_private(
    s3_engine: S3Engine, store: BackupStore, source: Place, actions: tuple[str, ...]
) -> None:
    target = Store(place(s3_engine), store.root, (source,))
    with public(store.client, source.bucket, *actions), public(store.client, "backups", *actions):
        seen = look_at(target)
        assert seen.bad() == {f"private-{source.bucket}": Status.DOWN, "private-backups": Status.DOWN}
        assert "is public" in seen.sentence("private-backups")
    assert look_at(target).bad() == {}


def test_a_bucket_that_is_missing_is_down_until_it_is_there(s3_engine: S3Engine, store: BackupStore) -> None:
    name = f"gone-{secrets.token_hex(4)}"
    source = Store(place(s3_engine), store.root, (place(s3_engine, name),))
    own = Store(place(s3_engine, name), store.root)
    assert look_at(source).bad() == {f"bucket-{name}": Status.DOWN}
    seen = look_at(own)
    assert seen.bad() == {f"bucket-{name}": Status.DOWN}
    assert list(seen) == [f"bucket-{name}"]
    s3_engine.create_bucket(name)
    assert look_at(source).bad() == look_at(own).bad() == {}
    store.client.delete_bucket(Bucket=name)


def test_a_key_that_may_not_write_is_degraded_and_a_wrong_one_unknown(reader: tuple[S3Engine, Identity]) -> None:
    engine, identity = reader
    own = replace(place(engine), access_key=identity.access_key, secret_key=SecretStr(identity.secret_key))
    seen = look_at(Store(own, "backups/x/"))
    assert seen.bad() == {"put-get-delete": Status.DEGRADED}
    assert "may not write" in seen.sentence("put-get-delete")
    for wrong in (replace(place(engine), secret_key=SecretStr(CANARY)), replace(place(engine), access_key=CANARY)):
        seen = look_at(Store(wrong, "backups/x/"))
        assert seen.bad() == {"put-get-delete": Status.UNKNOWN}
    assert look_at(Store(place(engine), "backups/x/")).bad() == {}


def test_a_store_that_hangs_or_is_gone_is_down_and_up_again_afterwards(reader: tuple[S3Engine, Identity]) -> None:
    engine, _ = reader
    target = Store(place(engine), "backups/x/")
    engine.pause()
    try:
        seen = look_at(target, seconds=0.5)
        assert seen.bad() == {"put-get-delete": Status.DOWN}
        assert "did not answer within 0.5 s" in seen.sentence("put-get-delete")
        assert look_at(target, "backups", seconds=0.5).bad() == {"newest-set": Status.UNKNOWN}
    finally:
        engine.resume()
    assert look_at(target).bad() == {}
    gone = Store(replace(place(engine), endpoint=f"http://127.0.0.1:{free_port()}"), "backups/x/")
    assert look_at(gone).bad() == {"put-get-delete": Status.DOWN}
    events = replace(gone, sources=(replace(gone.place, bucket="langfuse"),))
    bad = look_at(events).bad()
    assert bad == {"put-get-delete": Status.DOWN, "bucket-langfuse": Status.UNKNOWN}, "the store is down, not a bucket of it"


def test_a_full_store_is_down() -> None:
    """No server can be filled here; this is what MinIO answers then."""
    body = "<Error><Code>XMinioStorageFull</Code><Message>Storage backend has reached its minimum free drive.</Message></Error>"
    with Scripted({}) as server:
        server.put = (507, body)
        seen = look_at(Store(Place(server.url, "backups", "us-east-1", "key", SecretStr(CANARY)), "backups/x/"))
    assert seen.bad() == {"put-get-delete": Status.DOWN}
    assert "is full (XMinioStorageFull)" in seen.sentence("put-get-delete")


# --- backups -----------------------------------------------------------------------------------------------------------------


class Sets:
    """A stack's sets, taken so many hours ago."""

    def __init__(self, engine: S3Engine, store: BackupStore, keys: BackupKeys) -> None:
        self.store, self.keys = store, keys
        self.target = Store(place(engine), store.root, signing_key=keys.signing_key)

    def commit(self, hours: float, **changes: object) -> str:
        return commit(self.store, self.keys, datetime.now(UTC) - timedelta(hours=hours), **changes).id

    def drill(self, set_id: str, hours: float, *, ok: bool = True, full: bool = True) -> None:
        outcome = DrillRecord(
            set_id=set_id,
            at=datetime.now(UTC) - timedelta(hours=hours),
            ok=ok,
            full=full,
            recovery_seconds=1,
            compare_seconds=1,
            components=[],
            scratch="embedded engines",
            differences=[] if ok else ["postgres litellm: 2 rows instead of 3"],
        )
        record(self.store, set_id, drill=outcome)

    def look(self, **limits: float) -> Seen:
        return look_at(self.target, "backups", **limits)


@pytest.fixture
def sets(s3_engine: S3Engine, store: BackupStore, keys: BackupKeys) -> Sets:
    return Sets(s3_engine, store, keys)


def test_no_backup_at_all_is_down(sets: Sets) -> None:
    seen = sets.look()
    assert seen.bad() == {"newest-set": Status.DOWN, "newest-drill": Status.DEGRADED}
    assert "there is no backup set" in seen.sentence("newest-set")


def test_old_backups_are_degraded_very_old_ones_down_and_a_new_one_mends_it(sets: Sets) -> None:
    sets.drill(sets.commit(100), 30)
    seen = sets.look()
    assert seen.bad() == {"newest-set": Status.DOWN}
    sets.drill(sets.commit(40), 30)
    seen = sets.look()
    assert seen.bad() == {"newest-set": Status.DEGRADED}
    assert seen["newest-set"].value == pytest.approx(40, abs=0.1)
    sets.commit(1)
    assert sets.look().bad() == {}


def test_a_drill_that_is_old_in_part_or_failed_is_degraded_until_a_full_one_succeeds(sets: Sets) -> None:
    first = sets.commit(2)
    sets.drill(first, 60)
    seen = sets.look()
    assert seen.bad() == {"newest-drill": Status.DEGRADED}
    assert seen["newest-drill"].value == pytest.approx(60, abs=0.1)
    sets.drill(first, 1, full=False)
    assert "no full drill has proven" in sets.look().sentence("newest-drill")
    sets.drill(first, 1)
    assert sets.look().bad() == {}
    second = sets.commit(1)
    sets.drill(second, 0.5, ok=False)
    seen = sets.look()
    assert seen.bad() == {"newest-drill": Status.DEGRADED}
    assert "the last drill failed: postgres litellm: 2 rows instead of 3" in seen.sentence("newest-drill")
    assert seen["newest-set"].value == pytest.approx(2, abs=0.1)


def test_sets_that_cannot_be_relied_on_do_not_count(sets: Sets) -> None:
    sets.drill(sets.commit(30), 20)
    store = sets.store
    forged = sets.commit(5)
    store.put(
        manifest_key(store, forged), store.get(manifest_key(store, forged)).replace(b'"lease_token": 1', b'"lease_token": 2')
    )
    damaged = sets.commit(4)
    record(store, damaged, presence=Check(at=datetime.now(UTC), ok=False, what="an object is missing"))
    sets.commit(3, components=[clickhouse(base="20260101T030000Z-gonexx")])
    store.put(set_prefix(store, "29991231T030000Z-halfxx") + "postgres/litellm.dump.zst.age", b"half")
    seen = sets.look()
    assert seen.bad() == {"newest-set": Status.DEGRADED}
    assert seen["newest-set"].value == pytest.approx(30, abs=0.1)
    assert "20260101T030000Z-gonexx, which it is a difference to, is gone" in seen.sentence("newest-set")
    base = sets.commit(6)
    sets.commit(2, components=[clickhouse(base=base)])
    assert sets.look().bad() == {}


def test_many_sets_cost_a_listing_and_the_newest_few(sets: Sets) -> None:
    sets.drill(sets.commit(1), 0.5)
    for number in range(30):
        sets.store.put(set_prefix(sets.store, f"20200101T0300{number:02d}Z-oldold") + "manifest.json", b"never read")
    assert sets.look().bad() == {}


def test_without_a_key_to_verify_with_nothing_is_claimed(sets: Sets) -> None:
    sets.commit(1)
    seen = look_at(replace(sets.target, signing_key=None), "backups")
    assert seen.bad() == {"newest-set": Status.UNKNOWN}
    assert "BACKUP_VERIFY_KEY" in seen.sentence("newest-set")


# --- the light client --------------------------------------------------------------------------------------------------------


@pytest.fixture
def light(s3_engine: S3Engine, store: BackupStore) -> Iterator[LightStore]:
    with LightStore(place(s3_engine), store.root) as made:
        yield made


def test_the_light_client_reads_and_writes_what_the_store_does(light: LightStore, store: BackupStore) -> None:
    key = f"{store.root}health/history/ü +&=?.json"
    etag = light.put(key, b"one")
    assert store.get_with_etag(key) == light.get_with_etag(key) == (b"one", etag)
    changed = light.put(key, b"two", if_etag=etag)
    assert changed != etag
    store.put(f"{store.root}health/other/x", b"")
    assert [item.key for item in light.list(f"{store.root}health/")] == [
        item.key for item in store.list(f"{store.root}health/")
    ]
    assert sorted(light.folders(f"{store.root}health/")) == ["history", "other"]
    assert light.remove([key, f"{store.root}health/other/x"]) == 2
    assert list(light.list(store.root)) == []


def test_the_light_client_s_conditions_hold(light: LightStore) -> None:
    key = f"{light.root}conditions"
    etag = light.put(key, b"one", if_absent=True)
    with pytest.raises(ConditionFailed):
        light.put(key, b"two", if_absent=True)
    light.put(key, b"two", if_etag=etag)
    with pytest.raises(ConditionFailed):
        light.put(key, b"three", if_etag=etag)
    with pytest.raises(ObjectMissing):
        light.get_with_etag(f"{light.root}absent")


def test_the_light_client_says_in_a_line_what_is_wrong(s3_engine: S3Engine) -> None:
    wrong = replace(place(s3_engine), secret_key=SecretStr(CANARY))
    with LightStore(wrong, "x/") as light, pytest.raises(StoreError, match="check the access key") as refused:
        light.get_with_etag("x/y")
    assert refused.value.permanent
    away = replace(wrong, endpoint=f"http://127.0.0.1:{free_port()}")
    with LightStore(away, "x/") as light, pytest.raises(StoreError, match="is the store reachable") as silent:
        light.get_with_etag("x/y")
    assert not silent.value.permanent
    assert CANARY not in f"{refused.value}{silent.value}{wrong!r}"


def test_a_listing_of_many_pages_is_whole(s3_engine: S3Engine, store: BackupStore) -> None:
    for number in range(5):
        store.put(f"{store.root}pages/{number}", b"")
    with LightStore(place(s3_engine), store.root, page=2) as light:
        assert len(list(light.list(f"{store.root}pages/"))) == 5
