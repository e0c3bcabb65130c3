"""The flows that speak to LiteLLM, on a real Prefect server: what they publish, and when they fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, SettingsError, SmokeFailed
from blocks.litellm import LiteLLMGateway
from flows.models.flow import ModelsRequest, models
from flows.smoke.flow import SmokeRequest, smoke
from shared.sandbox.stack import Sandbox
from tests.smoke.odd import Odd

STACK = "smoked"
MODEL = "{name: m1, litellm_params: {model: openai/x}, secrets: {api_key: {environment: PROVIDER_KEY}}}"


@pytest.fixture
def odd(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Odd]:
    """A gateway, and the block of it, as a worker finds it."""
    for name, value in {**sandbox.environment(), "STACK_NAME": STACK, "PROVIDER_KEY": "sk-canary-provider"}.items():
        monkeypatch.setenv(name, value)
    server_url = {PREFECT_API_URL: sandbox.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with Odd() as server, temporary_settings(server_url):
        block = LiteLLMGateway(url=server.url, master_key=SecretStr("sk-master"))
        block.save(STACK, overwrite=True, _sync=True)  # type: ignore[call-arg]  # as in blocks/__main__.py
        yield server
        LiteLLMGateway.delete(STACK, _sync=True)  # type: ignore[call-arg]


def test_a_canary_publishes_a_table_and_fails_when_a_check_failed(odd: Odd, sandbox: Sandbox) -> None:
    request = SmokeRequest(skip=["litellm-ui"])
    results = smoke(request)
    assert [result.word for result in results].count("ok") == 3
    shown = json.loads(sandbox.artifact(f"smoke-{STACK}") or "[]")
    assert [(row["Check"], row["Result"]) for row in shown][:3] == [
        ("authentication", "ok"),
        ("completion", "ok"),
        ("streaming", "ok"),
    ]
    odd.answers["POST /v1/chat/completions"] = (500, {"error": {"message": "no provider"}})
    odd.seen.clear()
    with pytest.raises(SmokeFailed, match=r"failed: completion, skipped: .*is the provider's key right"):
        smoke(request)
    assert len(odd.asked("POST /v1/chat/completions")) == 1, "it costs money, so it is not tried again"


def test_models_are_previewed_applied_and_deleted_only_with_an_approval(odd: Odd, sandbox: Sandbox) -> None:
    stored: dict[str, Any] = {}

    def add(model: Any) -> Any:
        shown = {name: value for name, value in model["litellm_params"].items() if name != "api_key"}
        stored[model["model_info"]["id"]] = {**model, "litellm_params": shown}
        return {"model_id": model["model_info"]["id"]}

    odd.answers["GET /model/info"] = (200, lambda _: {"data": list(stored.values())})
    odd.answers["POST /model/new"] = (200, add)
    odd.answers["POST /model/delete"] = (200, lambda body: stored.pop(body["id"]) and {})

    created = ['create m1: api_key: from environment variable PROVIDER_KEY; model: "openai/x"']
    assert models(ModelsRequest(content=f"models: [{MODEL}]", dry_run=True)) == created
    assert stored == {}
    assert models(ModelsRequest(content=f"models: [{MODEL}]")) == created
    assert models(ModelsRequest(content=f"models: [{MODEL}]")) == []
    assert "canary" not in str(sandbox.artifact(f"models-{STACK}"))
    assert odd.asked("POST /model/new")[0]["litellm_params"]["api_key"] == "sk-canary-provider"

    gone = ModelsRequest(content="models: []", prune=True, confirm="another-stack")
    with pytest.raises(ApprovalMissing, match="confirmed for 'another-stack'"):
        models(gone)
    assert len(stored) == 1
    assert models(gone.model_copy(update={"confirm": STACK})) == ["delete m1: no longer in the file"]
    assert stored == {}


def test_what_is_not_there_is_said_before_anything_is_done(odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROVIDER_KEY")
    with pytest.raises(SettingsError, match=r"not set, or empty: environment variable PROVIDER_KEY \(for m1\)"):
        models(ModelsRequest(content=f"models: [{MODEL}]"))
    with pytest.raises(SettingsError, match=r"no-such\.yaml cannot be read"):
        models(ModelsRequest(file="no-such.yaml"))
    monkeypatch.setenv("STACK_NAME", "nobody")
    with pytest.raises(SettingsError, match="block litellm-gateway/nobody does not exist"):
        smoke()
