"""`shared/scripts/init-minio.sh` on a real S3 server: buckets are made, are private, and a second time changes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from shared.engines.object_store import Identity, S3Engine
from shared.engines.process import free_port
from shared.sandbox.stack import ROOT

SECRET = 'canary "quoted\\ $HOME` secret'
OWNER = Identity("owner", "owner", SECRET, actions=("Admin", "Read", "Write", "List", "Tagging"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Engine]:
    engine = S3Engine(tmp_path_factory.mktemp("s3"), identities=[OWNER])
    engine.start()
    yield engine
    engine.kill()


def client(engine: S3Engine) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=engine.endpoint_url,
        aws_access_key_id="owner",
        aws_secret_access_key=SECRET,
        region_name=engine.region,
    )


def script(url: str, *buckets: str, **changes: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "MINIO_ENDPOINT": url, "MINIO_ACCESS_KEY": "owner", "MINIO_SECRET_KEY": SECRET}
    command = [str(ROOT / "shared/scripts/init-minio.sh"), *buckets]
    return subprocess.run(command, env=variables | changes, capture_output=True, text=True, timeout=120, check=False)


def test_buckets_are_created_once_and_are_private(engine: S3Engine) -> None:
    first = script(engine.endpoint_url)
    assert (first.returncode, first.stdout) == (0, "langfuse: created, private\nbackups: created, private\n"), first.stderr
    client(engine).put_object(Bucket="langfuse", Key="events/1.json", Body=b"{}")
    second = script(engine.endpoint_url + "/", "langfuse")
    assert (second.returncode, second.stdout) == (0, "langfuse: exists, private\n"), second.stderr
    listed = client(engine).list_objects_v2(Bucket="langfuse")["Contents"]
    assert [item["Key"] for item in listed] == ["events/1.json"], "what was there stays, the probe does not"


@pytest.mark.parametrize(
    ("changes", "bucket", "said"),
    [
        ({"MINIO_SECRET_KEY": "wrong-canary"}, "langfuse", "access denied (HTTP 403); are the keys right"),
        ({}, "Big_Bucket", "bad name; 3 to 63 of"),
        ({"MINIO_SECRET_KEY": ""}, "langfuse", "set MINIO_SECRET_KEY"),
        ({"MINIO_ENDPOINT": "localhost:9000"}, "langfuse", "expected http(s)://host[:port]"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(engine: S3Engine, changes: dict[str, str], bucket: str, said: str) -> None:
    done = script(engine.endpoint_url, bucket, **changes)
    assert done.returncode == 1
    assert said in done.stderr
    assert "canary" not in done.stdout + done.stderr


def test_a_server_that_does_not_answer_is_waited_for_and_no_longer() -> None:
    done = script(f"http://127.0.0.1:{free_port()}", "langfuse", MINIO_WAIT_SECONDS="1")
    assert (done.returncode, "does not answer after 1 s" in done.stderr) == (1, True)


def test_a_bucket_that_everybody_can_read_is_not_taken_for_private(tmp_path: Path) -> None:
    stranger = Identity("anonymous", "anonymous", actions=("Read:langfuse", "List:langfuse"))
    engine = S3Engine(tmp_path / "s3", identities=[OWNER, stranger])
    engine.start()
    try:
        done = script(engine.endpoint_url, "langfuse")
        assert done.returncode == 1
        assert "langfuse: everybody can read its objects (HTTP 200); change that on the server now" in done.stderr
        assert "Contents" not in client(engine).list_objects_v2(Bucket="langfuse"), "the probe is gone"
    finally:
        engine.kill()


def test_a_policy_that_made_a_bucket_public_is_taken_away(engine: S3Engine) -> None:
    s3 = client(engine)
    s3.create_bucket(Bucket="was-public")
    statement = {"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::was-public/*"]}
    s3.put_bucket_policy(Bucket="was-public", Policy=str({"Version": "2012-10-17", "Statement": [statement]}).replace("'", '"'))
    done = script(engine.endpoint_url, "was-public")
    assert (done.returncode, done.stdout) == (0, "was-public: exists, was public, private\n"), done.stderr
