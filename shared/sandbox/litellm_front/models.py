"""`/model/*`: models that are stored in Postgres, sealed with the salt key."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.sandbox.litellm_front.answers import Refused
from shared.sandbox.litellm_front.callers import Callers
from shared.sandbox.litellm_front.configuration import Configuration
from shared.sandbox.litellm_front.keys import object_of
from shared.sandbox.litellm_front.sealing import Unsealable, seal_texts, unseal_texts
from shared.sandbox.litellm_front.store import Store

__all__ = ["Models"]

_NEVER_SHOWN = {"api_key", "client_secret", "vertex_credentials", "aws_access_key_id", "aws_secret_access_key"}
_MASKED = frozenset({"key", "secret", "token", "password", "auth", "credential", "credentials"})
_COSTS = ("input_cost_per_token", "output_cost_per_token")


class Models:
    """The endpoints, and what is stored, for those who ask for a model.

    Args:
        store: of the models. callers: who asks.
    """

    def __init__(self, store: Store, callers: Callers, configuration: Configuration) -> None:
        self._store, self._callers, self._configuration = store, callers, configuration
        self._known: list[dict[str, Any]] = []

    async def new(self, request: Request) -> Response:
        """Store a model."""
        await self._admin(request)
        asked = await object_of(request)
        params, info = dict(asked.get("litellm_params") or {}), dict(asked.get("model_info") or {})
        if not asked.get("model_name") or not params.get("model"):
            raise Refused(422, "model_name and litellm_params.model are required", "bad_request_error")
        info.setdefault("id", str(uuid4()))
        if await self._store.model(str(info["id"])) is not None:
            raise Refused(400, f"Unique constraint failed on the fields: model_id ({info['id']})", "auth_error")
        row = await self._store.add_model(
            {
                "model_id": info["id"],
                "model_name": asked["model_name"],
                "litellm_params": self._sealed(params),
                "model_info": {"db_model": False, **info},
                "created_by": "default_user_id",
                "updated_by": "default_user_id",
            }
        )
        return _row(row)

    async def update(self, request: Request) -> Response:
        """Change a model's name and parameters; what is not given stays, and so does all of `model_info`."""
        await self._admin(request)
        asked = await object_of(request)
        row = await self._stored(str((asked.get("model_info") or {}).get("id") or ""), 400, "model not found")
        changes = self._changes(row, {**asked, "model_info": None})
        return _row(await self._store.change_model(row["model_id"], changes))

    async def patch(self, request: Request) -> Response:
        """Change what is given, `model_info` too."""
        await self._admin(request)
        model_id = str(request.path_params["model_id"])
        row = await self._stored(model_id, 404, f"Model {model_id} not found on proxy.")
        return _row(await self._store.change_model(model_id, self._changes(row, await object_of(request))))

    async def delete(self, request: Request) -> Response:
        """Delete a model."""
        await self._admin(request)
        model_id = str((await object_of(request)).get("id") or "")
        if not await self._store.delete_model(model_id):
            raise Refused(400, f"Model with id={model_id} not found in db", "auth_error")
        return JSONResponse({"message": f"Model: {model_id} deleted successfully"})

    async def entries(self) -> list[dict[str, Any]]:
        """What `/model/info` says about them; those that this salt key does not open are not there."""
        found = []
        for row in await self._loaded():
            if (params := self.opened(row)) is not None:
                shown = {name: _masked(name, value) for name, value in params.items() if name not in _NEVER_SHOWN}
                info = {**row["model_info"], "id": row["model_id"], "db_model": True}
                info |= {name: params[name] for name in _COSTS if name in params}
                found.append({"model_name": row["model_name"], "litellm_params": shown, "model_info": info})
        return found

    async def named(self, model: str) -> dict[str, Any] | None:
        """The parameters of a stored model that clients ask for by this name, and its id; None where there is none."""
        for row in await self._loaded():
            if row["model_name"] == model and (params := self.opened(row)) is not None:
                return {**params, "model_id": row["model_id"]}
        return None

    async def _loaded(self) -> list[dict[str, Any]]:
        """All of them; as they were, while the database is away: LiteLLM has them in memory."""
        try:
            self._known = await self._store.models()
        except psycopg.Error as error:
            sys.stderr.write(f"models are as they were: {type(error).__name__}\n")
        return self._known

    def opened(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """A model's parameters in clear; None where this salt key does not open them."""
        try:
            return unseal_texts(row["litellm_params"], self._configuration.salt_key)
        except Unsealable:
            return None

    def _sealed(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return seal_texts({name: value for name, value in params.items() if value is not None}, self._configuration.salt_key)

    def _changes(self, row: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {"updated_by": "default_user_id"}
        if asked.get("model_name"):
            changes["model_name"] = asked["model_name"]
        if asked.get("litellm_params"):
            changes["litellm_params"] = {**row["litellm_params"], **self._sealed(asked["litellm_params"])}
        if asked.get("model_info"):
            changes["model_info"] = {**row["model_info"], **asked["model_info"], "id": row["model_id"]}
        return changes

    async def _stored(self, model_id: str, status: int, message: str) -> Mapping[str, Any]:
        row = await self._store.model(model_id)
        if row is None:
            raise Refused(status, message, "not_found_error" if status == 404 else "auth_error")
        return row

    async def _admin(self, request: Request) -> None:
        caller = await self._callers.of(request)
        if caller is None:
            raise Refused(401, "Authentication Error, No api key passed in.", "auth_error")
        caller.need_master(request.url.path)
        if not self._configuration.store_models and request.method != "GET":
            raise Refused(500, "Set `STORE_MODEL_IN_DB=True` in your env to enable this feature.", "auth_error")


def _row(row: Mapping[str, Any] | None) -> Response:
    times = ("created_at", "updated_at")
    shown = {name: value.isoformat() if name in times else value for name, value in (row or {}).items()}
    return JSONResponse(shown)


def _masked(name: str, value: Any) -> Any:
    return "****" if isinstance(value, str) and not _MASKED.isdisjoint(re.split(r"[_-]", name.lower())) else value
