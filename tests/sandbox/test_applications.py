"""LiteLLM and the Langfuse stand-ins: a trace really travels, health says what the original's says, each fault can be had."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
import redis
from redis.asyncio import Redis as AsyncRedis

from blocks.settings import Settings
from railway.stack import SERVICES
from shared.engines.process import EngineError, wait_until
from shared.sandbox.applications import Applications
from shared.sandbox.langfuse_double import LangfuseWeb, LangfuseWorker
from shared.sandbox.langfuse_double.configuration import Configuration
from shared.sandbox.langfuse_double.queue import Job, Queue
from shared.sandbox.stack import Sandbox
from tests.sandbox.test_stack import OF_APPLICATIONS

HTTP = httpx.Client(trust_env=False, timeout=20.0)  # one for all: a client takes longer to make than a request


@pytest.fixture(scope="module")
def apps(applications: Sandbox) -> Applications:
    assert applications.applications is not None
    return applications.applications


@pytest.fixture
def four(langfuse_4: tuple[LangfuseWeb, LangfuseWorker]) -> tuple[LangfuseWeb, LangfuseWorker]:
    """Langfuse 4 beside Langfuse 3."""
    return langfuse_4


@pytest.fixture
def queue(applications: Sandbox) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(applications.redis.url, decode_responses=True) as client:
        yield client


def clickhouse(sandbox: Sandbox, statement: str) -> str:
    login = {"X-ClickHouse-User": sandbox.clickhouse.user, "X-ClickHouse-Key": sandbox.clickhouse.password}
    return HTTP.post(sandbox.clickhouse.url, content=statement, headers=login).raise_for_status().text.strip()


def call(web: LangfuseWeb, path: str, content: Any = None, **more: Any) -> httpx.Response:
    stores = web.configuration.stores
    method = "GET" if content is None else "POST"
    more.setdefault("auth", (stores.public_key, stores.secret_key))
    return HTTP.request(method, f"{web.url}/api/public/{path}", json=content, **more)


def trace_event(trace: str, **body: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"id": str(uuid.uuid4()), "type": "trace-create", "timestamp": now, "body": {"id": trace, "name": "smoke", **body}}


def send(web: LangfuseWeb, trace: str) -> httpx.Response:
    return call(web, "ingestion", {"batch": [trace_event(trace)]})


def spans(trace: str, span: str = "00f067aa0ba902b7", **attributes: str) -> dict[str, Any]:
    said = [{"key": name.replace("__", "."), "value": {"stringValue": value}} for name, value in attributes.items()]
    at = str(time.time_ns())
    one = {"traceId": trace, "spanId": span, "name": "root", "startTimeUnixNano": at, "endTimeUnixNano": at, "attributes": said}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}


def job_about(queue: redis.Redis, trace: str) -> tuple[str, dict[str, str]]:
    """The job of a trace, id and fields, among those that LiteLLM's callback may have put at the same time."""
    for name in queue.scan_iter("bull:ingestion-queue:[0-9]*", _type="hash"):
        fields: Any = queue.hgetall(name)
        if trace in fields.get("data", ""):
            return name.rsplit(":", 1)[-1], fields
    raise LookupError(f"no job about {trace}")


def is_there(web: LangfuseWeb, trace: str) -> bool:
    return call(web, f"traces/{trace}").status_code == 200


def wait_for(web: LangfuseWeb, trace: str) -> Any:
    wait_until(lambda: is_there(web, trace), timeout=30, what=f"trace {trace}")
    return call(web, f"traces/{trace}").json()


def observations(web: LangfuseWeb, trace: str) -> Any:
    answer = call(web, f"traces/{trace}")
    return answer.json()["observations"] if answer.status_code == 200 else []


# --- LiteLLM -----------------------------------------------------------------------------------------------------------


def test_a_completion_through_litellm_is_a_trace_in_clickhouse(applications: Sandbox, apps: Applications) -> None:
    trace = uuid.uuid4().hex
    request = {
        "model": "mock-gpt",
        "messages": [{"role": "user", "content": "ping"}],
        "metadata": {"trace_id": trace, "trace_name": "through the gateway", "session_id": "night"},
    }
    login = {"Authorization": f"Bearer {apps.litellm.master_key}"}
    answer = HTTP.post(f"{apps.litellm.url}/v1/chat/completions", json=request, headers=login)
    assert answer.json()["choices"][0]["message"]["content"] == "pong"
    found = wait_for(apps.langfuse_web, trace)
    assert (found["name"], found["sessionId"]) == ("through the gateway", "night")
    counted = f"SELECT count(), any(provided_model_name) FROM langfuse.observations FINAL WHERE trace_id = '{trace}'"
    wait_until(lambda: clickhouse(applications, counted) == "1\topenai/gpt-4o-mini", timeout=30, what="the generation's row")


