"""`/key/*`: virtual keys."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.sandbox.litellm_front.answers import Refused
from shared.sandbox.litellm_front.callers import Callers, hashed
from shared.sandbox.litellm_front.store import Store

__all__ = ["Keys", "object_of"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "mo": 30 * 86400}


class Keys:
    """The endpoints; for the master key, `info` for a key itself, too."""

    def __init__(self, store: Store, callers: Callers) -> None:
        self._store, self._callers = store, callers

    async def generate(self, request: Request) -> Response:
        """Make a key; only this answer ever shows it."""
        await self._admin(request)
        asked = await object_of(request)
        alias, now = asked.get("key_alias"), datetime.now(UTC).replace(tzinfo=None)
        if alias and await self._store.keys(str(alias)):
            raise Refused(400, f"Key with alias '{alias}' already exists", "bad_request_error", "key_alias")
        key = str(asked.get("key") or f"sk-{secrets.token_urlsafe(16)}")
        if not key.startswith("sk-"):
            raise Refused(400, "a key must begin with 'sk-'", "bad_request_error", "key")
        row = await self._store.add_key(
            {
                "token": hashed(key),
                "key_name": f"sk-...{key[-4:]}",
                "key_alias": alias,
                "models": [str(name) for name in asked.get("models") or ()],
                "user_id": asked.get("user_id"),
                "team_id": asked.get("team_id"),
                "metadata": dict(asked.get("metadata") or {}),
                "max_budget": asked.get("max_budget"),
                "expires": _end(now, asked.get("duration")),
                "created_at": now,
                "updated_at": now,
            }
        )
        return _json({**_shown(row), "key": key, "token_id": row["token"]})

    async def delete(self, request: Request) -> Response:
        """Delete keys, by themselves, their hashes or their aliases."""
        await self._admin(request)
        asked = await object_of(request)
        keys, aliases = [str(key) for key in asked.get("keys") or ()], [str(one) for one in asked.get("key_aliases") or ()]
        if not keys and not aliases:
            raise Refused(422, "At least one of 'keys' or 'key_aliases' must be provided.", "bad_request_error")
        if not await self._store.delete_keys([hashed(key) for key in keys], aliases):
            raise Refused(404, "No keys found", "internal_server_error", "keys")
        return _json({"deleted_keys": keys or aliases})

    async def info(self, request: Request) -> Response:
        """One key; without a parameter the one that asks."""
        caller = await self._callers.of(request)
        if caller is None:
            raise Refused(401, "Authentication Error, No api key passed in.", "auth_error")
        token = hashed(request.query_params.get("key", "")) or caller.token
        if token != caller.token:
            caller.need_master(request.url.path)
        row = await self._store.key(token)
        if row is None:
            raise Refused(404, "Key not found in database", "not_found_error", "key")
        return _json({"key": request.query_params.get("key") or token, "info": _shown(row)})

    async def list(self, request: Request) -> Response:
        """The hashes of all keys, or, with `return_full_object`, what is known of them."""
        await self._admin(request)
        rows = await self._store.keys(request.query_params.get("key_alias"))
        full = request.query_params.get("return_full_object", "").lower() == "true"
        keys = [{**_shown(row), "token": row["token"]} if full else row["token"] for row in rows]
        return _json({"keys": keys, "total_count": len(keys), "current_page": 1, "total_pages": 1})

    async def _admin(self, request: Request) -> None:
        caller = await self._callers.of(request)
        if caller is None:
            raise Refused(401, "Authentication Error, No api key passed in.", "auth_error")
        caller.need_master(request.url.path)


async def object_of(request: Request) -> dict[str, Any]:
    """The JSON object that a request carries.

    Raises:
        Refused: 422: it carries something else.
    """
    try:
        found = await request.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(422, "a JSON object is expected", "bad_request_error")
    return found


def _end(now: datetime, duration: object) -> datetime | None:
    """When a key of this duration (`30s`, `10m`, `2h`, `7d`, `1mo`) expires."""
    if duration is None:
        return None
    found = re.fullmatch(r"(\d+)(mo|[smhdw])", str(duration))
    if found is None:
        raise Refused(400, f"duration {duration!r}: expected a number and s, m, h, d, w or mo", "bad_request_error", "duration")
    return now + timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "token"}


def _json(content: dict[str, Any]) -> Response:
    return JSONResponse({name: _plain(value) for name, value in content.items()})


def _plain(value: Any) -> Any:
    """Times as text, also inside."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC).isoformat()
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
