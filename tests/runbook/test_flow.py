"""A runbook as the worker runs it: on the sandbox's Prefect server, with its three steps, its artifact and its trail."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from redis import Redis

from flows.runbook.audit import read
from shared.sandbox.blocks import stack_from
from shared.sandbox.stack import ROOT, Sandbox

pytestmark = pytest.mark.long

PROGRAM = """
from flows.runbook.langfuse_callback import CallbackRequest, langfuse_callback
from flows.runbook.redis_policy import RedisPolicyRequest, redis_policy
from flows.runbook.restart_service import RestartRequest, restart_service

key = "sandbox/redis/{}/20261126T030000Z"
assert redis_policy(RedisPolicyRequest(incident=key.format("eviction-policy"), by="automation")) == "healed"
assert restart_service(RestartRequest(incident=key.format("ping"))) == ["redis: needs a person"]
assert langfuse_callback(CallbackRequest(incident="sandbox/litellm/langfuse-callback/20261126T030000Z")) == "needs a person"
"""
"""There is no Railway here, so that nothing can be restarted: people have been told by the incident, and the run says so."""


def test_a_runbook_runs_as_three_visible_steps_and_leaves_an_artifact_and_a_trail(sandbox: Sandbox) -> None:
    begun = datetime.now(UTC) - timedelta(minutes=1)
    with Redis.from_url(sandbox.redis.url) as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=sandbox.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert "litellm is left to people" in done.stdout + done.stderr
    assert 'write `callbacks: ["langfuse_otel"]` under litellm_settings' in done.stdout + done.stderr
    shown = sandbox.artifact("runbook-redis-policy-redis-sandbox") or ""
    assert "# redis-policy of redis in sandbox: can heal" in shown
    assert "policy of the running server | allkeys-lru" in shown
    assert "Done: set maxmemory-policy noeviction" in shown
    trail = read(stack_from(sandbox.environment()).store, begun, datetime.now(UTC) + timedelta(minutes=1))
    mine = [entry for entry in trail if entry.actor == "redis-policy"]
    assert [entry.kind for entry in mine] == ["diagnosed", "began", "ended", "closed"]
    assert all(entry.by == "automation" and entry.run for entry in mine)
    wanted = {"flow_runs": {"id": {"any_": [mine[0].run]}}}
    answer = httpx.post(f"{sandbox.prefect_api_url}/task_runs/filter", json=wanted, trust_env=False, timeout=60)
    assert sorted(one["name"].partition(" ")[0] for one in answer.json()) == ["confirm", "diagnose", "remedy"]