def test_the_shipped_configuration_is_in_force_and_every_key_of_it_is_known(apps: Applications) -> None:
    login = {"Authorization": f"Bearer {apps.litellm.master_key}"}
    assert HTTP.get(f"{apps.litellm.url}/v1/models").status_code == 401
    assert [one["id"] for one in HTTP.get(f"{apps.litellm.url}/v1/models", headers=login).json()["data"]] == [
        "mock-gpt",
        "mock-claude",
    ]
    details = HTTP.get(f"{apps.litellm.url}/health/readiness/details", headers=login).json()
    assert (details["litellm_version"], details["cache"]) == ("1.102.4", "redis")
    ping = f"{apps.litellm.url}/cache/ping"  # says 503 once, if Redis was another one since it was last asked
    wait_until(lambda: HTTP.get(ping, headers=login).status_code == 200, timeout=60, what="LiteLLM's cache")
    cache = json.loads(HTTP.get(ping, headers=login).json()["litellm_cache_params"])
    assert (cache["namespace"], cache["ttl"], cache["supported_call_types"]) == ("litellm", 600, [])
    assert "not a valid argument" not in apps.litellm.log.read_text()


def test_litellm_writes_nothing_outside_its_folder(apps: Applications) -> None:
    process = Path(f"/proc/{apps.litellm.pid}")
    environment = (process / "environ").read_text().split("\0")
    assert {f"{name}={apps.litellm.directory}" for name in ("HOME", "TMPDIR")} <= set(environment)
    assert "HTTPS_PROXY=http://127.0.0.1:9" in environment, "it reaches no other host"
    assert apps.litellm.master_key not in (process / "cmdline").read_text()


# --- Langfuse 3 --------------------------------------------------------------------------------------------------------


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


def test_web_health_looks_at_postgres_and_recent_events_only_when_asked(apps: Applications, applications: Sandbox) -> None:
    web = apps.langfuse_web
    assert call(web, "health").json() == {"status": "OK", "version": "3.225.4"}
    assert call(web, "ready").status_code == 200
    trace = uuid.uuid4().hex
    call(web, "otel/v1/traces", spans(trace))
    wait_until(lambda: bool(observations(web, trace)), timeout=30, what="the span")
    assert call(web, "health?failIfDatabaseUnavailable=true&failIfNoRecentEvents=true").status_code == 200
    applications.service("postgres").stop()
    try:
        assert call(web, "health").status_code == 200
        assert call(web, "health?failIfDatabaseUnavailable=true").status_code == 503
        assert HTTP.get(f"{apps.langfuse_worker.url}/api/health").status_code == 500
        assert send(web, uuid.uuid4().hex).status_code == 207, "the key is remembered in Redis"
    finally:
        applications.service("postgres").start()
    assert HTTP.get(f"{apps.langfuse_worker.url}/api/health").status_code == 200


def test_without_redis_nothing_is_taken_and_the_worker_says_so(apps: Applications, applications: Sandbox) -> None:
    applications.service("redis").stop()
    try:
        assert send(apps.langfuse_web, uuid.uuid4().hex).status_code == 500
        assert HTTP.get(f"{apps.langfuse_worker.url}/api/health").status_code == 500
        assert call(apps.langfuse_web, "health?failIfDatabaseUnavailable=true").status_code == 200
    finally:
        applications.service("redis").start()
    trace = uuid.uuid4().hex
    assert send(apps.langfuse_web, trace).status_code == 207
    wait_for(apps.langfuse_web, trace)


def test_answers_go_wrong_on_demand(apps: Applications) -> None:
    web = apps.langfuse_web
    try:
        web.behave(refuse_ingestion=True)
        assert send(web, "t").status_code == 500
        assert call(web, "otel/v1/traces", spans(uuid.uuid4().hex)).status_code == 500
        assert call(web, "health").status_code == 200
        web.behave(status=503)
        assert call(web, "ready").status_code == 503
        web.behave(says_version="3.200.0")
        assert call(web, "health").json()["version"] == "3.200.0"
        web.behave(slow=0.3)
        begun = time.monotonic()
        assert call(web, "health").status_code == 200
        assert time.monotonic() - begun > 0.3
    finally:
        web.behave()


