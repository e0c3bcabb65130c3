"""LiteLLM as its clients use it: completions, streams, keys."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from blocks.errors import SmokeFailed
from flows.smoke.models import MAX_TOKENS
from flows.smoke.results import clean
from flows.smoke.targets import SmokeTargets

__all__ = ["COMPLETIONS", "MODELS", "Completion", "Gateway", "Stream", "connect", "gateway", "words_of"]

COMPLETIONS = "/v1/chat/completions"
MODELS = "/v1/models"
_QUESTION = "Count from one to eight, in words."
_NO_DATABASE = ("no connected db", "not connected", "no db connected")
_TO_DO = {
    400: "ask for a model that it serves: SMOKE_MODEL or --model",
    401: "set LITELLM_MASTER_KEY to that of the service",
    403: "set LITELLM_MASTER_KEY to that of the service",
    404: "is LITELLM_URL that of a LiteLLM?",
    408: "the provider is slow or out of reach; look at its status page",
    429: "a limit or a budget is used up, at the provider or in LiteLLM",
}


@dataclass(frozen=True)
class Completion:
    """An answer of a model.

    Attributes:
        id: which LiteLLM's spend log knows it by. text: may be empty where a model thought until its tokens were used up.
        tokens: in total. cost: dollars, by LiteLLM's reckoning; None where it does not say.
    """

    id: str
    text: str
    tokens: int
    cost: float | None


@dataclass(frozen=True)
class Stream:
    """An answer in pieces: how many had text, seconds until the first of them, and all of it."""

    pieces: int
    first: float
    text: str


class Gateway:
    """Asks one LiteLLM; made by `gateway`."""

    def __init__(self, client: httpx.AsyncClient, targets: SmokeTargets) -> None:
        self._client = client
        self._key = targets.litellm_key.get_secret_value()

    async def get(self, path: str, *, key: str | None = "", query: dict[str, str] | None = None) -> httpx.Response:
        """GET with the master key, another one, or (None) without."""
        return await self._client.get(path, params=query, headers=self._login(key))

    async def post(self, path: str, content: dict[str, Any], *, key: str | None = "") -> httpx.Response:
        """POST JSON; `key` as in `get`."""
        return await self._client.post(path, json=content, headers=self._login(key))

    async def complete(self, model: str, *, key: str | None = "", trace: str = "") -> Completion:
        """Ask a model, once: it costs money.

        Args:
            trace: 32 hex digits that the trace in Langfuse shall have.
        Raises:
            SmokeFailed: it did not answer as it should.
        """
        login = self._login(key) | _traced(trace)
        answer = await self._client.post(COMPLETIONS, json=_request(model, trace), headers=login)
        body = self.body(answer, f"POST {COMPLETIONS}")
        try:
            choice = body["choices"][0]
            text = str(choice["message"].get("content") or "")
            found = Completion(str(body["id"]), text, int(body["usage"]["total_tokens"]), _cost(answer))
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise SmokeFailed(
                f"litellm: {model} answers 200, but not with a chat completion; is something else in front of LiteLLM?"
            ) from None
        if not text and choice.get("finish_reason") != "length":
            raise SmokeFailed(f"litellm: {model} answers with no text at all; try it by hand, or name another model")
        return found

    async def stream(self, model: str) -> Stream:
        """Ask a model for an answer in pieces, once.

        Raises:
            SmokeFailed: it did not come in pieces, or not to its end.
        """
        begun, first, texts, ended = time.monotonic(), 0.0, [], False
        request = _request(model, "") | {"stream": True}
        async with self._client.stream("POST", COMPLETIONS, json=request, headers=self._login("")) as answer:
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
                self.body(answer, f"POST {COMPLETIONS} (stream)")
            kind = answer.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise SmokeFailed(f"litellm: {model} streams as {kind or 'nothing'}, expected text/event-stream")
            async for line in answer.aiter_lines():
                if (data := line.removeprefix("data:").strip()) == "[DONE]":
                    ended = True
                elif line.startswith("data:") and (text := self._piece(model, data)):
                    first = first or time.monotonic() - begun
                    texts.append(text)
        if not ended:
            raise SmokeFailed(f"litellm: the stream of {model} broke off without [DONE]; is a proxy in between impatient?")
        if len(texts) < 2:
            raise SmokeFailed(
                f"litellm: the stream of {model} came in {len(texts)} piece(s), expected several; does a proxy or a guardrail "
                "collect it?"
            )
        return Stream(len(texts), first, "".join(texts))

    def body(self, answer: httpx.Response, what: str) -> dict[str, Any]:
        """The JSON object of an answer that is 200.

        Args:
            what: was asked, for the message.
        Raises:
            SmokeFailed: it is another status, or no object.
        """
        if answer.status_code != httpx.codes.OK:
            todo = _TO_DO.get(answer.status_code, "is the provider's key right and the provider up? read LiteLLM's log")
            raise SmokeFailed(f"litellm: {what} answers {answer.status_code} ({self.said(answer)}), expected 200; {todo}")
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise SmokeFailed(f"litellm: {what} answers 200, but not with JSON; is LITELLM_URL that of a LiteLLM?")
        return found

    def said(self, answer: httpx.Response) -> str:
        """The message of an answer that is an error, fit to be shown."""
        return words_of(answer, self._key)

    def has_no_database(self, answer: httpx.Response) -> bool:
        """Whether an error means that LiteLLM runs without Postgres: no keys, no spend (facts: apps.md 1.2)."""
        said = words_of(answer).lower()
        return answer.status_code in (400, 500) and any(word in said for word in _NO_DATABASE)

    def _piece(self, model: str, data: str) -> str:
        """The text of one event."""
        try:
            event = json.loads(data)
            if (problem := event.get("error")) is not None:
                raise SmokeFailed(f"litellm: the stream of {model} ends with an error ({clean(str(problem), [self._key])})")
            return "".join(str(choice.get("delta", {}).get("content") or "") for choice in event.get("choices", []))
        except (ValueError, AttributeError, TypeError):
            raise SmokeFailed(f"litellm: the stream of {model} has an event that is no JSON; is a proxy in between?") from None

    def _login(self, key: str | None) -> dict[str, str]:
        return {} if key is None else {"Authorization": f"Bearer {key or self._key}"}


@asynccontextmanager
async def gateway(targets: SmokeTargets) -> AsyncIterator[Gateway]:
    """Connect to LiteLLM."""
    async with connect(targets.litellm_url, targets.request_seconds) as client:
        yield Gateway(client, targets)


def connect(url: str, timeout: float, auth: httpx.BasicAuth | None = None) -> httpx.AsyncClient:
    """Make a client of one service; redirects are the caller's.

    Args:
        timeout: seconds without a byte; each check has a deadline of its own.
    """
    secure = url.startswith("https://")  # httpx reads all authorities' certificates otherwise too: a tenth of a second
    return httpx.AsyncClient(base_url=url, timeout=timeout, auth=auth, trust_env=False, verify=secure)


def words_of(answer: httpx.Response, *secrets: str) -> str:
    """What an error says, in whichever of the usual shapes, fit to be shown."""
    try:
        found = answer.json()
    except ValueError:
        return clean(answer.text, secrets) or "no words"
    while isinstance(found, dict):
        found = next((found[name] for name in ("error", "message", "detail") if found.get(name)), str(found))
    return clean(str(found), secrets)


def _request(model: str, trace: str) -> dict[str, Any]:
    metadata = {"trace_name": "smoke-test", "trace_user_id": "smoke-test"} | ({"trace_id": trace} if trace else {})
    messages = [{"role": "user", "content": _QUESTION}]
    return {"model": model, "messages": messages, "max_tokens": MAX_TOKENS, "metadata": metadata}


def _traced(trace: str) -> dict[str, str]:
    """The header that gives a trace its id where LiteLLM's callback is `langfuse_otel`, which ignores `metadata.trace_id`."""
    return {"traceparent": f"00-{trace}-{trace[:16]}-01"} if trace else {}


def _cost(answer: httpx.Response) -> float | None:
    try:
        return float(answer.headers["x-litellm-response-cost"])
    except (KeyError, ValueError):
        return None
