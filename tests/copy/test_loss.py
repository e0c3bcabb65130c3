"""What copies are for: the whole first store is lost, or somebody with its keys deletes everything he can reach."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from blocks.errors import IntegrityError, ObjectMissing, SettingsError, StoreError
from blocks.object_store import BackupStore
from flows import catalogue
from flows.buckets.packs import read_pack, read_packs_list
from flows.catalogue import load_manifest, set_prefix
from flows.copy import catalogue as copies
from flows.copy import landing
from flows.copy.bring_back import bring_back
from flows.copy.catalogue import load_from_either
from flows.copy.landing import remove_left_over
from flows.copy.undelete import markers, undelete
from flows.copy.view import reading_from, view_of
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.copy.lab import Lab, sets_and_packs
from tests.forks import Forked


def test_both_databases_are_restored_from_the_copy_after_the_first_store_was_lost(empty_first: Lab) -> None:
    assert catalogue.read(empty_first.store, empty_first.stack.keys).entries == []
    assert empty_first.drill("latest") == []
    assert empty_first.landed() == []
    assert sets_and_packs(empty_first.store) == {}


def test_the_copies_catalogue_is_that_of_the_store(copied: Lab) -> None:
    own, second = catalogue.read(copied.store, copied.stack.keys), copies.read(copied.stack)
    assert [(e.id, e.manifest, e.good) for e in second.entries] == [(e.id, e.manifest, e.good) for e in own.entries]


def test_objects_of_buckets_are_read_from_the_copy(empty_first: Lab) -> None:
    with reading_from(empty_first.stack, "copy") as stack:
        manifest = load_manifest(stack.store, stack.keys, empty_first.difference)
        packs = read_packs_list(stack.store, set_prefix(stack.store, manifest.id), manifest.buckets[0])
        names = {member.name for pack in packs.values() for member in read_pack(stack.store, stack.keys, pack)}
    assert names == {f"events/{number}.json" for number in range(6)}


def test_sets_are_brought_back_byte_for_byte_after_everything_was_deleted_with_the_first_stores_keys(
    copied: Lab, s3_engine: S3Engine, empty_first: Lab, second_engine: S3Engine
) -> None:
    before = {key: value for key, value in sets_and_packs(copied.store).items() if not key.endswith("checks.json")}
    for key in before:
        empty_first.store.put(empty_first.store.root + key, copied.store.get(copied.store.root + key))
    bucket = copied.second.bucket.model_copy(update={"credentials": empty_first.store.bucket.credentials})
    reached = BackupStore(bucket=bucket, prefix=copied.second.prefix, stack=copied.second.stack)
    parameters = bucket.credentials.aws_client_parameters.model_copy(update={"endpoint_url": second_engine.endpoint_url})
    reached.bucket.credentials = bucket.credentials.model_copy(update={"aws_client_parameters": parameters})
    with pytest.raises(StoreError, match="refused"):
        reached.remove_below(f"{reached.root}sets/")
    empty_first.store.remove_below(f"{empty_first.store.root}sets/")
    empty_first.store.remove_below(f"{empty_first.store.root}packs/")
    assert bring_back(empty_first.stack, empty_first.lease, copied.full) > 5
    bring_back(empty_first.stack, empty_first.lease, copied.difference)
    assert before.items() <= sets_and_packs(empty_first.store).items()
    assert empty_first.drill("latest", source="store") == []
    damaged = next(key for key in before if key.endswith(".dump.zst.age"))
    empty_first.store.put(empty_first.store.root + damaged, b"damaged")
    bring_back(empty_first.stack, empty_first.lease, damaged.split("/")[1])
    brought = {key: value for key, value in sets_and_packs(empty_first.store).items() if not key.endswith("checks.json")}
    assert brought == before


@pytest.mark.long
def test_files_that_get_other_etags_are_brought_back_with_a_new_index_and_a_new_signature(
    empty_first: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files larger than a part have an ETag that depends on the part's size; here each is uploaded in parts."""
    monkeypatch.setattr(landing, "put_file", lambda store, key, _size, content: put_in_parts(store, key, content.read()))
    original = load_from_either(empty_first.stack, empty_first.full)
    bring_back(empty_first.stack, empty_first.lease, empty_first.full)
    bring_back(empty_first.stack, empty_first.lease, empty_first.difference)
    brought = load_manifest(empty_first.store, empty_first.stack.keys, empty_first.full)
    assert brought.clickhouse[0].index != original.clickhouse[0].index
    assert brought.postgres[0].object == original.postgres[0].object
    assert empty_first.drill("latest", source="store") == []
    assert empty_first.drill("latest", source="copy") == []


def put_in_parts(store: BackupStore, key: str, data: bytes) -> None:
    """Store an object as a multipart upload of one part."""
    client, bucket = store.client, store.name
    upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
    part = client.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=1, Body=data)["ETag"]
    client.complete_multipart_upload(
        Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}
    )


