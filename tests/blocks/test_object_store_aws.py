"""The store as AWS itself answers: another implementation than the sandbox's, with versioned buckets and other errors."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from blocks.object_store import BackupStore, ConditionFailed, s3_bucket


@pytest.fixture(scope="module")
def aws() -> Iterator[BackupStore]:
    """A store on moto's S3, in a versioned bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    bucket = s3_bucket(f"http://127.0.0.1:{port}", "access-key", SecretStr("secret-key"), "backups", "us-east-1")
    store = BackupStore(bucket=bucket, stack="mystack")
    store.client.create_bucket(Bucket="backups")
    store.client.put_bucket_versioning(Bucket="backups", VersioningConfiguration={"Status": "Enabled"})
    yield store
    server.stop()


def test_the_check_passes(aws: BackupStore) -> None:
    aws.check()


def test_conditional_writes_are_refused_as_on_the_sandbox(aws: BackupStore) -> None:
    etag = aws.put(f"{aws.root}lock.json", b"1", if_absent=True)
    with pytest.raises(ConditionFailed):
        aws.put(f"{aws.root}lock.json", b"2", if_absent=True)
    aws.put(f"{aws.root}lock.json", b"3", if_etag=etag)
    with pytest.raises(ConditionFailed):
        aws.put(f"{aws.root}lock.json", b"4", if_etag=etag)
    assert aws.get(f"{aws.root}lock.json") == b"3"


def test_a_stream_in_many_parts_reads_back_whole(aws: BackupStore) -> None:
    data = bytes(range(256)) * 100_000
    aws.put_stream(f"{aws.root}stream", io.BytesIO(data))
    with aws.open(f"{aws.root}stream") as reader:
        assert reader.read() == data


def test_a_deleted_object_is_gone_although_the_bucket_keeps_its_versions(aws: BackupStore) -> None:
    aws.put(f"{aws.root}sets/x/manifest.json", b"{}")
    aws.remove_below(f"{aws.root}sets/x/")
    assert aws.find(f"{aws.root}sets/x/manifest.json") is None
    assert list(aws.list(f"{aws.root}sets/x/")) == []
