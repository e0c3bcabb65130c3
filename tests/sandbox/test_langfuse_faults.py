"""The Langfuse stand-ins in trouble: health says what the original's says, and each fault can be had."""

from __future__ import annotations

import time
import uuid

import httpx
import pytest
import redis

from shared.engines.process import wait_until
from shared.sandbox.applications import Applications
from shared.sandbox.stack import Sandbox
from tests.sandbox.langfuse import HTTP, call, is_there, job_about, observations, send, spans, wait_for


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