def test_a_damaged_copy_is_refused_before_anything_is_restored(copied: Lab, empty_first: Lab) -> None:
    tars = f"sets/{copied.full}/clickhouse/copyapp.00001.tar.zst.age"
    data = copied.second.get(copied.second.root + tars)
    with copied.tampered(copied.second, tars, data[:-100]), pytest.raises(IntegrityError):
        empty_first.drill(copied.full)
    assert empty_first.landed() == []
    manifest = f"sets/{copied.full}/manifest.json.age"
    forged = copied.stack.keys.encrypt_bytes(b"{}")
    with copied.tampered(copied.second, manifest, forged):
        assert [e.good for e in copies.read(copied.stack).entries] == [False, False]


def test_a_list_of_objects_that_somebody_else_wrote_is_refused(copied: Lab, empty_first: Lab) -> None:
    """Everybody can encrypt to the stack's public key, so the list is signed."""
    key = f"sets/{copied.full}/copy.json.zst.age"
    other = copied.second.get(copied.second.root + f"sets/{copied.difference}/copy.json.zst.age")
    with copied.tampered(copied.second, key, other), pytest.raises(IntegrityError, match="unsigned or of another set"):
        bring_back(empty_first.stack, empty_first.lease, copied.full)
    assert catalogue.read(empty_first.store, empty_first.stack.keys).entries == []


def test_reading_copies_takes_the_age_identity(copied: Lab) -> None:
    blind = replace(copied.stack, keys=copied.stack.keys.model_copy(update={"identity": None}))
    with pytest.raises(SettingsError, match="set BACKUP_AGE_IDENTITY"):
        copies.read(blind)
    with pytest.raises(SettingsError, match="no second store is set up"):
        view_of(replace(copied.stack, copy=None))


def test_what_a_killed_restore_has_landed_is_removed_by_the_next_run(copied: Lab, tmp_path: Path) -> None:
    landed = tmp_path / "landed"

    def land() -> None:
        own = copied.with_own_connections().stack
        stack = replace(own, settings=own.settings.model_copy(update={"backup_lease_seconds": 3}))
        view = view_of(stack)
        path = load_manifest(view, stack.keys, copied.full).clickhouse[0].path
        assert list(view.list(f"{view.root}sets/{copied.full}/{path}")) != []
        landed.touch()
        signal.pause()

    with Forked(land, temporary=tmp_path) as child:
        wait_until(lambda: landed.exists() or not child.running, timeout=120, what="ClickHouse's files to land")
        assert copied.landed() != []
        remove_left_over(copied.store, seconds=3)
        assert copied.landed() != [], "a run that lives was disturbed"
        assert child.running

    def cleaned() -> bool:
        remove_left_over(copied.store, seconds=3)
        return copied.landed() == []

    wait_until(cleaned, timeout=20, what="the lock of the killed run ran out")


def test_a_manifest_is_found_in_either_store(copied: Lab, empty_first: Lab) -> None:
    assert load_from_either(empty_first.stack, copied.full) == load_from_either(copied.stack, copied.full)
    with pytest.raises(ObjectMissing):
        load_from_either(replace(empty_first.stack, copy=None), copied.full)


# --- object lock ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_with_object_lock_everything_that_was_deleted_with_the_second_stores_own_keys_comes_back(locked: Lab) -> None:
    locked.copy()
    second = locked.second
    before = sets_and_packs(second)
    second.remove([item.key for item in second.list(second.root)])
    assert list(second.list(second.root)) == []
    versions = second.client.list_object_versions(Bucket=second.name)["Versions"]
    assert len(versions) == len(before)
    for version in versions:
        with pytest.raises(second.client.exceptions.ClientError):
            second.client.delete_object(Bucket=second.name, Key=version["Key"], VersionId=version["VersionId"])
    assert len(markers(second)) == len(before)
    assert undelete(second) == len(before)
    assert sets_and_packs(second) == before
    assert locked.drill("latest") == []


@pytest.mark.long
def test_what_a_new_copy_needs_of_earlier_ones_stays_locked_as_long_as_it(locked: Lab) -> None:
    week = locked.second
    for_a_day = locked.with_copy(week.model_copy(update={"lock_days": 1}))
    for_a_day.copy(locked.full)
    locked.copy(locked.difference)
    soon = datetime.now(UTC) + timedelta(days=6)
    for item in week.list(week.root):
        until = week.client.head_object(Bucket=week.name, Key=item.key)["ObjectLockRetainUntilDate"]
        assert until > soon, item.key
    for_a_day.copy(locked.difference)  # a lock that ends later is not shortened, and that is no error


def test_a_bucket_without_object_lock_or_versions_is_refused_clearly(locked: Lab) -> None:
    locked.second.check()
    bucket = f"{locked.second.name}-not"
    plain = locked.second.bucket.model_copy(update={"bucket_name": bucket})
    locked.second.client.create_bucket(Bucket=bucket)
    store = locked.second.model_copy(update={"bucket": plain})
    with pytest.raises(SettingsError, match="compliance object lock is asked for, but the bucket has none"):
        store.check()
    with pytest.raises(SettingsError, match="keeps no versions, so nothing can be undeleted"):
        undelete(store)
