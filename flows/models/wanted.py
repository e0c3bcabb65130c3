"""The file: models by name, their parameters, and where their secrets are.

    models:
      - name: gpt-4o-mini
        litellm_params: {model: openai/gpt-4o-mini, rpm: 500}
        secrets:
          api_key: {environment: OPENAI_API_KEY}      # a variable of the worker
      - name: claude-sonnet
        litellm_params: {model: anthropic/claude-sonnet-4-5}
        secrets:
          api_key: {block: anthropic-key}             # a Prefect block of the type Secret

Two entries of one name share its load; `deployment` tells them apart.
"""

from __future__ import annotations

import re
from typing import Any, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from blocks.errors import SettingsError

__all__ = ["SecretSource", "WantedModel", "is_secret_name", "read"]

_SECRET_WORDS = frozenset({"key", "secret", "token", "password", "auth", "authorization", "credential", "credentials"})
_LOOKS_LIKE_A_KEY = re.compile(r"\b(?:sk|pk|rk|gsk|xai|AIza|AKIA|hf)[-_A-Za-z0-9]{12,}")

Value = str | int | float | bool | list[Any] | dict[str, Any]


class SecretSource(BaseModel):
    """Where a secret is: exactly one of these.

    Attributes:
        environment: name of a variable of the worker. block: name of a Prefect block of the type Secret.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    environment: str = Field(default="", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$|^$")
    block: str = Field(default="", pattern=r"^[a-z0-9-]*$")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.environment) == bool(self.block):
            raise ValueError("name either an environment variable or a block")
        return self

    def __str__(self) -> str:
        return f"environment variable {self.environment}" if self.environment else f"block secret/{self.block}"


class WantedModel(BaseModel):
    """One entry.

    Attributes:
        name: that clients ask for. deployment: tells entries of one name apart. litellm_params: as in LiteLLM's configuration,
            without secrets. secrets: more of them, by their names. model_info: what LiteLLM shall say about the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, protected_namespaces=())

    name: str = Field(min_length=1, max_length=200)
    deployment: str = Field(default="", max_length=100)
    litellm_params: dict[str, Value]
    secrets: dict[str, SecretSource] = {}
    model_info: dict[str, Value] = {}

    @property
    def identity(self) -> str:
        """The name, with the deployment where there is one."""
        return f"{self.name} ({self.deployment})" if self.deployment else self.name

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not isinstance(self.litellm_params.get("model"), str):
            raise ValueError("litellm_params.model is missing: provider/model, as LiteLLM writes it")  # noqa: TRY004 - pydantic's way
        for name, value in self.litellm_params.items():
            if is_secret_name(name) or _is_secret(value):
                raise ValueError(f"litellm_params.{name} is a secret, or looks like one: put it under `secrets`")
        if both := sorted(self.litellm_params.keys() & self.secrets.keys()):
            raise ValueError(f"{both[0]} is both in litellm_params and in secrets; leave one")
        return self


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    models: list[WantedModel]


def read(text: str, where: str) -> list[WantedModel]:
    """Read the file.

    Args:
        text: YAML. where: it is from, for messages.
    Raises:
        SettingsError: it is wrong, and where; never what stands there, which may be a secret.
    """
    try:
        wanted = _File.model_validate(yaml.safe_load(text)).models
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise SettingsError(f"models: {where}{line} is no YAML; correct it") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise SettingsError(f"models: {where}: {place}: {first['msg']}; correct the file") from None
    seen: set[str] = set()
    for model in wanted:
        if model.identity in seen:
            raise SettingsError(f"models: {where}: {model.identity} is there twice; tell the two apart with `deployment`")
        seen.add(model.identity)
    return wanted


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name is one that LiteLLM itself hides."""
    words = re.split(r"[_-]", name.lower())
    return "cost" not in words and not _SECRET_WORDS.isdisjoint(words)


def _is_secret(value: object) -> bool:
    """Whether a value is one that should not stand in a file: a key, a URL with a password, also further inside."""
    if isinstance(value, dict):
        return any(is_secret_name(str(name)) or _is_secret(one) for name, one in value.items())
    if isinstance(value, list):
        return any(map(_is_secret, value))
    if not isinstance(value, str):
        return False
    return bool(_LOOKS_LIKE_A_KEY.search(value)) or ("://" in value and bool(urlsplit(value).password))
