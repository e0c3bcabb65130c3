"""The models of a file, in LiteLLM: stored, changed, replaced, deleted, and the second time nothing is done."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from blocks.errors import AccessDenied, ServiceError, SettingsError
from blocks.litellm import LiteLLMGateway
from blocks.litellm_models import LiteLLMModels
from flows.models.apply import carry_out, compare, words
from flows.models.plan import Desired, desired
from flows.models.wanted import read
from shared.engines.process import free_port
from shared.sandbox.litellm_front import LiteLLMFront, unseal
from shared.sandbox.stack import Sandbox

FILE = """
models:
  - name: team-mini
    litellm_params: {model: openai/gpt-4o-mini, rpm: 50, timeout: 30.5, tags: [free, fast]}
    secrets: {api_key: {environment: KEY}}
    model_info: {mode: chat}
  - name: team-mini
    deployment: eu
    litellm_params: {model: azure/mini, api_base: "https://eu.example.com"}
    secrets: {api_key: {environment: KEY}}
"""


@pytest.fixture(scope="module")
def front(applications: Sandbox) -> LiteLLMFront:
    assert applications.applications is not None
    return applications.applications.litellm


@pytest.fixture
def gateway(front: LiteLLMFront) -> LiteLLMGateway:
    return LiteLLMGateway(url=front.url, master_key=SecretStr(front.master_key), timeout=30)


@pytest.fixture
def api(gateway: LiteLLMGateway) -> Iterator[LiteLLMModels]:
    with LiteLLMModels(gateway) as models:
        yield models
        left, _ = compare(models, [], prune=True)
        assert carry_out(models, left) == []


def wish(text: str = FILE, key: str = "sk-canary-1") -> list[Desired]:
    return [desired(model, dict.fromkeys(model.secrets, key), "sk-master") for model in read(text, "test")]


def test_what_the_file_says_is_stored_once_and_then_left_alone(api: LiteLLMModels, applications: Sandbox) -> None:
    actions, remarks = compare(api, wish(), prune=False)
    assert [words(action) for action in actions] == [
        'create team-mini: api_key: from environment variable KEY; model: "openai/gpt-4o-mini"; rpm: 50; '
        'tags: ["free", "fast"]; timeout: 30.5',
        'create team-mini (eu): api_base: "https://eu.example.com"; api_key: from environment variable KEY; '
        'model: "azure/mini"',
    ]
    assert carry_out(api, actions) == []
    assert compare(api, wish(), prune=True) == ([], remarks) == ([], [])
    with psycopg.connect(applications.postgres.url("litellm")) as connection:
        stored = connection.execute('SELECT litellm_params, model_info FROM "LiteLLM_ProxyModelTable"').fetchall()
    salt = applications.keys.litellm_salt_key
    assert {unseal(params["api_key"], salt) for params, info in stored if info.get("managed_by")} == {"sk-canary-1"}
    assert "canary" not in json.dumps(stored)
    assert "canary" not in json.dumps(api.all())


def test_a_changed_key_and_a_changed_limit_are_updates_and_are_enough(api: LiteLLMModels, applications: Sandbox) -> None:
    carry_out(api, compare(api, wish(), prune=False)[0])
    changed = wish(FILE.replace("rpm: 50", "rpm: 60"), key="sk-canary-2")
    actions, _ = compare(api, changed, prune=False)
    assert [(action.kind, action.changes) for action in actions] == [
        ("update", ("api_key: another secret, from environment variable KEY", "rpm: 50 -> 60")),
        ("update", ("api_key: another secret, from environment variable KEY",)),
    ]
    assert carry_out(api, actions) == []
    assert compare(api, changed, prune=True) == ([], [])


def test_a_parameter_that_is_gone_and_a_model_that_is_gone(api: LiteLLMModels) -> None:
    carry_out(api, compare(api, wish(), prune=False)[0])
    fewer = wish(FILE.replace("rpm: 50, ", "").split("  - name: team-mini\n    deployment")[0])
    actions, remarks = compare(api, fewer, prune=False)
    assert [words(action) for action in actions] == ["replace team-mini: rpm: gone"]
    assert remarks == ["team-mini: ours, and no longer in the file; `prune` would delete it"]
    assert carry_out(api, actions) == []
    actions, _ = compare(api, fewer, prune=True)
    assert [words(action) for action in actions] == ["delete team-mini (eu): no longer in the file"]
    assert carry_out(api, actions) == []
    assert compare(api, fewer, prune=True) == ([], [])
    assert [entry["litellm_params"].get("rpm") for entry in api.all() if entry["model_name"] == "team-mini"] == [None]


def test_what_litellm_does_not_do_holds_up_nothing_else(api: LiteLLMModels) -> None:
    actions, _ = compare(api, wish(), prune=False)
    carry_out(api, actions[:1])
    failed = carry_out(api, actions)  # the first of them is there already
    assert len(failed) == 1
    assert failed[0].startswith("create team-mini: litellm: POST /model/new answers 400")
    assert "canary" not in failed[0]
    assert compare(api, wish(), prune=True) == ([], [])


def test_models_of_the_configuration_are_not_ours(api: LiteLLMModels) -> None:
    assert compare(api, [], prune=True) == ([], [])
    shared = wish("models: [{name: mock-gpt, litellm_params: {model: openai/x}}]")
    assert compare(api, shared, prune=True)[1] == [
        "mock-gpt: LiteLLM has one that is not from this file, too; the two share the requests"
    ]


def test_a_gateway_that_stores_nothing_or_is_not_ours_says_what_to_set(front: LiteLLMFront, gateway: LiteLLMGateway) -> None:
    wanted = wish()[0]

    def add(url: str, key: str) -> None:
        with LiteLLMModels(LiteLLMGateway(url=url, master_key=SecretStr(key))) as other:
            other.add(wanted.model_id, "m", wanted.params, wanted.model_info)

    with pytest.raises(SettingsError, match="no database to store models in; set DATABASE_URL"):
        add(front.gateway.url, front.master_key)
    with pytest.raises(AccessDenied, match="refuses the key"):
        add(front.url, "sk-wrong")
    with pytest.raises(ServiceError, match="no answer to POST /model/new"):
        add(f"http://127.0.0.1:{free_port()}", "sk-any")
    with pytest.raises(SettingsError, match="need the master key"):
        LiteLLMModels(LiteLLMGateway(url=front.url))
