"""Buckets in front of the host name: what every reader and writer of ours makes of them, on a server that has such names."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.bucket_url import UrlStyle, bucket_url
from blocks.clickhouse import ClickHouseServer
from blocks.errors import ObjectMissing
from blocks.object_fetch import ObjectFetcher
from blocks.object_store import BackupStore, s3_bucket
from blocks.s3_light import LightStore, Place
from blocks.source_bucket import SourceBucket
from shared.engines.object_store import S3Engine

DOMAIN = "objects.sandbox"
BUCKET = "langfuse-4f2a"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Engine]:
    """A server with names of buckets below its own."""
    one = S3Engine(tmp_path_factory.mktemp("virtual") / "s3", domain=DOMAIN)
    one.start()
    one.create_bucket(BUCKET)
    yield one
    one.stop()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were looked up: those below the domain lead to this machine, as a DNS server would say."""
    seen: list[str] = []
    original = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if isinstance(name, str) and name.endswith(DOMAIN):
            seen.append(name)
            return original("127.0.0.1", *arguments, **more)
        return original(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return seen


@pytest.mark.parametrize(
    ("endpoint", "style", "url"),
    [
        ("https://storage.railway.app", "virtual", "https://events.storage.railway.app"),
        ("https://storage.railway.app/", "path", "https://storage.railway.app/events"),
        ("http://minio:9000", "virtual", "http://events.minio:9000"),
        ("http://127.0.0.1:9000", "virtual", "http://127.0.0.1:9000/events"),
        ("http://[fd12::1]:9000", "virtual", "http://[fd12::1]:9000/events"),
        ("http://127.0.0.1:9000", "path", "http://127.0.0.1:9000/events"),
    ],
)
def test_a_bucket_is_in_front_of_a_host_name_and_in_the_path_of_an_address(endpoint: str, style: UrlStyle, url: str) -> None:
    assert bucket_url(endpoint, "events", style) == url
    bucket = s3_bucket(endpoint, "key", SecretStr("secret"), "events", "auto", style)
    store = BackupStore(bucket=bucket, stack="test", region="auto")
    assert store.url() == url
    presigned = store.client.generate_presigned_url("get_object", Params={"Bucket": "events", "Key": "one"})
    assert presigned.startswith(f"{url}/one?"), "as boto3 has it"
    assert ClickHouseServer(host="clickhouse").store_url(store) == f"{url}/"
    assert Place(endpoint, "events", "auto", "key", SecretStr("secret"), style).url("one") == f"{url}/one"


def test_everything_reads_and_writes_a_bucket_that_has_a_host_name_of_its_own(engine: S3Engine, asked: list[str]) -> None:
    endpoint, secret = f"http://{DOMAIN}:{engine.port}", SecretStr(engine.secret_key)
    bucket = s3_bucket(endpoint, engine.access_key, secret, BUCKET, engine.region, "virtual")
    store = BackupStore(bucket=bucket, stack="test", region=engine.region)
    store.check()
    store.put("events/one two", b"content")
    assert store.get("events/one two") == b"content"
    source = SourceBucket(bucket=bucket, region=engine.region)
    assert [one.key for one in source.objects("events/")] == ["events/one two"]
    with ObjectFetcher(source) as fetcher:
        assert fetcher.get("events/one two", limit=100).data == b"content"
        with pytest.raises(ObjectMissing):
            fetcher.get("events/three", limit=100)
    place = Place(endpoint, BUCKET, engine.region, engine.access_key, secret, "virtual")
    with LightStore(place, "") as light:
        light.put("events/three", b"more", if_absent=True)
        assert [one.key for one in light.list("events/")] == ["events/one two", "events/three"]
        assert light.get_with_etag("events/three")[0] == b"more"
        assert light.remove(["events/three"]) == 1
    assert set(asked) == {f"{BUCKET}.{DOMAIN}"}, "the server's own name is nobody's business"


def test_a_document_that_is_saved_and_loaded_again_still_knows_it() -> None:
    bucket = s3_bucket("https://storage.railway.app", "key", SecretStr("secret"), "events", "auto", "virtual")
    again = BackupStore.model_validate(BackupStore(bucket=bucket, stack="test").model_dump(context={"include_secrets": True}))
    assert (again.style, again.url()) == ("virtual", "https://events.storage.railway.app")
