"""Whether Langfuse 4 copies traces to its new tables: what its worker says, and on the real ClickHouse whether any waits."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from pydantic import SecretStr

from flows.health.observation import Status
from flows.health.targets import ClickHouse, Targets
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.process import free_port, wait_until
from shared.sandbox.langfuse_double import LangfuseWorker
from shared.sandbox.stack import Sandbox
from tests.health.looks import Scripted, Seen, look

PROBE = "/api/health?failIfEventPropagationStuck=true"
TWO_DAYS = 179_039
"""As langfuse#17452 has it."""


def said(behind: float | None, **other: Any) -> str:
    """What the worker answers."""
    found = {"enabled": True, "secondsSinceLastRun": 20, "propagationDelaySeconds": behind, "stuck": False, **other}
    return json.dumps({"status": "ok", "eventPropagation": found})


@pytest.fixture
def langfuse() -> Iterator[Scripted]:
    answers = {
        "/api/public/health": (200, '{"status":"OK","version":"4.16.0"}'),
        "/api/health": (200, '{"status":"ok"}'),
        "/api/ready": (200, "{}"),
    }
    with Scripted(answers) as server:
        yield server


class Warehouse:
    """A database of Langfuse on the engine, empty."""

    def __init__(self, engine: ClickHouseEngine) -> None:
        self.engine = engine
        self.database = f"copied_{secrets.token_hex(4)}"
        self.run("CREATE DATABASE {db} ENGINE = Atomic")
        columns = "id String, start_time DateTime64(3), created_at DateTime64(3)"
        self.run(f"CREATE TABLE {{db}}.observations ({columns}) ENGINE = MergeTree ORDER BY toDate(start_time)")

    def run(self, sql: str) -> None:
        login = {"X-ClickHouse-User": self.engine.user, "X-ClickHouse-Key": self.engine.password}
        answer = httpx.post(self.engine.url, content=sql.format(db=self.database), headers=login, trust_env=False, timeout=60)
        assert answer.is_success, answer.text

    def arrives(self, seconds_ago: int) -> None:
        at = f"now64(3) - INTERVAL {seconds_ago} SECOND"
        self.run(f"INSERT INTO {{db}}.observations SELECT 'o', {at}, {at}")

    @property
    def target(self) -> ClickHouse:
        return ClickHouse(self.engine.url, self.engine.user, SecretStr(self.engine.password))


@pytest.fixture
def warehouse(clickhouse_engine: ClickHouseEngine) -> Iterator[Warehouse]:
    made = Warehouse(clickhouse_engine)
    yield made
    made.run("DROP DATABASE {db} SYNC")


def worker(server: Scripted, warehouse: ClickHouse | None = None) -> Seen:
    targets = Targets(langfuse_worker=server.url, langfuse_web=server.url, clickhouse=warehouse, timeout=20)
    return look(targets, "langfuse-worker")


def test_a_worker_that_copies_is_ok_and_one_that_has_not_begun_for_long_is_degraded(langfuse: Scripted) -> None:
    langfuse.answers[PROBE] = (200, said(700))
    assert worker(langfuse).bad() == {}
    assert worker(langfuse)["propagation"].value == 700
    langfuse.answers[PROBE] = (503, said(3000, stuck=True, secondsSinceLastRun=2400))
    seen = worker(langfuse)
    assert seen.bad() == {"propagation": Status.DEGRADED}
    assert "has not begun to copy traces to the new tables for 2400 s" in seen.sentence("propagation")
    langfuse.answers[PROBE] = (200, said(None))
    assert worker(langfuse).bad() == {}, "it has just been made, and copied nothing yet"


def test_a_cursor_that_stands_still_is_degraded_although_the_worker_does_not_call_it_stuck(langfuse: Scripted) -> None:
    langfuse.answers[PROBE] = (200, said(TWO_DAYS))
    seen = worker(langfuse)
    assert seen.bad() == {"propagation": Status.DEGRADED}
    assert f"younger than {TWO_DAYS} s, expected at most 1800 s" in seen.sentence("propagation")


def test_a_stack_to_which_nothing_is_sent_is_not_behind(langfuse: Scripted, warehouse: Warehouse) -> None:
    langfuse.answers[PROBE] = (200, said(TWO_DAYS))
    warehouse.arrives(TWO_DAYS + 60)
    assert worker(langfuse, warehouse.target).bad() == {}, "that was copied"
    warehouse.arrives(60)
    assert worker(langfuse, warehouse.target).bad() == {}, "that has half an hour"
    warehouse.arrives(3600)
    assert worker(langfuse, warehouse.target).bad() == {"propagation": Status.DEGRADED}
    langfuse.answers[PROBE] = (200, said(700))
    assert worker(langfuse, warehouse.target).bad() == {}


def test_where_clickhouse_does_not_say_whether_traces_wait_nobody_knows(langfuse: Scripted) -> None:
    langfuse.answers[PROBE] = (200, said(TWO_DAYS))
    seen = worker(langfuse, ClickHouse(f"http://127.0.0.1:{free_port()}", "u", SecretStr("p")))
    assert seen.bad() == {"propagation": Status.UNKNOWN}


@pytest.mark.parametrize("version", ["3.225.4", "4.16.0"])
def test_a_worker_without_that_job_is_not_judged_by_it(langfuse: Scripted, version: str) -> None:
    langfuse.answers["/api/public/health"] = (200, json.dumps({"version": version}))
    assert "propagation" not in worker(langfuse), "it does not answer the question"
    langfuse.answers[PROBE] = (200, said(None, enabled=False))
    assert "propagation" not in worker(langfuse)
    assert (PROBE in langfuse.asked) is (version[0] == "4"), "3 has no such job"


def test_the_stand_in_in_dual_mode_says_what_the_original_says(applications: Sandbox, state_directory: Path) -> None:
    assert applications.applications is not None
    stores = applications.applications.langfuse_web.configuration.stores
    made = LangfuseWorker(state_directory / "worker-dual", stores, version="4.16.0", write_mode="dual", propagate=0.1)
    cursor = "langfuse:event-propagation:last-processed-partition"

    def bad() -> dict[str, Status]:
        return look(Targets(langfuse_worker=made.url, timeout=20), "langfuse-worker").bad()

    with redis.Redis.from_url(applications.redis.url) as client:
        made.start()
        try:
            wait_until(lambda: client.exists(cursor) == 1, timeout=30, what="the first copy", pause=0.1)
            assert bad() == {}
            made.behave(cursor_stuck=True)

            def stands_still() -> bool:
                client.set(cursor, "2026-01-01 00:00:00")
                return bad() == {"propagation": Status.DEGRADED}

            wait_until(stands_still, timeout=30, what="the cursor to stand still", pause=0.1)
            made.behave()
            wait_until(lambda: bad() == {}, timeout=30, what="the cursor to move", pause=0.1)
        finally:
            made.stop()
            client.delete(cursor, "langfuse:event-propagation:last-run-started-at")
