"""The proxy in front of a real S3 server: what it passes is what was sent, and each fault is seen by boto3 as it should be."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO

import boto3
import httpx
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    IncompleteReadError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from mypy_boto3_s3 import S3Client

from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from shared.faults.proxy import S3Proxy
from shared.faults.traffic import Match, Request, Rule, Traffic, Trigger

DATA = b"0123456789" * 30_000


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic(r"^HEAD /[^/]*$")


@pytest.fixture(scope="module")
def proxy(s3_engine: S3Engine, traffic: Traffic) -> Iterator[S3Proxy]:
    s3_engine.create_bucket("faults")
    with S3Proxy(s3_engine.port, traffic) as running:
        yield running


def connect(engine: S3Engine, url: str, attempts: int = 1, timeout: float = 30.0) -> S3Client:
    """A client that sends checksums as trailers, as boto3 does by itself."""
    config = Config(
        retries={"total_max_attempts": attempts}, s3={"addressing_style": "path"}, read_timeout=timeout, connect_timeout=5
    )
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=engine.region,
        aws_access_key_id=engine.access_key,
        aws_secret_access_key=engine.secret_key,
        config=config,
    )


@pytest.fixture(scope="module")
def s3(s3_engine: S3Engine, proxy: S3Proxy) -> S3Client:
    return connect(s3_engine, proxy.url)


@pytest.fixture(scope="module")
def direct(s3_engine: S3Engine) -> S3Client:
    return connect(s3_engine, s3_engine.endpoint_url)


@pytest.fixture
def key(direct: S3Client, traffic: Traffic) -> Iterator[str]:
    """An object that is there."""
    name = f"object-{secrets.token_hex(4)}"
    direct.put_object(Bucket="faults", Key=name, Body=DATA)
    traffic.begin()
    yield name
    traffic.end()


def read(s3: S3Client, key: str) -> bytes:
    return s3.get_object(Bucket="faults", Key=key)["Body"].read()


def test_twenty_megabytes_in_parts_pass_both_ways_unchanged(s3: S3Client, traffic: Traffic) -> None:
    data = os.urandom(20 << 20)
    traffic.begin()
    config = TransferConfig(multipart_threshold=1 << 20, multipart_chunksize=6 << 20, max_concurrency=3)
    s3.upload_fileobj(BytesIO(data), "faults", "large", Config=config)
    assert traffic.count == 1 + 4 + 1, "begin, four parts, complete"
    received = BytesIO()
    s3.download_fileobj("faults", "large", received, Config=config)
    assert hashlib.sha256(received.getbuffer()).digest() == hashlib.sha256(data).digest()


def test_every_kind_of_answer_passes_over_one_kept_connection(s3: S3Client, key: str, traffic: Traffic) -> None:
    assert s3.head_object(Bucket="faults", Key=key)["ContentLength"] == len(DATA)
    assert s3.get_object(Bucket="faults", Key=key, Range="bytes=5-9")["Body"].read() == b"56789"
    etag = s3.put_object(Bucket="faults", Key="empty", Body=b"")["ETag"]
    with pytest.raises(ClientError, match="304"):
        s3.get_object(Bucket="faults", Key="empty", IfNoneMatch=etag)
    with pytest.raises(ClientError, match="NoSuchKey"):
        read(s3, "nowhere")
    listed = s3.list_objects_v2(Bucket="faults")["Contents"]
    assert {"empty", key} <= {item["Key"] for item in listed}
    s3.delete_object(Bucket="faults", Key="empty")
    assert [request.method for request in traffic.requests] == ["HEAD", "GET", "PUT", "GET", "GET", "GET", "DELETE"]


def test_a_body_in_chunks_passes(s3: S3Client, direct: S3Client, key: str) -> None:
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "faults", "Key": "chunked"})
    pieces = [os.urandom(70_000) for _ in range(3)]
    assert httpx.put(url, content=iter(pieces), trust_env=False).status_code == 200
    assert read(direct, "chunked") == b"".join(pieces)


def test_what_is_set_aside_is_passed_but_not_counted(s3: S3Client, key: str, traffic: Traffic) -> None:
    s3.head_bucket(Bucket="faults")
    read(s3, key)
    assert [request.method for request in traffic.requests] == ["GET"]


@pytest.mark.parametrize(
    ("fault", "status", "code"), [("500", 500, "InternalError"), ("503", 503, "SlowDown"), ("403", 403, "AccessDenied")]
)
def test_an_answer_in_the_servers_place_is_an_s3_error(
    s3: S3Client, direct: S3Client, key: str, traffic: Traffic, fault: str, status: int, code: str
) -> None:
    traffic.begin(Rule(fault, Match("PUT|GET", times=2)))  # type: ignore[arg-type]  # one of the faults
    for work in (lambda: s3.put_object(Bucket="faults", Key=key, Body=b"other"), lambda: read(s3, key)):
        with pytest.raises(ClientError) as error:
            work()
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert error.value.response["Error"]["Code"] == code
    assert read(s3, key) == DATA, "the third one is passed, and the write never reached the server"
    assert [hit.fault for hit in traffic.hits] == [fault, fault]


@pytest.mark.parametrize(("fault", "arrives"), [("refuse", False), ("tear", False), ("lose", True)])
def test_a_reset_write_has_reached_the_server_or_not(
    s3: S3Client, direct: S3Client, key: str, traffic: Traffic, fault: str, arrives: bool
) -> None:
    traffic.begin(Rule(fault, Match("PUT")))  # type: ignore[arg-type]  # one of the faults
    with pytest.raises((ConnectionClosedError, HTTPClientError)):
        s3.put_object(Bucket="faults", Key=f"{key}-new", Body=DATA)
    found = direct.list_objects_v2(Bucket="faults", Prefix=f"{key}-new").get("Contents", [])
    assert [item["Size"] for item in found] == ([len(DATA)] if arrives else [])


@pytest.mark.parametrize(("fault", "keep"), [("cut", None), ("truncate", None), ("truncate", 1000), ("truncate", 0)])
def test_an_answer_that_ends_early_is_noticed(s3: S3Client, key: str, traffic: Traffic, fault: str, keep: int | None) -> None:
    traffic.begin(Rule(fault, Match("GET"), keep=keep))  # type: ignore[arg-type]  # one of the faults
    with pytest.raises((IncompleteReadError, ResponseStreamingError, HTTPClientError, ConnectionError)):
        read(s3, key)
    assert read(s3, key) == DATA


def test_a_hanging_request_runs_into_the_clients_timeout_and_goes_on_when_released(
    s3_engine: S3Engine, proxy: S3Proxy, key: str, traffic: Traffic
) -> None:
    impatient = connect(s3_engine, proxy.url, timeout=0.3)
    traffic.begin(Rule("hang", Match("GET"), seconds=30))
    with pytest.raises(ReadTimeoutError):
        read(impatient, key)
    patient, answers = connect(s3_engine, proxy.url), []
    traffic.begin(Rule("hang", Match("GET"), seconds=30))
    begun = time.monotonic()
    thread = threading.Thread(target=lambda: answers.append(read(patient, key)))
    thread.start()
    wait_until(lambda: bool(traffic.hits), timeout=20, what="the request hangs")
    traffic.end()
    thread.join()
    assert answers == [DATA]
    assert time.monotonic() - begun < 20


def test_a_trigger_is_called_at_its_request_and_only_there(s3: S3Client, key: str, traffic: Traffic) -> None:
    called: list[tuple[str, Request, int]] = []

    def hook(name: str) -> Callable[[Request], None]:
        return lambda request: called.append((name, request, traffic.count))

    traffic.begin(Trigger(hook("second"), Match(nth=2)), Trigger(hook("put"), Match("PUT", key), after=True))
    read(s3, key)
    s3.put_object(Bucket="faults", Key=key, Body=b"x")
    read(s3, key)
    assert [(name, request.number) for name, request, _ in called] == [("second", 2), ("put", 2)]


def test_a_fault_may_last_and_may_be_for_some_keys_only(s3: S3Client, direct: S3Client, key: str, traffic: Traffic) -> None:
    direct.put_object(Bucket="faults", Key="well", Body=b"well")
    traffic.begin(Rule("503", Match("GET", f"/{key}$", nth=2, times=0)))
    assert read(s3, key) == DATA
    for _ in range(3):
        with pytest.raises(ClientError, match="SlowDown"):
            read(s3, key)
        assert read(s3, "well") == b"well"
