"""LiteLLM's models by its API, one call each (facts: apps.md 1.1 to 1.8). What is stored there needs its database.

`/model/update` does not store `model_info`, so changes go through `PATCH /model/{id}/update`, which does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from blocks.errors import AccessDenied, ServiceError, SettingsError
from blocks.litellm import LiteLLMGateway

__all__ = ["LiteLLMModels"]

_NO_DATABASE = ("no db connected", "db not connected", "no connected db", "not connected")
_KEYS = re.compile(r"\b(?:sk|pk|rk|gsk|xai|AIza)[-_A-Za-z0-9*]{6,}")
_TIMEOUT_S = 30.0
"""Storing a model makes LiteLLM load all of them anew."""


class LiteLLMModels:
    """The models of one gateway. A context manager.

    Args:
        gateway: with its master key.
    """

    def __init__(self, gateway: LiteLLMGateway) -> None:
        if gateway.master_key is None:
            raise SettingsError("litellm: its models need the master key; set LITELLM_MASTER_KEY and run `python -m blocks`")
        self._client = gateway.client()
        self._client.timeout = httpx.Timeout(_TIMEOUT_S)

    def __enter__(self) -> LiteLLMModels:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def all(self) -> list[dict[str, Any]]:
        """Every deployment of every model, from the configuration and from the database: LiteLLM hides their secrets.

        Raises:
            ServiceError: it does not answer, or not with models. AccessDenied: the key is refused.
        """
        found = self._ask("GET", "/model/info").get("data")
        if not isinstance(found, list):
            raise ServiceError("litellm: /model/info answers without `data`; is LITELLM_URL that of a LiteLLM?", permanent=True)
        return [entry for entry in found if isinstance(entry, dict)]

    def add(self, model_id: str, name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Store a model; a second one of the same id is refused.

        Raises: as `all`; SettingsError: LiteLLM stores no models.
        """
        content = {"model_name": name, "litellm_params": dict(params), "model_info": {**info, "id": model_id}}
        self._ask("POST", "/model/new", content)

    def change(self, model_id: str, name: str, params: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Change a stored model; parameters that are not given stay.

        Raises: as `add`.
        """
        content = {"model_name": name, "litellm_params": dict(params), "model_info": {**info, "id": model_id}}
        self._ask("PATCH", f"/model/{quote(model_id, safe='')}/update", content)

    def delete(self, model_id: str) -> None:
        """Delete a stored model.

        Raises: as `add`.
        """
        self._ask("POST", "/model/delete", {"id": model_id})

    def _ask(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, json=content)
        except httpx.HTTPError as error:
            raise ServiceError(
                f"litellm: no answer to {method} {path} ({type(error).__name__}); is the service up and LITELLM_URL right?"
            ) from None
        if answer.is_success:
            try:
                found = answer.json()
            except ValueError:
                found = None
            return found if isinstance(found, dict) else {}
        said = _words(answer)
        if answer.status_code in (401, 403):
            raise AccessDenied(f"litellm: {path} refuses the key ({said}); set LITELLM_MASTER_KEY to that of the service")
        if "STORE_MODEL_IN_DB" in said:
            raise SettingsError("litellm: it stores no models; set STORE_MODEL_IN_DB=True on the service")
        if any(word in said.lower() for word in _NO_DATABASE):
            raise SettingsError("litellm: it has no database to store models in; set DATABASE_URL on the service")
        raise ServiceError(
            f"litellm: {method} {path} answers {answer.status_code} ({said}), expected 200; read its log",
            permanent=answer.is_client_error,
        )


def _words(answer: httpx.Response) -> str:
    """What an error says, on one line, without keys: LiteLLM quotes parameters."""
    try:
        found = answer.json()
    except ValueError:
        found = answer.text
    while isinstance(found, dict):
        found = next((found[name] for name in ("error", "message", "detail") if found.get(name)), "")
    return " ".join(_KEYS.sub("***", str(found)).split())[:200]
