"""Passing requests on to the real gateway, with the master key in the place of the virtual one; streams as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from shared.sandbox.litellm_front.callers import Caller
from shared.sandbox.litellm_front.spending import Ledger, Meter

__all__ = ["METERED", "Passing"]

METERED: Mapping[str, str] = {
    "/chat/completions": "acompletion",
    "/completions": "atext_completion",
    "/embeddings": "aembedding",
}
"""Endpoints that cost money, with and without /v1, and LiteLLM's words for them."""

_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_OWN_S = 20.0
_OF_THE_SERVER = {"date", "server"}
_KEYS = {"authorization", "api-key", "x-api-key", "x-litellm-api-key"}


class Passing:
    """Sends what comes to one gateway.

    Args:
        upstream: its base URL. master_key: what it takes for everybody who is known; empty: it asks for none.
    """

    def __init__(self, upstream: str, master_key: str, ledger: Ledger) -> None:
        self._client = httpx.AsyncClient(base_url=upstream, timeout=None, trust_env=False, verify=False)  # noqa: S113, S501 - the caller's deadlines are those that count; plain HTTP
        self._login = {"Authorization": f"Bearer {master_key}"} if master_key else {}
        self._ledger = ledger

    async def close(self) -> None:
        """Let go of its connections."""
        await self._client.aclose()

    async def ask(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """GET something from the gateway in one's own name; None where it does not answer with JSON."""
        try:
            answer = await self._client.get(path, params=query, headers=self._login, timeout=_OWN_S)
            return answer.json() if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None

    async def on(self, request: Request, caller: Caller | None) -> Response:
        """Pass a request on as it is."""
        try:
            answer = await self._client.send(self._request(request, caller, await request.body()), stream=True)
        except httpx.HTTPError as error:
            return _gone(error)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, _headers(answer), background=BackgroundTask(answer.aclose)
        )

    async def metered(self, request: Request, caller: Caller, body: dict[str, Any], meter: Meter) -> Response:
        """Pass on a request that costs money, and count it; the answer names the model as it was asked for."""
        streams = bool(body.get("stream"))
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        if streams:
            body = {**body, "stream_options": {**(body.get("stream_options") or {}), "include_usage": True}}
        passed = self._request(request, caller, json.dumps(body).encode())
        passed.headers["accept-encoding"] = "identity"
        try:
            answer = await self._client.send(passed, stream=True)
            if streams and answer.is_success:
                events = self._events(answer, meter, str(body.get("model")), wants_usage=wants_usage)
                return StreamingResponse(events, answer.status_code, _headers(answer))
            content = await answer.aread()
        except httpx.HTTPError as error:
            return _gone(error)
        await answer.aclose()
        meter.read(content)
        content = _renamed(content, str(body.get("model")), meter.group)
        meter.status = "success" if answer.is_success else "failure"
        self._count(answer, meter)
        return Response(content, answer.status_code, _headers(answer))

    async def _events(self, answer: httpx.Response, meter: Meter, model: str, *, wants_usage: bool) -> AsyncIterator[bytes]:
        """The events of a stream, without the one about usage where the client did not ask for it."""
        rest = b""
        try:
            async for piece in answer.aiter_bytes():
                *events, rest = (rest + piece).split(b"\n\n")
                for event in events:
                    data = event.removeprefix(b"data:").strip()
                    meter.read(data)
                    if wants_usage or not _only_usage(data):
                        yield _renamed(event, model, meter.group) + b"\n\n"
            if rest:
                yield rest
        except httpx.HTTPError:
            meter.status = "failure"  # the client sees the stream break off, as it did
        finally:
            await answer.aclose()
            self._count(answer, meter)

    def _count(self, answer: httpx.Response, meter: Meter) -> None:
        meter.model_id = meter.model_id or answer.headers.get("x-litellm-model-id", "")
        meter.request_id = meter.request_id or answer.headers.get("x-litellm-call-id", "")
        if meter.price is None:
            meter.cost = float(answer.headers.get("x-litellm-response-cost") or 0)
        self._ledger.add(meter)

    def _request(self, request: Request, caller: Caller | None, content: bytes) -> httpx.Request:
        dropped = _OF_THE_CONNECTION | (_KEYS if caller is not None else set())
        headers = [(name, value) for name, value in request.headers.items() if name not in dropped]
        if caller is not None:
            headers.extend(self._login.items())
        url = httpx.URL(path=request.url.path, query=request.url.query.encode())
        return self._client.build_request(request.method, url, headers=headers, content=content)


def _renamed(content: bytes, model: str, group: str) -> bytes:
    """An answer of another model than was asked for, under the name that was."""
    found, wanted = (f'"model":{json.dumps(name)}'.encode() for name in (model, group))
    return content if model == group else content.replace(found, wanted, 1)


def _headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in _OF_THE_CONNECTION | _OF_THE_SERVER}


def _only_usage(data: bytes) -> bool:
    """Whether an event says nothing but what the answer cost; LiteLLM's has a choice, without anything in it."""
    try:
        found = json.loads(data)
    except ValueError:
        return False
    if not isinstance(found, dict) or not found.get("usage"):
        return False
    return not any(choice.get("delta") or choice.get("finish_reason") for choice in found.get("choices") or ())


def _gone(error: httpx.HTTPError) -> Response:
    said = {"message": f"the gateway does not answer ({type(error).__name__})", "type": "internal_server_error"}
    return JSONResponse({"error": {**said, "param": "None", "code": "502"}}, 502)
