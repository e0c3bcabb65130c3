"""The S3 engine: real objects that outlive the server, and the semantics that backups rely on."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.engines.object_store import Identity, S3Engine
from shared.engines.process import free_port, wait_until
from tests.engines.programs import command_lines, is_alive, program, sockets_since

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

MEBIBYTE = 1 << 20
Checksums = Literal["when_supported", "when_required"]
WRITER = Identity("backup", "BACKUP", actions=("Read:backups", "Write:backups", "List:backups", "Tagging:backups"))
READER = Identity("drill", "DRILL", actions=("Read:backups", "List:backups"))


STARTS_S3 = """
import sys
from pathlib import Path
from shared.engines.object_store import S3Engine
engine = S3Engine(Path(sys.argv[1]))
engine.start()
print(engine.pid, flush=True)
sys.stdin.read(1)
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Engine]:
    engine = S3Engine(tmp_path_factory.mktemp("s3"), identities=[WRITER, READER])
    engine.start()
    for bucket in ("backups", "others"):
        connect(engine).create_bucket(Bucket=bucket)
    yield engine
    engine.kill()


@pytest.fixture(params=["when_supported", "when_required"])
def client(request: pytest.FixtureRequest, engine: S3Engine) -> S3Client:
    """The administrator's client, with boto3's present checksum defaults and with those that older stores need."""
    return connect(engine, checksums=request.param)


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """A key prefix of the test's own."""
    name: str = request.node.name
    return name.replace("[", "-").replace("]", "") + "/"


def connect(engine: S3Engine, identity: Identity | None = None, checksums: Checksums = "when_supported") -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=engine.endpoint_url,
        region_name=engine.region,
        aws_access_key_id=identity.access_key if identity else engine.access_key,
        aws_secret_access_key=identity.secret_key if identity else engine.secret_key,
        config=Config(
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )


def refused(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    return error.value.response["ResponseMetadata"]["HTTPStatusCode"], error.value.response["Error"]["Code"]


def keys(client: S3Client, bucket: str, prefix: str = "") -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def read(client: S3Client, key: str) -> bytes:
    return client.get_object(Bucket="backups", Key=key)["Body"].read()


def test_it_starts_with_no_buckets(tmp_path: Path) -> None:
    engine = S3Engine(tmp_path, port=(port := free_port()))
    engine.start()
    assert engine.endpoint_url == f"http://127.0.0.1:{port}"
    assert connect(engine).list_buckets()["Buckets"] == []
    engine.kill()


def test_secrets_are_private_and_in_no_argument_no_log_and_no_repr(engine: S3Engine) -> None:
    assert engine.pid is not None
    arguments, log = command_lines(engine.pid), engine.log.read_text()
    for secret in (engine.secret_key, WRITER.secret_key):
        assert secret not in arguments
        assert secret not in log
        assert secret not in repr(WRITER)
    for name in ("secret-key", "s3.json"):
        assert (engine.directory / name).stat().st_mode & 0o077 == 0


def test_it_listens_on_loopback_only(engine: S3Engine) -> None:
    sockets = {os.readlink(f) for f in Path(f"/proc/{engine.pid}/fd").iterdir() if f.is_symlink()}  # noqa: PTH115
    listening = [
        fields[1]
        for table in ("tcp", "tcp6")
        for fields in map(str.split, Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    ]
    assert len(listening) >= 8
    assert {address.split(":")[0] for address in listening} == {"0100007F"}


# --- Who may do what


def test_an_identity_is_limited_to_its_bucket(engine: S3Engine, prefix: str) -> None:
    writer = connect(engine, WRITER)
    writer.put_object(Bucket="backups", Key=prefix + "x", Body=b"1")
    writer.upload_fileobj(io.BytesIO(bytes(20 * MEBIBYTE)), "backups", prefix + "large")
    writer.delete_object(Bucket="backups", Key=prefix + "large")
    assert keys(writer, "backups", prefix) == [prefix + "x"]
    with pytest.raises(ClientError) as error:
        writer.put_object(Bucket="others", Key="x", Body=b"1")
    assert refused(error) == (403, "AccessDenied")
    with pytest.raises(ClientError) as error:
        writer.list_objects_v2(Bucket="others")
    assert refused(error) == (403, "AccessDenied")
    with pytest.raises(ClientError) as error:
        writer.create_bucket(Bucket="new-bucket")
    assert refused(error) == (403, "AccessDenied")


def test_a_reader_cannot_write_or_delete(engine: S3Engine, prefix: str) -> None:
    connect(engine).put_object(Bucket="backups", Key=prefix + "x", Body=b"1")
    reader = connect(engine, READER)
    assert read(reader, prefix + "x") == b"1"
    with pytest.raises(ClientError) as error:
        reader.put_object(Bucket="backups", Key=prefix + "x", Body=b"2")
    assert refused(error) == (403, "AccessDenied")
    with pytest.raises(ClientError) as error:
        reader.delete_object(Bucket="backups", Key=prefix + "x")
    assert refused(error) == (403, "AccessDenied")


def test_wrong_keys_and_no_keys_are_refused(engine: S3Engine) -> None:
    with pytest.raises(ClientError) as error:
        connect(engine, Identity("x", engine.access_key, "wrong")).list_buckets()
    assert refused(error) == (403, "SignatureDoesNotMatch")
    with pytest.raises(ClientError) as error:
        connect(engine, Identity("x", "nobody", "wrong")).list_buckets()
    assert refused(error) == (403, "InvalidAccessKeyId")
    anonymous = boto3.client(
        "s3", endpoint_url=engine.endpoint_url, region_name=engine.region, config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError) as error:
        anonymous.get_object(Bucket="backups", Key="x")
    assert refused(error) == (403, "AccessDenied")


# --- Semantics that backups rely on


def test_if_none_match_creates_once_and_never_overwrites(client: S3Client, prefix: str) -> None:
    client.put_object(Bucket="backups", Key=prefix + "manifest", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="backups", Key=prefix + "manifest", Body=b"second", IfNoneMatch="*")
    assert refused(error) == (412, "PreconditionFailed")
    assert read(client, prefix + "manifest") == b"first"


def test_of_many_racing_if_none_match_one_wins(engine: S3Engine, prefix: str) -> None:
    outcomes: list[str] = []

    def race(number: int) -> None:
        try:
            connect(engine).put_object(Bucket="backups", Key=prefix + "lease", Body=b"%d" % number, IfNoneMatch="*")
            outcomes.append(str(number))
        except ClientError as error:
            outcomes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[1:] == ["PreconditionFailed"] * 7
    assert read(connect(engine), prefix + "lease").decode() == min(outcomes)


def test_if_match_replaces_only_what_was_read(client: S3Client, prefix: str) -> None:
    first = client.put_object(Bucket="backups", Key=prefix + "lease", Body=b"1")["ETag"]
    client.put_object(Bucket="backups", Key=prefix + "lease", Body=b"2", IfMatch=first)
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="backups", Key=prefix + "lease", Body=b"3", IfMatch=first)
    assert refused(error) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as error:
        client.delete_object(Bucket="backups", Key=prefix + "lease", IfMatch=first)
    assert refused(error) == (412, "PreconditionFailed")
    assert read(client, prefix + "lease") == b"2"


def test_a_multipart_upload_is_invisible_until_complete_and_keeps_if_none_match(client: S3Client, prefix: str) -> None:
    key = prefix + "dump"
    upload = client.create_multipart_upload(Bucket="backups", Key=key)["UploadId"]
    parts: list[CompletedPartTypeDef] = []
    for number, body in ((1, b"a" * 5 * MEBIBYTE), (2, b"b")):
        part = client.upload_part(Bucket="backups", Key=key, UploadId=upload, PartNumber=number, Body=body)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    assert keys(client, "backups", prefix) == []
    client.put_object(Bucket="backups", Key=key, Body=b"was quicker")
    with pytest.raises(ClientError) as error:
        client.complete_multipart_upload(
            Bucket="backups",
            Key=key,
            UploadId=upload,
            IfNoneMatch="*",
            MultipartUpload={"Parts": parts},
        )
    assert refused(error) == (412, "PreconditionFailed")
    assert read(client, key) == b"was quicker"
    client.complete_multipart_upload(Bucket="backups", Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    assert read(client, key) == b"a" * 5 * MEBIBYTE + b"b"


def test_an_abandoned_upload_is_listed_and_can_be_aborted(client: S3Client, prefix: str) -> None:
    key = prefix + "dump"
    upload = client.create_multipart_upload(Bucket="backups", Key=key)["UploadId"]
    client.upload_part(Bucket="backups", Key=key, UploadId=upload, PartNumber=1, Body=b"a" * 5 * MEBIBYTE)
    listed = client.list_multipart_uploads(Bucket="backups", Prefix=prefix)["Uploads"]
    assert [(one["Key"], one["UploadId"]) for one in listed] == [(key, upload)]
    assert listed[0]["Initiated"].tzinfo is not None

    client.abort_multipart_upload(Bucket="backups", Key=key, UploadId=upload)

    assert "Uploads" not in client.list_multipart_uploads(Bucket="backups", Prefix=prefix)
    with pytest.raises(ClientError) as error:
        client.upload_part(Bucket="backups", Key=key, UploadId=upload, PartNumber=2, Body=b"b")
    assert refused(error) == (404, "NoSuchUpload")


class DyingDump(io.BytesIO):
    """A pipe that gives its content and then, instead of an end, an error.

    Not a BrokenPipeError: boto3 also raises the reader's error in the uploads still under way, and urllib3 takes that one
    for the server's wish to answer early, so that it waits for an answer to half a request until the read timeout, 60 s.
    """

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if not content:
            raise RuntimeError("the dump died")
        return content


def test_a_reader_that_raises_leaves_neither_object_nor_upload(client: S3Client, prefix: str) -> None:
    config = TransferConfig(multipart_threshold=5 * MEBIBYTE, multipart_chunksize=5 * MEBIBYTE)
    with pytest.raises(RuntimeError, match="the dump died"):
        client.upload_fileobj(DyingDump(bytes(12 * MEBIBYTE)), "backups", prefix + "dump", Config=config)
    assert keys(client, "backups", prefix) == []
    assert "Uploads" not in client.list_multipart_uploads(Bucket="backups", Prefix=prefix)


@pytest.mark.parametrize(
    ("wanted", "expected"), [("bytes=0-2", b"012"), ("bytes=7-", b"789"), ("bytes=-2", b"89"), ("bytes=4-99", b"456789")]
)
def test_a_range_reads_that_range(engine: S3Engine, prefix: str, wanted: str, expected: bytes) -> None:
    client = connect(engine)
    client.put_object(Bucket="backups", Key=prefix + "x", Body=b"0123456789")
    answer = client.get_object(Bucket="backups", Key=prefix + "x", Range=wanted)
    assert answer["Body"].read() == expected
    assert answer["ContentRange"].endswith("/10")
    assert answer["ContentLength"] == len(expected)


def test_a_range_crosses_parts_and_one_beyond_the_end_is_refused(engine: S3Engine, prefix: str) -> None:
    client, size = connect(engine), 12 * MEBIBYTE + 5
    content = os.urandom(size)
    config = TransferConfig(multipart_threshold=5 * MEBIBYTE, multipart_chunksize=5 * MEBIBYTE)
    client.upload_fileobj(io.BytesIO(content), "backups", prefix + "x", Config=config)
    start, end = 5 * MEBIBYTE - 3, 10 * MEBIBYTE + 3
    part = client.get_object(Bucket="backups", Key=prefix + "x", Range=f"bytes={start}-{end}")["Body"].read()
    assert part == content[start : end + 1]
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket="backups", Key=prefix + "x", Range=f"bytes={size}-")
    assert refused(error) == (416, "InvalidRange")


def test_paging_lists_every_key_once(client: S3Client, prefix: str) -> None:
    expected = [f"{prefix}{number:03}/part" for number in range(60)]
    for key in expected:
        client.put_object(Bucket="backups", Key=key, Body=b"")
    pages = list(
        client.get_paginator("list_objects_v2").paginate(Bucket="backups", Prefix=prefix, PaginationConfig={"PageSize": 7})
    )
    assert len(pages) == 9
    assert [item["Key"] for page in pages for item in page["Contents"]] == expected
    folders = client.get_paginator("list_objects_v2").paginate(
        Bucket="backups", Prefix=prefix, Delimiter="/", PaginationConfig={"PageSize": 7}
    )
    assert [item["Prefix"] for page in folders for item in page["CommonPrefixes"]] == [
        key.removesuffix("part") for key in expected
    ]
    after = client.list_objects_v2(Bucket="backups", Prefix=prefix, StartAfter=expected[57])["Contents"]
    assert [item["Key"] for item in after] == expected[58:]
    assert client.delete_objects(Bucket="backups", Delete={"Objects": [{"Key": key} for key in expected]})["Deleted"]
    assert keys(client, "backups", prefix) == []


def test_content_that_does_not_fit_its_checksum_is_refused(engine: S3Engine, prefix: str) -> None:
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    client = connect(engine)
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="backups", Key=prefix + "x", Body=b"content", ChecksumSHA256=wrong)
    assert refused(error) == (400, "BadDigest")
    assert keys(client, "backups", prefix) == []


