"""A bucket into sets: what is in the packs and the index, what is read again and what is not, and what goes wrong meanwhile."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import subprocess
import threading
import traceback
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyrage
import pytest
import zstandard
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import SecretStr

from blocks.errors import ObjectMissing, StoreError
from blocks.object_bucket import Listed
from blocks.object_fetch import ObjectFetcher, signed_headers
from blocks.source_bucket import SourceBucket
from flows.buckets import backup as backing_up
from flows.buckets import writing
from flows.buckets.backup import discard_packs
from flows.buckets.index import IndexEntry, open_index
from flows.buckets.packs import pack_key, read_pack, read_packs_list, stored_packs
from flows.buckets.streams import ObjectStream
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.buckets.conftest import ODD_KEYS, Content, Nights
from tests.proxy import Proxy

MIB = 1024 * 1024
CANARY = "canary-5f1d"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    threads = set(threading.enumerate())
    yield
    ours = ("fetch", "pack", "restore", "undo", "encrypt", "decrypt")
    wait_until(
        lambda: not [t for t in set(threading.enumerate()) - threads if t.name.startswith(ours)],
        timeout=10,
        what="threads to end",
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every key that is read from a bucket."""
    keys: list[str] = []
    real = ObjectFetcher.begin

    def begin(self: ObjectFetcher, key: str, *more: Any) -> Any:
        keys.append(key)
        return real(self, key, *more)

    monkeypatch.setattr(ObjectFetcher, "begin", begin)
    return keys


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of 8 KiB, so that a few objects fill some."""
    monkeypatch.setattr(backing_up, "PACK_BYTES", 8 * 1024)


def _entries(nights: Nights) -> list[IndexEntry]:
    with open_index(nights.store, nights.prefix, nights.taken[-1][1], None) as index:
        return list(index.entries())


def _contents(nights: Nights) -> dict[str, bytes]:
    """Read everything that a set holds from its packs, by its index."""
    packs = read_packs_list(nights.store, nights.prefix, nights.taken[-1][1])
    inside = {
        (pack.id, member.name): member.file.read()
        for pack in packs.values()
        for member in read_pack(nights.store, nights.keys, pack)
    }
    return {entry.key: inside[entry.pack, entry.member] for entry in _entries(nights)}


# --- what is taken -------------------------------------------------------------------------------------------------------


def test_every_object_is_in_the_set_as_it_was_whatever_its_key(content: Content, nights: Nights) -> None:
    for number, key in enumerate(ODD_KEYS):
        content.put(key, b"" if key.endswith("/") else secrets.token_bytes(number * 100))
    content.put("zero", b"")
    content.put("huge", secrets.token_bytes(20 * MIB))  # passed through, not held
    component = nights.backup()
    assert _contents(nights) == content.objects
    entries = _entries(nights)
    assert [entry.key for entry in entries] == sorted(content.objects, key=str.encode)
    assert {e.key: (e.bytes, e.sha256) for e in entries} == {
        key: (len(data), hashlib.sha256(data).hexdigest()) for key, data in content.objects.items()
    }
    assert {entry.key: entry.etag for entry in entries} == {item.key: item.etag for item in content.source.list("")}
    assert (component.objects, component.new_objects) == (len(content.objects), len(content.objects))
    assert component.bytes == sum(map(len, content.objects.values()))
    assert component.pack_ids == {nights.taken[0][0]: "1"}
    assert component.new_bytes == sum(stored_packs(nights.store).values())
    assert component.not_taken == []


def test_an_empty_bucket_is_a_set_without_packs(content: Content, nights: Nights) -> None:
    component = nights.backup()
    assert (component.objects, component.pack_ids, _entries(nights)) == (0, {}, [])
    content.put("a", b"first")
    assert nights.backup().new_objects == 1


def test_only_what_is_below_the_prefix_and_not_the_backups_is_taken(content: Content, nights: Nights) -> None:
    for key in ("in/a", "in/backups/b", "out/c"):
        content.put(key, b"x")
    nights.backup(source=content.source.model_copy(update={"prefix": "in/", "except_below": "in/backups/"}))
    assert [entry.key for entry in _entries(nights)] == ["in/a"]


def test_content_type_and_metadata_are_recorded_where_they_are_not_the_default(content: Content, nights: Nights) -> None:
    put = content.source.client.put_object
    put(Bucket=content.source.name, Key="plain", Body=b"x", ContentType="application/octet-stream")
    put(Bucket=content.source.name, Key="typed", Body=b"x", ContentType="image/png", Metadata={"Project-Id": "p 1"})
    nights.backup()
    plain, typed = _entries(nights)
    assert (plain.type, plain.meta) == ("", {})
    assert (typed.type, typed.meta) == ("image/png", {"project-id": "p 1"})
    assert set(json.loads(plain.line())) == {"key", "bytes", "etag", "sha256", "pack", "member"}


@pytest.mark.skipif(not (shutil.which("zstd") and shutil.which("tar")), reason="zstd and tar are not installed")
def test_a_pack_opens_with_standard_tools_alone(content: Content, nights: Nights, tmp_path: Path) -> None:
    names = ["events/one.json", "media/ünïcode/日本", "new\nline", "zero", "a b/c", "long/" + "/".join(["x" * 170] * 5)]
    for name in names:
        content.put(name, b"" if name == "zero" else name.encode() * 100)
    component = nights.backup()
    stored = nights.store.get(pack_key(nights.store, f"{nights.taken[0][0]}-00001"))
    assert nights.keys.identity is not None
    if shutil.which("age"):
        (tmp_path / "key").write_text(nights.keys.identity.get_secret_value())
        command = f"age -d -i {tmp_path / 'key'} | zstd -d | tar x -C {tmp_path}"
    else:
        stored = pyrage.decrypt(stored, [pyrage.x25519.Identity.from_str(nights.keys.identity.get_secret_value())])
        command = f"zstd -d | tar x -C {tmp_path}"
    subprocess.run(["bash", "-o", "pipefail", "-c", command], input=stored, check=True)
    assert {name: (tmp_path / name).read_bytes() for name in names} == content.objects
    index = zstandard.ZstdDecompressor().stream_reader(nights.store.get(nights.prefix + component.index.key)).read()
    assert [json.loads(line)["key"] for line in index.splitlines()] == sorted(names, key=str.encode)


# --- what is not read again ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_packs")
def test_unchanged_objects_are_referred_to_and_not_read(content: Content, nights: Nights, asked: list[str]) -> None:
    for number in range(40):
        content.put(f"events/{number:02}", secrets.token_bytes(1000))
    first = nights.backup()
    assert first.pack_ids == {nights.taken[0][0]: "1-8"}
    assert sorted(asked) == sorted(content.objects)
    asked.clear()
    assert nights.backup().new_objects == 0
    assert asked == []

    content.put("events/07", secrets.token_bytes(1000))  # changed, same size
    content.put("events/new", b"new")
    content.remove("events/08", *(f"events/{number:02}" for number in range(10, 15)))  # these are a whole pack
    third = nights.backup()
    assert sorted(asked) == ["events/07", "events/new"]
    assert third.pack_ids == {nights.taken[0][0]: "1-2,4-8", nights.taken[2][0]: "1"}
    assert (third.objects, third.new_objects) == (35, 2)
    assert _contents(nights) == content.objects
    assert len(stored_packs(nights.store)) == 9


@pytest.mark.usefixtures("small_packs")
@pytest.mark.parametrize("cut", [False, True], ids=["gone", "cut short"])
def test_objects_whose_pack_is_not_as_it_was_are_read_again(
    content: Content, nights: Nights, asked: list[str], cut: bool
) -> None:
    for number in range(10):
        content.put(f"{number}", secrets.token_bytes(1000))
    nights.backup()
    key = pack_key(nights.store, f"{nights.taken[0][0]}-00001")
    nights.store.remove([key])
    if cut:
        nights.store.put(key, b"cut short")
    asked.clear()
    component = nights.backup()
    assert sorted(asked) == ["0", "1", "2", "3", "4"]
    assert component.pack_ids == {nights.taken[0][0]: "2", nights.taken[1][0]: "1"}
    assert _contents(nights) == content.objects
    assert any("packs are gone or cut short" in line for line in nights.said)


def test_a_damaged_previous_index_makes_everything_be_read_again(content: Content, nights: Nights, asked: list[str]) -> None:
    content.put("a", b"x")
    component = nights.backup()
    nights.store.put(nights.prefix + component.index.key, b"something else")
    assert nights.backup().new_objects == 1
    assert any("everything is read again" in line for line in nights.said)
    assert asked == ["a", "a"]


# --- what changes meanwhile ----------------------------------------------------------------------------------------------


class Moving(SourceBucket):
    """A bucket in which something happens between the listing and the first reading."""

    _block_type_slug = "moving-bucket"
    happening: Any = None

    def objects(self, below: str = "") -> Iterator[Listed]:
        items = list(super().objects(below))
        self.happening()
        yield from items


def test_an_object_that_changes_is_taken_as_it_is_and_one_that_vanishes_is_left_out(content: Content, nights: Nights) -> None:
    for key in ("a", "b", "c", "large"):
        content.put(key, b"before")
    content.put("vanishing large", bytes(9 * MIB))

    def happen() -> None:
        content.put("b", b"after, and longer")
        content.put("large", secrets.token_bytes(9 * MIB))
        content.remove("a", "vanishing large")

    component = nights.backup(source=Moving(bucket=content.source.bucket, happening=happen))
    assert _contents(nights) == content.objects
    assert component.objects == 3
    assert component.not_taken == ["2 objects vanished between listing and reading: 'a', 'vanishing large'"]
    assert nights.backup().new_objects == 0  # what was written down of the changed ones is how they are


def test_a_pack_of_which_everything_vanished_is_not_there(content: Content, nights: Nights) -> None:
    content.put("a", b"x")
    component = nights.backup(source=Moving(bucket=content.source.bucket, happening=lambda: content.remove("a")))
    assert (component.objects, component.pack_ids, stored_packs(nights.store)) == (0, {}, {})


def test_a_large_object_that_is_replaced_while_it_is_read_is_taken_whole(
    content: Content, nights: Nights, s3_engine: S3Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    content.put("large", bytes(9 * MIB))
    opened: list[str] = []

    class ReplacedBehind(ObjectStream):
        def __init__(self, fetcher: ObjectFetcher, key: str) -> None:
            super().__init__(fetcher, key)
            if not opened:
                content.put("large", secrets.token_bytes(9 * MIB + 1))
                self.drop()  # the connection breaks, so that reading goes on by a new request
            opened.append(key)

    monkeypatch.setattr(writing, "ObjectStream", ReplacedBehind)
    nights.backup()
    assert opened == ["large", "large"]
    assert _contents(nights) == content.objects


# --- what breaks ---------------------------------------------------------------------------------------------------------


def test_broken_connections_are_read_across(content: Content, nights: Nights, s3_engine: S3Engine) -> None:
    for number in range(20):
        content.put(f"{number}", secrets.token_bytes(3000))
    content.put("large", secrets.token_bytes(9 * MIB))
    with Proxy(s3_engine.port) as proxy:
        parameters = content.source.bucket.credentials.aws_client_parameters.model_copy(update={"endpoint_url": proxy.url})
        credentials = content.source.bucket.credentials.model_copy(update={"aws_client_parameters": parameters})
        through = SourceBucket(bucket=content.source.bucket.model_copy(update={"credentials": credentials}))
        assert through.client
        proxy.cut_after(30_000)
        proxy.swallow_answers(b"GET /" + content.source.name.encode() + b"/large", 1)
        nights.backup(source=through)
        through.client.close()
        assert proxy.cuts == 2
    assert _contents(nights) == content.objects


@pytest.mark.usefixtures("small_packs")
def test_a_store_that_fails_leaves_no_half_pack_and_what_is_there_can_be_discarded(
    content: Content, nights: Nights, s3_engine: S3Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        content.put(f"{number:02}", secrets.token_bytes(1000))
    real = ObjectFetcher.get

    def refused(self: ObjectFetcher, key: str, *, limit: int) -> Any:
        if key == "42":
            raise StoreError("store: read 42: refused", permanent=True)
        return real(self, key, limit=limit)

    monkeypatch.setattr(ObjectFetcher, "get", refused)
    with pytest.raises(StoreError, match="refused"):
        nights.backup()
    there = stored_packs(nights.store)
    assert 0 < len(there) < 12
    assert f"20261101T030000Z-abcdef-{42 // 5 + 1:05}" not in there
    assert list(nights.store.uploads(f"{nights.store.root}packs/")) == []
    nights.store.put(pack_key(nights.store, "20261109T030000Z-abcdef-00001"), b"of another set")
    upload = nights.store.client.create_multipart_upload(
        Bucket=nights.store.name, Key=pack_key(nights.store, "20261101T030000Z-abcdef-00099")
    )
    assert upload["UploadId"]
    assert discard_packs(nights.store, "20261101T030000Z-abcdef") == len(there)
    assert list(stored_packs(nights.store)) == ["20261109T030000Z-abcdef-00001"]
    assert list(nights.store.uploads(f"{nights.store.root}packs/")) == []


def test_a_bucket_out_of_reach_is_one_clear_line_without_secrets(content: Content, nights: Nights) -> None:
    content.put("a", b"x")
    gone = content.source.model_copy(update={"bucket": content.source.bucket.model_copy(update={"bucket_name": "absent"})})
    with pytest.raises(StoreError, match="the bucket does not exist"):
        nights.backup(source=gone)
    wrong = content.source.bucket.credentials.model_copy(update={"minio_root_password": SecretStr(CANARY)})
    source = SourceBucket(bucket=content.source.bucket.model_copy(update={"credentials": wrong}))
    with pytest.raises(StoreError, match="check the access key") as failed:
        nights.backup(source=source)
    assert CANARY not in "".join(traceback.format_exception(failed.value))
    gone.client.close()
    source.client.close()
    with ObjectFetcher(content.source) as fetcher, pytest.raises(ObjectMissing):
        fetcher.get("absent", limit=1)


def test_signatures_are_those_of_botocore() -> None:
    url = "https://s3.example:9000/bucket/a%20b/%25?list-type=2&prefix=a%2Fb"
    request = AWSRequest("GET", url)
    S3SigV4Auth(Credentials("access", "secret", "token"), "s3", "eu-west-1").add_auth(request)
    stamp = datetime.strptime(request.headers["X-Amz-Date"] + "+0000", "%Y%m%dT%H%M%SZ%z")
    ours = signed_headers(
        "/bucket/a%20b/%25", "list-type=2&prefix=a%2Fb", "s3.example:9000", "eu-west-1", ("access", "secret", "token"), stamp
    )
    assert ours["Authorization"] == request.headers["Authorization"]


def test_memory_does_not_grow_with_what_is_in_the_bucket(content: Content, nights: Nights) -> None:
    content.put("first", b"x")
    nights.backup()  # imports, clients
    content.put("large", bytes(64 * MIB))
    tracemalloc.start()
    try:
        nights.backup()
        assert tracemalloc.get_traced_memory()[1] < 48 * MIB
    finally:
        tracemalloc.stop()
    content.remove("large")


def test_what_is_listed_is_what_boto3_lists(content: Content) -> None:
    for key in ODD_KEYS:
        content.put(key, b"")
    assert list(content.source.objects()) == list(content.source.list(""))
    assert [item.key for item in content.source.objects("percent/%4")] == ["percent/%41%2F%"]
    assert list(content.source.model_copy(update={"prefix": "plus/"}).objects("percent/")) == []
