"""Virtual keys and spend: what LiteLLM has a database for."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httpx

from blocks.errors import SmokeFailed
from flows.smoke.gateway import MODELS, Completion, Gateway
from flows.smoke.results import Skip

__all__ = ["spend_recorded", "virtual_key"]

_NO_DATABASE = Skip("LiteLLM has no database (DATABASE_URL is not set), so it has no virtual keys and no spend logs")
_PAUSE_S = 1.0
_CLEAN_UP_S = 10.0
_REFUSED = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)


async def virtual_key(gateway: Gateway, model: str) -> str | Skip:
    """Create a key for one model, ask with it, delete it, and see it refused.

    However that ends, the key is deleted; one that could not be expires within ten minutes.

    Raises:
        SmokeFailed: one of the steps went wrong.
    """
    alias = f"smoke-test-{secrets.token_hex(4)}"
    wanted = {"key_alias": alias, "models": [model], "duration": "10m", "max_budget": 0.1}
    try:
        made = await gateway.post("/key/generate", wanted)
        if gateway.has_no_database(made):
            return _NO_DATABASE
        key = _key(gateway.body(made, "POST /key/generate"))
        await gateway.complete(model, key=key)
        gateway.body(await gateway.post("/key/delete", {"keys": [key]}), "POST /key/delete")
    except BaseException as error:
        problem = await _deleted_after_all(gateway, alias)
        if problem and isinstance(error, SmokeFailed):
            raise SmokeFailed(f"{error}; {problem}") from None
        raise
    # another worker or replica may remember it for a moment
    while (answer := await gateway.get(MODELS, key=key)).status_code not in _REFUSED:
        if answer.is_server_error:
            raise SmokeFailed(f"litellm: {MODELS} with a deleted key answers {answer.status_code}, expected 401; read its log")
        await asyncio.sleep(_PAUSE_S)
    return f"{alias} created, used, deleted, refused"


def _key(made: dict[str, Any]) -> str:
    if not (key := str(made.get("key") or "")).startswith("sk-"):
        raise SmokeFailed("litellm: /key/generate answers 200 without a key that begins with sk-; read LiteLLM's log")
    return key


async def _deleted_after_all(gateway: Gateway, alias: str) -> str:
    """Delete a key that something went wrong with; by alias, for its own name may not have arrived.

    Returns: what to do where that failed; empty where it is gone or never was.
    """
    try:
        async with asyncio.timeout(_CLEAN_UP_S):
            answer = await gateway.post("/key/delete", {"key_aliases": [alias]})
    except (httpx.HTTPError, TimeoutError):
        answer = None
    if answer is not None and (answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR or gateway.has_no_database(answer)):
        return ""
    return f"the key {alias} may be left: it expires in ten minutes, or delete it in LiteLLM"


async def spend_recorded(gateway: Gateway, completion: Completion) -> str | Skip:
    """Wait until the spend log has the completion; for ever, the caller has a deadline.

    Raises:
        SmokeFailed: it cannot be read, or has no cost where LiteLLM had reckoned one.
    """
    while True:
        answer = await gateway.get("/spend/logs", query={"request_id": completion.id})
        if gateway.has_no_database(answer):
            return _NO_DATABASE
        if answer.status_code != httpx.codes.OK:
            gateway.body(answer, "GET /spend/logs")
        rows = _rows(answer)
        if rows:
            break
        await asyncio.sleep(_PAUSE_S)
    spend = rows[0].get("spend") or 0
    if completion.cost and not spend:
        raise SmokeFailed("litellm: the completion cost money and is recorded as free; compare the model's prices in LiteLLM")
    return f"${spend:.6f} for {rows[0].get('total_tokens')} tokens"


def _rows(answer: httpx.Response) -> list[dict[str, Any]]:
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise SmokeFailed("litellm: /spend/logs answers 200, but not with a list of rows; is LITELLM_URL that of a LiteLLM?")
    return found