def test_what_is_not_there_is_said_so(client: S3Client) -> None:
    with pytest.raises(ClientError) as error:
        client.get_object(Bucket="backups", Key="nothing")
    assert refused(error) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as error:
        client.list_objects_v2(Bucket="no-such-bucket")
    assert refused(error) == (404, "NoSuchBucket")
    with pytest.raises(ClientError) as error:
        client.put_object(Bucket="no-such-bucket", Key="x", Body=b"")
    assert refused(error) == (404, "NoSuchBucket")


def test_a_bucket_with_objects_cannot_be_deleted(engine: S3Engine) -> None:
    client = connect(engine)
    client.create_bucket(Bucket="full")
    client.put_object(Bucket="full", Key="x", Body=b"1")
    with pytest.raises(ClientError) as error:
        client.delete_bucket(Bucket="full")
    assert refused(error) == (409, "BucketNotEmpty")


def test_many_buckets_work(engine: S3Engine) -> None:
    client = connect(engine)
    for number in range(10):
        client.create_bucket(Bucket=f"many-{number}")
        client.put_object(Bucket=f"many-{number}", Key="x", Body=b"%d" % number)
    assert client.get_object(Bucket="many-9", Key="x")["Body"].read() == b"9"


def test_versions_are_kept_and_locked_ones_cannot_be_deleted(engine: S3Engine) -> None:
    client = connect(engine)
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    first = client.put_object(
        Bucket="locked", Key="x", Body=b"1", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate="2999-01-01"
    )["VersionId"]
    client.put_object(Bucket="locked", Key="x", Body=b"2")
    client.delete_object(Bucket="locked", Key="x")
    assert client.get_object(Bucket="locked", Key="x", VersionId=first)["Body"].read() == b"1"
    with pytest.raises(ClientError) as error:
        client.delete_object(Bucket="locked", Key="x", VersionId=first)
    assert refused(error) == (403, "AccessDenied")


