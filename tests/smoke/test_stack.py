"""The smoke test on a stack: the real gateway, its keys and spend, Langfuse 3 and 4, and what breaks between them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from typing import Any

import httpx
import psycopg
import pytest
from pydantic import SecretStr

from flows.smoke.checks import run
from flows.smoke.results import SmokeResult
from flows.smoke.targets import NAMES, SmokeTargets
from flows.smoke.tracing import major_version, read_back
from shared.engines.process import wait_until
from shared.sandbox.applications import Applications
from shared.sandbox.langfuse_double import LangfuseWeb, LangfuseWorker
from shared.sandbox.stack import ROOT, Sandbox

LATE_S = 2.0
TRACE_ONLY = tuple(name for name in NAMES if name not in ("completion", "trace"))


@pytest.fixture(scope="module")
def apps(applications: Sandbox) -> Applications:
    assert applications.applications is not None
    return applications.applications


def targets(apps: Applications, **more: Any) -> SmokeTargets:
    stores = apps.langfuse_web.configuration.stores
    settings = {
        "litellm_url": apps.litellm.url,
        "litellm_key": SecretStr(apps.litellm.master_key),
        "langfuse_url": apps.langfuse_web.url,
        "public_key": stores.public_key,
        "secret_key": SecretStr(stores.secret_key),
        "request_seconds": 180,  # other tests may take the machine's time
        "spend_seconds": 180,
        "trace_seconds": 180,
    }
    return SmokeTargets.model_validate(settings | more)


def trace(apps: Applications, **more: Any) -> SmokeResult:
    """The result of reading a trace back, and of nothing else."""
    results = {result.name: result for result in run(targets(apps, **({"skip": TRACE_ONLY, "trace_seconds": LATE_S} | more)))}
    assert results["completion"].word == "ok"
    return results["trace"]


def keys_left(applications: Sandbox) -> int:
    with psycopg.connect(applications.postgres.url("litellm")) as connection:
        found = connection.execute("""SELECT count(*) FROM "LiteLLM_VerificationToken" WHERE key_alias LIKE 'smoke-test-%'""")
        return int((found.fetchone() or (0,))[0])


def test_everything_works_on_a_whole_stack_and_nothing_is_left_behind(applications: Sandbox, apps: Applications) -> None:
    told: list[SmokeResult] = []
    results = run(targets(apps), report=told.append)
    assert [(result.name, result.word, result.detail) for result in results if result.word != "ok"] == []
    assert sorted(result.name for result in told) == sorted(NAMES)
    said = {result.name: result.detail for result in results}
    assert said["completion"].startswith("mock-")
    assert "in Langfuse 3.225.4 after" in said["trace"]
    assert "created, used, deleted, refused" in said["virtual-key"]
    assert said["spend"].startswith("$0.0000")
    assert keys_left(applications) == 0


def test_the_gateway_by_itself_has_no_database_and_that_is_no_failure(apps: Applications) -> None:
    skip = ("trace", "langfuse-ui", "litellm-ui")
    results = run(targets(apps, litellm_url=apps.litellm.gateway.url, skip=skip))
    words = {result.name: result.word for result in results if result.name not in skip}
    assert words == {
        "authentication": "ok",
        "completion": "ok",
        "streaming": "ok",
        "virtual-key": "skipped",
        "spend": "skipped",
    }


def test_a_trace_that_nobody_takes_from_the_queue_is_missed_in_time(apps: Applications) -> None:
    apps.langfuse_worker.behave(wedged=True)
    try:
        found = trace(apps)
    finally:
        apps.langfuse_worker.behave()
    assert found.word == "failed"
    assert found.seconds < LATE_S + 25
    assert "no result within 2 s" in found.detail
    assert "is not in Langfuse 3.225.4: are LiteLLM's LANGFUSE_* variables those of this project" in found.detail


def test_keys_of_no_project_are_found_at_once(apps: Applications) -> None:
    found = trace(apps, secret_key=SecretStr("sk-lf-canary"), trace_seconds=180)
    assert found.word == "failed"
    assert "the project's keys are refused" in found.detail
    assert found.seconds < 170
    assert "canary" not in found.detail


def test_the_callback_that_langfuse_4_drops_in_silence_is_named(
    apps: Applications, langfuse_4: tuple[LangfuseWeb, LangfuseWorker]
) -> None:
    """LiteLLM traces to Langfuse 3 here; to a 4 it would answer 207 and keep nothing, which looks the same from outside."""
    found = trace(apps, langfuse_url=langfuse_4[0].url)
    assert found.word == "failed"
    assert "the callback `langfuse` of LiteLLM 1.102.4 loses every trace in Langfuse 4; use `langfuse_otel`" in found.detail


def test_a_trace_of_langfuse_4_is_read_back_by_its_observations(langfuse_4: tuple[LangfuseWeb, LangfuseWorker]) -> None:
    web, _ = langfuse_4
    stores, number, at = web.configuration.stores, uuid.uuid4().hex, str(time.time_ns())
    span = {"traceId": number, "spanId": number[:16], "name": "m", "startTimeUnixNano": at, "endTimeUnixNano": at}
    login = (stores.public_key, stores.secret_key)

    async def sent_and_read() -> float:
        async with httpx.AsyncClient(base_url=web.url, auth=login, trust_env=False, timeout=20) as client:
            content = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
            (await client.post("/api/public/otel/v1/traces", json=content)).raise_for_status()
            assert await major_version(client) == (4, "4.16.0")
            async with asyncio.timeout(60):
                return await read_back(client, number, 4)

    assert asyncio.run(sent_and_read()) < 60


# --- from a terminal ---------------------------------------------------------------------------------------------------


def script(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "shared/scripts/test_setup.py"), *arguments]
    machine = {"PATH": os.environ["PATH"], "COLUMNS": "200", **environment}
    return subprocess.run(command, env=machine, capture_output=True, text=True, timeout=200, check=False, cwd="/")


def test_the_same_from_a_terminal_with_a_table_and_an_exit_status(applications: Sandbox, apps: Applications) -> None:
    environment = applications.environment()
    keys = {name: environment[name] for name in ("LITELLM_MASTER_KEY", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY")}
    urls = ("--litellm-url", apps.litellm.url, "--langfuse-url", apps.langfuse_web.url)
    done = script(keys, *urls, "--skip", "streaming")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 of 8 checks ok, skipped: streaming" in done.stdout
    assert "│ trace " in done.stdout
    assert "completion: ok after" in done.stderr, "progress"
    assert [key for key in keys.values() if key in done.stdout + done.stderr] == []

    wrong = script({**keys, "LITELLM_MASTER_KEY": "sk-canary"}, *urls, "--json")
    assert wrong.returncode == 1
    completion = next(result for result in json.loads(wrong.stdout) if result["name"] == "completion")
    assert (completion["word"], "set LITELLM_MASTER_KEY" in completion["detail"]) == ("failed", True)
    assert "canary" not in wrong.stdout + wrong.stderr


def test_a_terminal_without_a_key_or_with_a_wrong_address_is_told_so() -> None:
    done = script({}, "--litellm-url", "http://127.0.0.1:1")
    assert (done.returncode, "LITELLM_MASTER_KEY is not set" in done.stderr) == (2, True)
    done = script({"LITELLM_MASTER_KEY": "sk-x"}, "--litellm-url", "127.0.0.1:1")
    assert (done.returncode, "--litellm-url: Value error, expected http(s)://host" in done.stderr) == (2, True)


def test_an_interrupted_test_takes_its_key_with_it(applications: Sandbox, apps: Applications) -> None:
    """Ctrl-C while the key is in use: what was created is deleted before the program ends."""
    environment = {"PATH": os.environ["PATH"], "LITELLM_MASTER_KEY": apps.litellm.master_key}
    command = [sys.executable, str(ROOT / "shared/scripts/test_setup.py"), "--litellm-url", apps.litellm.url]
    running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: keys_left(applications) > 0 or running.poll() is not None, timeout=60, what="the key")
        running.send_signal(2)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode in (0, 1), said  # 0: it was done before the signal came
    assert "Traceback" not in said
    assert keys_left(applications) == 0
