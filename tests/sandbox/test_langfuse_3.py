"""Langfuse 3's stand-in: what is sent goes through bucket, queue and ClickHouse, and is refused as the original does."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime

import boto3
import redis

from shared.engines.process import wait_until
from shared.sandbox.applications import Applications
from shared.sandbox.stack import Sandbox
from tests.sandbox.langfuse import HTTP, call, clickhouse, is_there, job_about, observations, send, spans, trace_event, wait_for


def test_an_event_passes_through_the_bucket_and_the_queue(
    applications: Sandbox, apps: Applications, queue: redis.Redis
) -> None:
    trace = uuid.uuid4().hex
    apps.langfuse_worker.behave(wedged=True)
    try:
        assert send(apps.langfuse_web, trace).status_code == 207
        job, fields = job_about(queue, trace)
        assert job in queue.lrange("bull:ingestion-queue:wait", 0, -1)  # type: ignore[operator]  # redis types answers as awaitable, too
        key = json.loads(fields["data"])["payload"]["data"]["fileKey"]
        assert key.startswith(f"events/prj-sandbox/trace/{trace}/")
        assert HTTP.get(f"{apps.langfuse_worker.url}/api/health").json() == {"status": "ok"}, "wedged, and says it is well"
        assert not is_there(apps.langfuse_web, trace)
    finally:
        apps.langfuse_worker.behave()
    wait_for(apps.langfuse_web, trace)
    wait_until(lambda: not queue.exists(f"bull:ingestion-queue:{job}"), timeout=10, what="the job to be removed")
    store = boto3.client(
        "s3",
        endpoint_url=applications.store.endpoint_url,
        aws_access_key_id=applications.source_bucket,
        aws_secret_access_key=applications.keys.source_secret_key,
        region_name=applications.store.region,
    )
    assert json.loads(store.get_object(Bucket="langfuse", Key=key)["Body"].read())[0]["body"]["id"] == trace
    logged = f"SELECT count() FROM langfuse.blob_storage_file_log WHERE bucket_path = '{key}'"
    wait_until(lambda: clickhouse(applications, logged) == "1", timeout=10, what="the blob's row")


def test_later_events_complete_what_earlier_ones_said(apps: Applications) -> None:
    trace, now = uuid.uuid4().hex, datetime.now(UTC)
    body = {"id": f"g-{trace}", "traceId": trace, "name": "generation", "model": "m", "input": {"question": "Wie geht’s? 🦜"}}
    create = {"id": "1", "type": "generation-create", "timestamp": now.isoformat(), "body": body}
    update = {"id": "2", "type": "generation-update", "timestamp": now.isoformat(), "body": {"id": body["id"], "output": "ok"}}
    call(apps.langfuse_web, "ingestion", {"batch": [trace_event(trace), create]})
    wait_for(apps.langfuse_web, trace)
    call(apps.langfuse_web, "ingestion", {"batch": [update]})

    merged = ("ok", json.dumps(body["input"], ensure_ascii=False))
    wait_until(
        lambda: [(one["output"], one["input"]) for one in observations(apps.langfuse_web, trace)] == [merged],
        timeout=30,
        what="the merged generation",
    )


def test_bad_events_are_refused_one_by_one_and_the_others_taken(apps: Applications) -> None:
    good, unknown, timeless = trace_event("t-good"), trace_event("t-bad"), trace_event("t-bad")
    unknown["type"] = "trace-destroy"
    del timeless["timestamp"]
    answer = call(apps.langfuse_web, "ingestion", {"batch": [unknown, good, timeless]})
    assert answer.status_code == 207
    assert answer.json()["successes"] == [{"id": good["id"], "status": 201}]
    assert [one["status"] for one in answer.json()["errors"]] == [400, 400]
    assert call(apps.langfuse_web, "ingestion", {"events": []}).status_code == 400


def test_only_the_projects_key_opens(apps: Applications) -> None:
    stores = apps.langfuse_web.configuration.stores
    for login in ((stores.public_key, "sk-lf-wrong"), ("pk-lf-wrong", stores.secret_key)):
        assert call(apps.langfuse_web, "ingestion", {"batch": []}, auth=login).status_code == 401
    assert HTTP.get(f"{apps.langfuse_web.url}/api/public/projects").status_code == 401
    assert call(apps.langfuse_web, "projects").json()["data"][0]["id"] == "prj-sandbox"


def test_a_span_sent_as_opentelemetry_is_a_trace(apps: Applications) -> None:
    trace = uuid.uuid4().hex
    said = {"langfuse__trace__name": "otel", "langfuse__session__id": "s1", "gen_ai__request__model": "m", "host": "web-1"}
    assert call(apps.langfuse_web, "otel/v1/traces", spans(trace, **said)).json() == {}
    found = wait_for(apps.langfuse_web, trace)
    assert (found["name"], found["sessionId"]) == ("otel", "s1")
    wait_until(lambda: bool(observations(apps.langfuse_web, trace)), timeout=30, what="the span")  # rows come table by table
    (one,) = observations(apps.langfuse_web, trace)
    assert (one["type"], one["model"], one["metadata"]) == ("GENERATION", "m", {"host": "web-1"})


def test_one_bad_id_spoils_a_batch_of_spans(apps: Applications) -> None:
    assert call(apps.langfuse_web, "otel/v1/traces", spans("not-hex")).status_code == 400
    assert call(apps.langfuse_web, "otel/v1/traces", spans(uuid.uuid4().hex, span="short")).status_code == 400
    protobuf = {"headers": {"Content-Type": "application/x-protobuf"}}
    assert call(apps.langfuse_web, "otel/v1/traces", {}, **protobuf).status_code == 400