# --- Life and death


def put_numbers(client: S3Client, acknowledged: list[int]) -> None:
    """Write numbered objects until the server is gone."""
    for number in itertools.count():
        try:
            client.put_object(Bucket="backups", Key=f"numbers/{number}", Body=b"%d" % number * 1000)
        except (ClientError, BotoCoreError):
            return
        acknowledged.append(number)


def assert_kept(engine: S3Engine, acknowledged: list[int]) -> None:
    client = connect(engine)
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["backups"]
    for number in acknowledged:
        assert read(client, f"numbers/{number}") == b"%d" % number * 1000


@pytest.mark.long
def test_acknowledged_objects_outlive_kill_in_the_middle_of_writes_then_a_stop_then_a_move_to_other_ports(
    tmp_path: Path,
) -> None:
    engine = S3Engine(tmp_path)
    engine.start()
    connect(engine).create_bucket(Bucket="backups")
    acknowledged: list[int] = []
    writer = threading.Thread(target=put_numbers, args=(connect(engine), acknowledged))
    writer.start()
    wait_until(lambda: len(acknowledged) > 100, timeout=20, what="100 objects")
    engine.kill()
    writer.join()

    engine.start()
    assert_kept(engine, acknowledged)
    engine.stop()
    assert not engine.running

    master_port = json.loads((tmp_path / "ports.json").read_text())["master"]
    with socket.create_server(("127.0.0.1", master_port)):  # somebody else took one of our ports meanwhile
        moved = S3Engine(tmp_path)
        assert moved.port != engine.port
        moved.start()
        assert_kept(moved, acknowledged)
        moved.kill()


@pytest.mark.long
def test_a_server_whose_program_was_killed_ends_without_litter_and_starts_on_other_ports(tmp_path: Path) -> None:
    with program(STARTS_S3, tmp_path) as (parent, pid):
        other = S3Engine(tmp_path)  # the ports of last time are taken now, so it chooses others
        used = json.loads((tmp_path / "ports.json").read_text()).values()
        sockets = sockets_since(tmp_path / "ports.json", used)
        assert sockets
        parent.kill()
        wait_until(lambda: not is_alive(int(pid)), timeout=60, what="the left-over server to end")
        wait_until(lambda: not any(path.exists() for path in sockets), timeout=60, what=f"{sockets} to be removed")
    assert other.port not in used
    other.start()
    connect(other).create_bucket(Bucket="backups")
    other.kill()
