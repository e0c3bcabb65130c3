"""The file of models: what is refused, and that a secret in it is never repeated."""

from __future__ import annotations

import pytest

from blocks.errors import SettingsError
from flows.models.wanted import SecretSource, is_secret_name, read

GOOD = """
models:
  - name: gpt-4o-mini
    litellm_params: {model: openai/gpt-4o-mini, rpm: 500, input_cost_per_token: 0.00000015}
    secrets:
      api_key: {environment: OPENAI_API_KEY}
    model_info: {mode: chat}
  - name: gpt-4o-mini
    deployment: eu
    litellm_params: {model: azure/mini, api_base: "https://eu.example.com"}
    secrets: {api_key: {block: azure-key}}
"""


def one(params: str = "{model: openai/m}", more: str = "") -> str:
    return f"models:\n  - name: m\n    litellm_params: {params}\n    {more}\n"


def test_a_file_names_models_and_where_their_secrets_are() -> None:
    first, second = read(GOOD, "models.yaml")
    assert first.litellm_params == {"model": "openai/gpt-4o-mini", "rpm": 500, "input_cost_per_token": 1.5e-07}
    assert first.secrets == {"api_key": SecretSource(environment="OPENAI_API_KEY")}
    assert (second.identity, str(second.secrets["api_key"])) == ("gpt-4o-mini (eu)", "block secret/azure-key")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [", "line 1 is no YAML"),
        ("- a", "models.yaml: the whole"),
        ("models: {}", "models.yaml: models: "),
        (one("{rpm: 5}"), "litellm_params.model is missing"),
        (one(more="litellm_parms: {}"), "models.0.litellm_parms: Extra inputs"),
        (one("{model: m, api_key: canary}"), "litellm_params.api_key is a secret, or looks like one: put it under `secrets`"),
        (one("{model: m, api_key: os.environ/CANARY}"), "put it under `secrets`"),
        (one("{model: m, extra_headers: {Authorization: canary}}"), "litellm_params.extra_headers is a secret"),
        (one("{model: m, organization: sk-proj-canarycanary}"), "litellm_params.organization is a secret"),
        (one("{model: m, api_base: 'https://user:canary@example.com'}"), "litellm_params.api_base is a secret"),
        (one(more="secrets: {api_key: sk-proj-canarycanary}"), "models.0.secrets.api_key"),
        (one(more="secrets: {api_key: {}}"), "name either an environment variable or a block"),
        (one(more="secrets: {api_key: {environment: A, block: b}}"), "name either an environment variable or a block"),
        (one(more="secrets: {model: {environment: A}}"), "model is both in litellm_params and in secrets"),
        (one() + one().replace("models:\n", ""), "m is there twice; tell the two apart with `deployment`"),
    ],
)
def test_a_wrong_file_says_where_it_is_wrong_and_nothing_of_what_it_says(text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(text, "models.yaml")
    assert said in str(caught.value)
    assert "canary" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("api_key", True),
        ("aws_secret_access_key", True),
        ("max_tokens", False),
        ("input_cost_per_token", False),
        ("tpm", False),
    ],
)
def test_a_parameter_is_secret_by_its_name(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret
