"""A set in the making: visible only when it is whole, and nothing of it stays when it is not."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from blocks.errors import BackupFailed, IntegrityError, LeaseLost, ServiceError, SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows import catalogue
from flows.backup.manifest import PostgresDatabase
from flows.backup.sets import BackupSet, new_set, new_set_id, refuse_unknown, wanted
from flows.backup.stream import store_encrypted, verify_stored
from flows.catalogue import load_manifest, manifest_key, with_definitions
from flows.lease import Lease, acquire, lock_key
from flows.stack import Stack
from shared.engines.object_store import S3Engine
from tests.manifests import NIGHT, clickhouse, postgres, roles, stack_of, stored
from tests.proxy import Proxy
from tests.stores import ONE_TRY, seen_through

DEFINITIONS = {"table public.users": "CREATE TABLE public.users ()", "owner of table public.users": "litellm"}


@pytest.fixture
def stack(store: BackupStore, keys: BackupKeys) -> Stack:
    return stack_of(store, keys)


@pytest.fixture
def lease(store: BackupStore) -> Iterator[Lease]:
    held = acquire(store, flow="backup", holder="test", seconds=60, wait=0)
    yield held
    held.release()


@pytest.fixture
def proxy(s3_engine: S3Engine) -> Iterator[Proxy]:
    with Proxy(s3_engine.port) as between:
        yield between


def dump(backup_set: BackupSet, stack: Stack, name: str = "litellm") -> PostgresDatabase:
    """Store something as if it were a dump."""
    key = f"postgres/{name}.dump.zst.age"
    item = store_encrypted(stack.store, backup_set.prefix, key, io.BytesIO(b"PGDMP"), stack.keys)
    return postgres(name, object=item, catalogue=DEFINITIONS, not_taken=["passwords"])


def make(stack: Stack, lease: Lease, body: Callable[[BackupSet], None]) -> None:
    """Make a set as a flow does; the body commits it, or fails."""
    with new_set(stack, lease, label="", protect=False) as backup_set:
        body(backup_set)


def left(stack: Stack) -> list[str]:
    """What is in the store besides the lock."""
    return [item.key for item in stack.store.list(stack.store.root) if item.key != lock_key(stack.store)]


# --- a set that is committed ---------------------------------------------------------------------------------------------


def test_nothing_is_visible_before_the_commit_and_everything_after_it(stack: Stack, lease: Lease) -> None:
    with new_set(stack, lease, label="before the change", protect=True) as backup_set:
        backup_set.add(dump(backup_set, stack))
        backup_set.leave_out("sealed variables")
        assert catalogue.read(stack.store, stack.keys) == catalogue.Catalogue(entries=[], halves=[backup_set.id])
        made = backup_set.commit()
    entry = catalogue.read(stack.store, stack.keys).find("latest")
    assert entry.manifest == made.with_details({})
    assert (made.id, made.stack, made.label, made.protected) == (backup_set.id, stack.name, "before the change", True)
    assert made.lease_token == lease.token
    assert made.recipients == stack.keys.recipients
    assert made.not_taken == ["postgres litellm: passwords", "sealed variables"]
    assert made.committed_at >= made.created_at


def test_every_object_of_a_committed_set_is_what_the_manifest_says(stack: Stack, lease: Lease) -> None:
    with new_set(stack, lease, label="", protect=False) as backup_set:
        backup_set.add(dump(backup_set, stack))
        made = backup_set.commit()
    assert {item.key for item in made.stored_objects()} == {
        "postgres/litellm.dump.zst.age",
        "definitions.json.zst.age",
        "RESTORE.md",
        "restore.sh",
    }
    for item in made.stored_objects():
        verify_stored(stack.store, backup_set.prefix, item)


def test_definitions_are_kept_beside_the_manifest_and_encrypted(stack: Stack, lease: Lease) -> None:
    """There are thousands, and function bodies among them."""
    with new_set(stack, lease, label="", protect=False) as backup_set:
        backup_set.add(dump(backup_set, stack))
        made = backup_set.commit()
    stored = load_manifest(stack.store, stack.keys, made.id)
    assert made.postgres[0].catalogue == DEFINITIONS
    assert stored.postgres[0].catalogue == {}
    everything = b"".join(stack.store.get(item.key) for item in stack.store.list(backup_set.prefix))
    assert b"CREATE TABLE" not in everything
    read = with_definitions(stack.store, stack.keys, stored)
    assert read.postgres[0].catalogue == DEFINITIONS


def test_the_applications_keys_are_recorded_as_fingerprints_only(stack: Stack, lease: Lease) -> None:
    with new_set(stack, lease, label="", protect=False) as backup_set:
        made = backup_set.commit()
    assert made.fingerprints is not None
    assert stack.keys.differing_keys(made.fingerprints.wrapped_key, made.fingerprints.values) == []
    stored_text = stack.store.get(manifest_key(stack.store, made.id)).decode()
    assert "sk-salt" not in stored_text
    assert "00" * 32 not in stored_text


def test_what_fails_after_the_commit_does_not_take_the_set_away(stack: Stack, lease: Lease) -> None:
    def body(backup_set: BackupSet) -> None:
        backup_set.commit()
        raise ServiceError("the artifact could not be made")

    with pytest.raises(ServiceError):
        make(stack, lease, body)
    assert len(catalogue.read(stack.store, stack.keys).entries) == 1


# --- a set that fails ----------------------------------------------------------------------------------------------------


def test_a_failing_component_leaves_nothing_and_says_what_happened(stack: Stack, lease: Lease) -> None:
    def body(backup_set: BackupSet) -> None:
        backup_set.add(dump(backup_set, stack))
        stack.store.put(backup_set.prefix + "clickhouse/langfuse/.lock", b"")
        stack.store.client.create_multipart_upload(Bucket="backups", Key=backup_set.prefix + "postgres/unfinished")
        raise ServiceError("clickhouse langfuse:\nno answer")

    with pytest.raises(BackupFailed) as raised:
        make(stack, lease, body)
    expected = r"backup \w+-\w{6}: clickhouse langfuse: no answer \(nothing was committed, its objects were removed\)"
    assert re.fullmatch(expected, str(raised.value))
    assert raised.value.permanent
    assert isinstance(raised.value.__cause__, ServiceError)
    assert left(stack) == []
    assert list(stack.store.uploads(stack.store.root)) == []


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), SystemExit(1)])
def test_other_errors_leave_nothing_and_are_raised_as_they_are(stack: Stack, lease: Lease, error: BaseException) -> None:
    def body(backup_set: BackupSet) -> None:
        backup_set.add(dump(backup_set, stack))
        raise error

    with pytest.raises(type(error)) as raised:
        make(stack, lease, body)
    assert raised.value is error
    assert left(stack) == []


def test_a_failing_set_does_not_touch_another_one(stack: Stack, lease: Lease) -> None:
    with new_set(stack, lease, label="", protect=False) as good:
        good.add(dump(good, stack))
        good.commit()
    before = left(stack)

    def body(bad: BackupSet) -> None:
        dump(bad, stack)
        raise ServiceError("x")

    with pytest.raises(BackupFailed):
        make(stack, lease, body)
    assert left(stack) == before


def test_a_set_is_not_committed_when_an_object_has_vanished(stack: Stack, lease: Lease) -> None:
    def body(backup_set: BackupSet) -> None:
        component = dump(backup_set, stack)
        backup_set.add(component)
        stack.store.remove([backup_set.prefix + component.object.key])
        backup_set.commit()

    with pytest.raises(BackupFailed, match=r"postgres/litellm\.dump\.zst\.age: missing in the store") as raised:
        make(stack, lease, body)
    assert isinstance(raised.value.__cause__, IntegrityError)
    assert left(stack) == []


def test_a_set_is_not_committed_when_an_object_has_another_size(stack: Stack, lease: Lease) -> None:
    def body(backup_set: BackupSet) -> None:
        component = dump(backup_set, stack)
        backup_set.add(component)
        stack.store.put(backup_set.prefix + component.object.key, b"cut")
        backup_set.commit()

    with pytest.raises(BackupFailed, match="3 bytes in the store right after it was written"):
        make(stack, lease, body)
    assert left(stack) == []


def test_a_set_is_not_committed_when_a_file_of_clickhouse_has_vanished(stack: Stack, lease: Lease) -> None:
    index = stored("clickhouse/langfuse.index.json.zst", b"index")

    def body(backup_set: BackupSet) -> None:
        stack.store.put(backup_set.prefix + index.key, b"index")
        stack.store.put(backup_set.prefix + "clickhouse/langfuse/.backup", b"<config>")
        backup_set.add(clickhouse(bytes=9, index=index))
        backup_set.commit()

    with pytest.raises(BackupFailed, match="clickhouse/langfuse/: 8 bytes in the store right after it was written, expected 9"):
        make(stack, lease, body)
    assert left(stack) == []


def test_a_set_is_not_committed_without_the_lock(stack: Stack, lease: Lease) -> None:
    def body(backup_set: BackupSet) -> None:
        backup_set.add(dump(backup_set, stack))
        stack.store.remove([lock_key(stack.store)])
        backup_set.commit()

    with pytest.raises(BackupFailed, match="taken over") as raised:
        make(stack, lease, body)
    assert isinstance(raised.value.__cause__, LeaseLost)
    assert left(stack) == []


def test_a_set_is_not_committed_unsigned(stack: Stack, lease: Lease) -> None:
    keys = stack.keys.model_copy(update={"signing_key": None, "verify_key": "ab" * 32})

    def body(backup_set: BackupSet) -> None:
        backup_set.commit()

    with pytest.raises(BackupFailed, match="set BACKUP_SIGNING_KEY"):
        make(replace(stack, keys=keys), lease, body)
    assert left(stack) == []


# --- a store that fails at the worst moment ------------------------------------------------------------------------------


def test_a_manifest_whose_acknowledgement_got_lost_is_committed(stack: Stack, lease: Lease, proxy: Proxy) -> None:
    """The client repeats the write, which is refused because of the first one; removing the set now would be wrong."""
    shaky = replace(stack, store=seen_through(stack.store, url=proxy.url))
    with new_set(shaky, lease, label="", protect=False) as backup_set:
        backup_set.add(dump(backup_set, shaky))
        proxy.swallow_answers(b"/manifest.json HTTP/1.1")
        made = backup_set.commit()
    assert proxy.cuts == 1
    assert catalogue.read(stack.store, stack.keys).need("latest") == made.with_details({})


def test_a_manifest_that_was_cut_off_is_written_again(stack: Stack, lease: Lease, proxy: Proxy) -> None:
    shaky = replace(stack, store=seen_through(stack.store, url=proxy.url))
    with new_set(shaky, lease, label="", protect=False) as backup_set:
        backup_set.add(dump(backup_set, shaky))
        proxy.tear_requests(b"/manifest.json HTTP/1.1")
        made = backup_set.commit()
    assert proxy.cuts == 1
    assert catalogue.read(stack.store, stack.keys).need("latest") == made.with_details({})


def test_a_store_that_is_gone_is_said_to_have_kept_the_objects(stack: Stack, lease: Lease, proxy: Proxy) -> None:
    shaky = replace(stack, store=seen_through(stack.store, url=proxy.url, config=ONE_TRY))

    def body(backup_set: BackupSet) -> None:
        backup_set.add(dump(backup_set, shaky))
        proxy.go_down()
        backup_set.commit()

    with pytest.raises(BackupFailed) as raised:
        make(shaky, lease, body)
    assert str(raised.value).endswith("(nothing was committed; the next prune removes its objects)")
    found = catalogue.read(stack.store, stack.keys)
    assert (len(found.entries), len(found.halves)) == (0, 1)


def test_the_manifest_goes_first_when_a_set_is_discarded(stack: Stack, lease: Lease) -> None:
    """It may have arrived although writing it seemed to fail: a set without its objects must never be seen."""
    deleted: list[str] = []

    def note(params: dict[str, str], **_: object) -> None:
        deleted.append(params["Key"])

    stack.store.client.meta.events.register("before-parameter-build.s3.DeleteObject", note)
    try:

        def body(backup_set: BackupSet) -> None:
            dump(backup_set, stack)
            raise ServiceError("x")

        with pytest.raises(BackupFailed):
            make(stack, lease, body)
    finally:
        stack.store.client.meta.events.unregister("before-parameter-build.s3.DeleteObject", note)
    assert deleted[0].endswith("/manifest.json")
    assert deleted[1].endswith("/postgres/litellm.dump.zst.age")


# --- names ---------------------------------------------------------------------------------------------------------------


def test_ids_sort_by_time_and_never_repeat() -> None:
    ids = {new_set_id(NIGHT) for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"20261123T030000Z-[a-z2-7]{6}", one) for one in ids)


@pytest.mark.parametrize("item", ["", "mysql", "Postgres", "globals", "litellm", "postgre/litellm"])
def test_what_is_no_component_is_refused(item: str) -> None:
    with pytest.raises(SettingsError, match="expected postgres, clickhouse, bucket, or one of them"):
        refuse_unknown(["postgres", item])


@pytest.mark.parametrize(
    ("requested", "chosen"),
    [
        ([], ["a", "b", "c/d"]),
        (["postgres"], ["a", "b", "c/d"]),
        (["postgres", "postgres/a"], ["a", "b", "c/d"]),
        (["postgres/b", "postgres/a"], ["a", "b"]),
        (["postgres/c/d"], ["c/d"]),
        (["clickhouse"], []),
        (["clickhouse/a"], []),
    ],
)
def test_databases_are_chosen_by_kind_or_by_name(requested: list[str], chosen: list[str]) -> None:
    refuse_unknown(requested)
    assert wanted(requested, "postgres", ["a", "b", "c/d"]) == chosen


@pytest.mark.parametrize("item", ["postgres/x", "postgres/"])
def test_a_database_that_is_not_there_is_refused_with_those_that_are(item: str) -> None:
    with pytest.raises(SettingsError, match="there are: a, b"):
        wanted([item], "postgres", ["a", "b"])


def test_roles_are_taken_into_a_set_too(stack: Stack, lease: Lease) -> None:
    with new_set(stack, lease, label="", protect=False) as backup_set:
        item = store_encrypted(stack.store, backup_set.prefix, "postgres/globals.sql.zst.age", io.BytesIO(b"--"), stack.keys)
        backup_set.add(roles().model_copy(update={"object": item}))
        made = backup_set.commit()
    assert made.globals is not None
    assert made.globals.object == item
