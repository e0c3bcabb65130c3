"""Langfuse 4's stand-in: what it takes, what it drops in silence, how it says that it is stuck."""

from __future__ import annotations

import signal
import uuid
from dataclasses import replace

import pytest

from shared.engines.process import EngineError, wait_until
from shared.sandbox.applications import Applications
from shared.sandbox.langfuse_double import LangfuseWeb, LangfuseWorker
from shared.sandbox.stack import Sandbox
from tests.sandbox.langfuse import HTTP, call, clickhouse, send, spans


def test_langfuse_4_refuses_every_trace_event_and_answers_207(four: tuple[LangfuseWeb, LangfuseWorker]) -> None:
    web, _ = four
    answer = send(web, "t")
    assert (answer.status_code, answer.json()["successes"]) == (207, [])
    assert answer.json()["errors"][0]["status"] == 400
    assert call(web, "traces/t").status_code == 404
    assert "Rejected 1 event(s) from the legacy /api/public/ingestion" in web.log.read_text()


def test_langfuse_4_takes_trace_events_as_3_did_while_it_writes_twice(
    applications: Sandbox, four: tuple[LangfuseWeb, LangfuseWorker]
) -> None:
    stores = four[0].configuration.stores
    web = LangfuseWeb(applications.directory / "web-dual", stores, version="4.16.0", write_mode="dual")
    web.start()
    try:
        answer = send(web, trace := uuid.uuid4().hex)
        assert (answer.status_code, answer.json()["errors"]) == (207, [])
    finally:
        web.stop()
    written = f"SELECT count() FROM langfuse_4.traces WHERE id = '{trace}'"
    wait_until(lambda: clickhouse(applications, written) == "1", timeout=20, what="the trace in the old table")


def test_langfuse_4_takes_spans_and_reads_them_back_as_observations(
    applications: Sandbox, four: tuple[LangfuseWeb, LangfuseWorker]
) -> None:
    web, _ = four
    trace = uuid.uuid4().hex
    clickhouse(applications, "TRUNCATE TABLE langfuse_4.events_core")  # of other tests
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


def test_a_newer_release_has_one_migration_more_and_there_is_no_way_back_from_it(
    applications: Sandbox, four: tuple[LangfuseWeb, LangfuseWorker]
) -> None:
    web, _ = four
    database = f"upgraded_{uuid.uuid4().hex[:8]}"
    clickhouse(applications, f"CREATE DATABASE {database} ENGINE = Atomic")
    stores = replace(web.configuration.stores, clickhouse_database=database)
    one = LangfuseWeb(applications.directory / "web-upgraded", stores, version="3.225.4")
    try:
        for number, newest in (("3.225.4", 37), ("3.230.0", 38), ("4.16.0", 46), ("4.20.0", 47)):
            one.upgrade(number)
            one.start()
            one.stop()
            ledger = f"SELECT argMax(version, sequence), argMax(dirty, sequence) FROM {database}.schema_migrations"
            assert clickhouse(applications, ledger) == f"{newest}\t0"
        one.upgrade("4.16.0")
        with pytest.raises(EngineError, match="no migration found for version 47"):
            one.start()
    finally:
        clickhouse(applications, f"DROP DATABASE {database} SYNC")


def test_from_sigterm_on_web_is_not_ready_and_then_it_ends(four: tuple[LangfuseWeb, LangfuseWorker]) -> None:
    web, _ = four
    web._process.signal(signal.SIGTERM)
    wait_until(lambda: call(web, "ready").status_code == 500, timeout=5, what="ready to say no")
    assert call(web, "health").status_code == 200
    wait_until(lambda: not web.running, timeout=10, what="web to end")
    web.start()
    assert call(web, "ready").status_code == 200