def test_events_are_lost_between_bucket_and_queue_on_demand(apps: Applications) -> None:
    lost, kept = uuid.uuid4().hex, uuid.uuid4().hex
    apps.langfuse_web.behave(lose_jobs=True)
    try:
        assert send(apps.langfuse_web, lost).status_code == 207
    finally:
        apps.langfuse_web.behave()
    send(apps.langfuse_web, kept)
    wait_for(apps.langfuse_web, kept)
    assert not is_there(apps.langfuse_web, lost)


def test_a_failed_job_waits_for_its_next_attempt_with_the_reason(apps: Applications, queue: redis.Redis) -> None:
    trace = uuid.uuid4().hex
    apps.langfuse_worker.behave(fail_jobs=True)
    try:
        send(apps.langfuse_web, trace)
        wait_until(lambda: "atm" in job_about(queue, trace)[1], timeout=30, what="the job to fail")
    finally:
        apps.langfuse_worker.behave()
    job, fields = job_about(queue, trace)
    assert (fields["failedReason"], fields["atm"]) == ("RuntimeError: told to fail", "1")
    assert job in queue.zrange("bull:ingestion-queue:delayed", 0, -1)  # type: ignore[operator]


def test_a_paused_web_accepts_connections_and_does_not_answer(applications: Sandbox, apps: Applications) -> None:
    applications.service("langfuse-web").pause()
    try:
        with pytest.raises(httpx.ReadTimeout):
            call(apps.langfuse_web, "health", timeout=0.3)
    finally:
        applications.service("langfuse-web").resume()
    assert call(apps.langfuse_web, "health").status_code == 200


def test_a_killed_worker_starts_again_and_takes_what_waited(applications: Sandbox, apps: Applications) -> None:
    trace = uuid.uuid4().hex
    applications.service("langfuse-worker").kill()
    send(apps.langfuse_web, trace)
    assert not is_there(apps.langfuse_web, trace)
    applications.service("langfuse-worker").start()
    wait_for(apps.langfuse_web, trace)


# --- the queue ---------------------------------------------------------------------------------------------------------


def on_queue(applications: Sandbox, apps: Applications, work: Callable[[Queue, Any], Awaitable[None]], **settings: Any) -> None:
    """Run something on a queue of its own."""

    async def run() -> None:
        stores = replace(apps.langfuse_web.configuration.stores, redis_key_prefix=f"test-{uuid.uuid4().hex}")
        async with AsyncRedis.from_url(applications.redis.url, decode_responses=True) as client:
            await work(Queue(client, "q", Configuration(0, "3.225.4", stores, "", **settings)), client)

    asyncio.run(run())


async def next_job(queue: Queue) -> Job:
    async with asyncio.timeout(5):
        while (job := await queue.take(timeout=0.02)) is None:
            pass
    return job


def test_a_job_that_fails_its_last_attempt_is_kept_among_the_failed(applications: Sandbox, apps: Applications) -> None:
    async def work(queue: Queue, client: Any) -> None:
        number = await queue.add("job", {"n": 1})
        for attempt in (1, 2):
            job = await next_job(queue)
            assert (job.id, job.data, job.attempt) == (number, {"n": 1}, attempt)
            await queue.fail(job, "no luck")
        assert [await client.zcard(queue._base + name) for name in ("failed", "delayed")] == [1, 0]
        assert [await client.llen(queue._base + name) for name in ("wait", "active")] == [0, 0]

    on_queue(applications, apps, work, attempts=2, backoff=0.01)


def test_a_job_whose_worker_has_gone_is_taken_again_when_its_lock_has_expired(
    applications: Sandbox, apps: Applications
) -> None:
    async def work(queue: Queue, client: Any) -> None:
        number = await queue.add("job", {}, delay=0.05)
        assert await queue.take(timeout=0.01) is None, "its delay is not over"
        await next_job(queue)
        assert await queue.recover() == 0, "its lock has not expired"
        async with asyncio.timeout(5):
            while await queue.recover() == 0:
                pass
        again = await next_job(queue)
        assert again.id == number
        await queue.complete(again)
        assert await client.exists(queue._base + number) == 0

    on_queue(applications, apps, work, lock=0.3)


# --- Langfuse 4 --------------------------------------------------------------------------------------------------------


def test_langfuse_4_refuses_every_trace_event_and_answers_207(four: tuple[LangfuseWeb, LangfuseWorker]) -> None:
    web, _ = four
    answer = send(web, "t")
    assert (answer.status_code, answer.json()["successes"]) == (207, [])
    assert answer.json()["errors"][0]["status"] == 400
    assert call(web, "traces/t").status_code == 404
    assert "Rejected 1 event(s) from the legacy /api/public/ingestion" in web.log.read_text()


def test_langfuse_4_takes_spans_and_reads_them_back_as_observations(
    applications: Sandbox, four: tuple[LangfuseWeb, LangfuseWorker]
) -> None:
    web, _ = four
    trace = uuid.uuid4().hex
    assert call(web, "health?failIfNoRecentEvents=true").status_code == 503
    long = {"langfuse__observation__input": "x" * 500}
    version = {"headers": {"x-langfuse-ingestion-version": "4"}}
    assert call(web, "otel/v1/traces", spans(trace, **long), **version).status_code == 200
    wait_until(lambda: bool(call(web, f"v2/observations?traceId={trace}").json()["data"]), timeout=20, what="the span")
    (found,) = call(web, f"v2/observations?traceId={trace}&fromStartTime=2026-01-01T00:00:00Z").json()["data"]
    assert (found["name"], found["input"]) == ("root", "x" * 500)
    assert clickhouse(applications, f"SELECT length(input) FROM langfuse_4.events_core WHERE trace_id = '{trace}'") == "200"
    assert call(web, "health?failIfNoRecentEvents=true").status_code == 200


def test_langfuse_4_can_be_asked_whether_its_worker_is_stuck_and_3_cannot(
    apps: Applications, four: tuple[LangfuseWeb, LangfuseWorker]
) -> None:
    _, worker = four
    probe = "/api/health?failIfQueueConsumptionStuck=true"
    assert HTTP.get(worker.url + probe).status_code == 200
    for one in (worker, apps.langfuse_worker):
        one.behave(wedged=True, stuck_after=0.2)
    try:
        wait_until(lambda: HTTP.get(worker.url + probe).status_code == 503, timeout=10, what="the stuck probe")
        assert HTTP.get(f"{worker.url}/api/health").status_code == 200
        assert HTTP.get(apps.langfuse_worker.url + probe).status_code == 200
    finally:
        for one in (worker, apps.langfuse_worker):
            one.behave()
    wait_until(lambda: HTTP.get(worker.url + probe).status_code == 200, timeout=10, what="the worker to go on")


def test_an_image_older_than_the_schema_does_not_start(applications: Sandbox, four: tuple[LangfuseWeb, LangfuseWorker]) -> None:
    web, _ = four
    older = LangfuseWeb(applications.directory / "web-older", web.configuration.stores, version="3.225.4")
    with pytest.raises(EngineError, match="no migration found for version 46"):
        older.start()


def test_from_sigterm_on_web_is_not_ready_and_then_it_ends(four: tuple[LangfuseWeb, LangfuseWorker]) -> None:
    web, _ = four
    web._process.signal(signal.SIGTERM)
    wait_until(lambda: call(web, "ready").status_code == 500, timeout=5, what="ready to say no")
    assert call(web, "health").status_code == 200
    wait_until(lambda: not web.running, timeout=10, what="web to end")
    web.start()
    assert call(web, "ready").status_code == 200


# --- the sandbox -------------------------------------------------------------------------------------------------------


def test_the_environment_leads_to_the_applications(
    applications: Sandbox, apps: Applications, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in applications.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    required = [name for name, field in Settings.model_fields.items() if field.default in (None, "")]
    unset = [name for name in required if not getattr(settings, name)]
    of_setup = ("litellm_db_password", "langfuse_db_password")  # of a deploy's own program; here the roles are there already
    assert [name for name in unset if name.startswith(OF_APPLICATIONS) and name not in of_setup] == []
    assert (settings.litellm_url, settings.langfuse_web_url) == (apps.litellm.url, apps.langfuse_web.url)
    assert settings.require("litellm_master_key") == apps.litellm.master_key
    assert call(apps.langfuse_web, "projects", auth=(settings.langfuse_public_key, settings.require("langfuse_secret_key")))
    assert HTTP.get(settings.require("heartbeat_url")).text == "OK"
    assert apps.sinks.heartbeat.signals[-1] == "success"


def test_every_service_has_a_name_and_a_wrong_name_says_which_there_are(applications: Sandbox) -> None:
    for name in SERVICES:
        if not name.startswith("prefect-"):
            assert applications.service(name)
    with pytest.raises(EngineError, match="no service prefect-worker; it has postgres"):
        applications.service("prefect-worker")
