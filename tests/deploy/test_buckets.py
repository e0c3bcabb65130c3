"""A stack on Railway's buckets, deployed as a person does it: its traces go through a bucket that is nobody else's business."""

from __future__ import annotations

from pathlib import Path

import boto3
import httpx
import pytest

from shared.engines.object_store import S3Engine
from shared.sandbox.demo_deploy import deploy_from_a_terminal
from shared.sandbox.railway_api import Pace, RailwayStandIn
from shared.sandbox.railway_api.bucket_hosts import EngineBuckets
from shared.sandbox.railway_runtime.runtime import LocalRuntime

OPTIONS = ("--variant", "starter", "--object-store", "bucket", "--bucket-region", "iad")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_stack_on_railways_buckets_is_deployed_and_traced_and_deployed_again_without_a_change(tmp_path: Path) -> None:
    engine = S3Engine(tmp_path / "s3")
    engine.start()
    runtime = LocalRuntime(tmp_path / "containers")
    pace = Pace(build=0.1, poll=0.2)
    try:
        with RailwayStandIn(tmp_path / "railway", runtime, pace=pace, buckets=EngineBuckets(engine)) as railway:
            said = deploy_from_a_terminal(railway, *OPTIONS)
            assert "+ bucket langfuse in iad, private: done" in said
            assert "Deployed; 8 of 8 checks ok" in said
            assert sorted(railway.service_names()) == [
                "clickhouse",
                "langfuse-web",
                "langfuse-worker",
                "litellm",
                "postgres",
                "redis",
            ]
            assert "Nothing to do" in deploy_from_a_terminal(railway, *OPTIONS, "--no-smoke")
        kept = _objects(engine)
    finally:
        runtime.close()
        engine.stop()
    assert kept, "what was traced lies in the bucket"


def _objects(engine: S3Engine) -> list[str]:
    """The keys in the only bucket that there is, which does not open without a key."""
    client = boto3.client(
        "s3",
        endpoint_url=engine.endpoint_url,
        region_name=engine.region,
        aws_access_key_id=engine.access_key,
        aws_secret_access_key=engine.secret_key,
    )
    (name,) = [bucket["Name"] for bucket in client.list_buckets()["Buckets"] if bucket["Name"].startswith("langfuse-")]
    assert httpx.get(f"{engine.endpoint_url}/{name}", trust_env=False).status_code == 403
    return [item["Key"] for item in client.list_objects_v2(Bucket=name).get("Contents", [])]
