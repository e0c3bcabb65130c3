"""The whole stack under one sweep: the real gateway, Langfuse's stand-ins, and the engines below them."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from flows.health.observation import Observation, Status
from flows.health.observe import observe
from flows.health.targets import Limits, Targets
from shared.engines.process import wait_until
from shared.sandbox.applications import Applications
from shared.sandbox.blocks import settings_from
from shared.sandbox.stack import Sandbox
from tests.health.looks import Seen, look

NO_BACKUPS = {("backups", "newest-set"), ("backups", "newest-drill")}


@pytest.fixture(scope="module")
def apps(applications: Sandbox) -> Applications:
    assert applications.applications is not None
    return applications.applications


@pytest.fixture(scope="module")
def targets(applications: Sandbox) -> Targets:
    return replace(Targets.from_settings(settings_from(applications.environment())), prefect=None)


def only(targets: Targets, service: str, **limits: float) -> Seen:
    """One application, without the engines below it."""
    changed = replace(targets, postgres=None, clickhouse=None, store=None, limits=replace(Limits(), **limits))  # type: ignore[arg-type]
    return look(changed, service)


def send(apps: Applications) -> None:
    """A trace for Langfuse."""
    stores = apps.langfuse_web.configuration.stores
    body = {"id": uuid.uuid4().hex, "name": "watched"}
    event = {"id": str(uuid.uuid4()), "type": "trace-create", "timestamp": datetime.now(UTC).isoformat(), "body": body}
    url, auth = f"{apps.langfuse_web.url}/api/public/ingestion", (stores.public_key, stores.secret_key)
    answer = httpx.post(url, json={"batch": [event]}, auth=auth, trust_env=False, timeout=20)
    assert answer.status_code == 207


def test_a_healthy_stack_is_ok_in_every_aspect_and_looked_at_quickly(targets: Targets) -> None:
    asyncio.run(observe(targets))  # imports
    begun = time.monotonic()
    found = asyncio.run(observe(targets))
    assert time.monotonic() - begun < 8.0, "2 s on a machine that does nothing else: see the bench"
    bad: list[Observation] = [one for one in found if one.status is not Status.OK]
    disk = {("clickhouse", "disk")}  # this machine's own
    assert {(one.service, one.aspect) for one in bad} - disk == NO_BACKUPS, bad
    seen = {(one.service, one.aspect) for one in found}
    assert {("litellm", "cache"), ("litellm", "langfuse-callback"), ("langfuse-worker", "background-migrations")} <= seen
    assert ("postgres", "foreign-tables") in seen
    assert ("clickhouse", "schema-migrations") in seen


def test_the_real_gateway_is_down_while_it_hangs(targets: Targets, apps: Applications) -> None:
    apps.litellm.pause()
    try:
        seen = only(replace(targets, timeout=1.0), "litellm")
        assert seen.bad() == {"liveness": Status.DOWN}
    finally:
        apps.litellm.resume()
    assert only(targets, "litellm").bad() == {}


def test_the_real_gateway_refuses_a_wrong_key_and_that_is_unknown(targets: Targets) -> None:
    assert targets.litellm is not None
    assert targets.litellm.key is not None
    wrong = replace(targets.litellm, key=type(targets.litellm.key)("sk-wrong"))
    assert only(replace(targets, litellm=wrong), "litellm").bad() == {"version": Status.UNKNOWN}


def test_a_worker_that_takes_no_jobs_and_calls_itself_healthy_is_found_out(targets: Targets, apps: Applications) -> None:
    """langfuse#15509, the incident that its own health endpoint does not see."""
    apps.langfuse_worker.behave(wedged=True)
    try:
        send(apps)
        seen = Seen()

        def stuck() -> bool:
            seen.update(only(targets, "langfuse-worker", stuck_seconds=0.2))
            return seen["consumption"].status is Status.DOWN

        wait_until(stuck, timeout=30, what="a job that nobody takes", pause=0.1)
        assert seen["health"].status is Status.OK
        assert "nobody works on any" in seen.sentence("consumption")
    finally:
        apps.langfuse_worker.behave()
    wait_until(
        lambda: only(targets, "langfuse-worker", stuck_seconds=0.2).bad() == {},
        timeout=60,
        what="the worker to take its jobs",
        pause=0.1,
    )


def test_langfuse_is_down_while_it_says_so(targets: Targets, apps: Applications) -> None:
    apps.langfuse_web.behave(status=503)
    apps.langfuse_worker.behave(status=500)
    try:
        assert only(targets, "langfuse-web").bad() == {"health": Status.DOWN}
        assert "health" in only(targets, "langfuse-worker").bad()
    finally:
        apps.langfuse_web.behave()
        apps.langfuse_worker.behave()
    assert only(targets, "langfuse-web").bad() == {}
