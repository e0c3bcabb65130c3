"""The runbooks of data as the worker runs them: on the sandbox's Prefect server and engines, with nothing but settings."""

from __future__ import annotations

import subprocess
import sys

import pytest

from shared.sandbox.stack import ROOT, Sandbox

pytestmark = pytest.mark.long

CANARY = "canary-flows-77d0"
PROGRAM = """
from datetime import UTC, datetime, timedelta
from blocks.errors import SettingsError
from flows.runbook.drain_queue import DrainRequest, drain_queue
from flows.runbook.replay_events import ReplayRequest, replay_events
from flows.runbook.retention import RetentionRequest, retention
from flows.runbook.retry_failed_jobs import RetryRequest, retry_failed_jobs
from flows.runbook.split_shared_database import SplitRequest, split_shared_database

now = datetime.now(UTC)
print(retention(RetentionRequest(traces_days=3650, spend_days=3650, failed_days=3650)))
print(retry_failed_jobs(RetryRequest(dry_run=True)), drain_queue(DrainRequest(dry_run=True)))
print(replay_events(ReplayRequest(begin=now - timedelta(days=300), end=now - timedelta(days=299), dry_run=True)))
print(split_shared_database(SplitRequest(incident="sandbox/postgres/foreign-tables/20261126T030000Z")))
"""
"""There is no Langfuse here, so nobody could be seen to take jobs; no Railway, so nobody could be led to another database."""


def test_each_of_them_runs_with_the_settings_of_a_worker_and_says_what_it_found(sandbox: Sandbox) -> None:
    told = {"LANGFUSE_ADMIN_API_KEY": CANARY, "LANGFUSE_WEB_URL": "http://127.0.0.1:9", "LANGFUSE_EVENT_PREFIX": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**sandbox.environment(), **told},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [
        "['clickhouse: nothing to do', 'postgres: nothing to do', 'redis: nothing to do']",
        "needs a person needs a person",
        "nothing to do",
        "needs a person",
    ]
    assert CANARY not in done.stdout + done.stderr
    shown = sandbox.artifact("runbook-retention-clickhouse-sandbox") or ""
    assert "# retention of clickhouse in sandbox: nothing to do" in shown
