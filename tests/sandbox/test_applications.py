"""LiteLLM and the whole of the applications: a trace really travels, what ships is in force, the environment leads there."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from blocks.settings import Settings
from railway.stack import SERVICES
from shared.engines.process import EngineError, wait_until
from shared.sandbox.applications import Applications
from shared.sandbox.stack import Sandbox
from tests.sandbox.langfuse import HTTP, call, clickhouse, wait_for
from tests.sandbox.test_stack import OF_APPLICATIONS


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


def test_the_environment_leads_to_the_applications(
    applications: Sandbox, apps: Applications, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in applications.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    required = [name for name, field in Settings.model_fields.items() if field.default in (None, "")]
    unset = [name for name in required if not getattr(settings, name)]
    of_setup = ("litellm_db_password", "langfuse_db_password")  # of a deploy's own program; here the roles are there already
    of_gateway = ("pagerduty_webhook_secret", "slack_signing_secret")  # whose senders tell nothing here
    assert [name for name in unset if name.startswith(OF_APPLICATIONS) and name not in (*of_setup, *of_gateway)] == []
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
