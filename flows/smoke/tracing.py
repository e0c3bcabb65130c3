"""Reading the trace of a completion back from Langfuse: 200 and 207 prove nothing (facts: apps.md 0.2, 2.6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from blocks.errors import SmokeFailed
from flows.smoke.gateway import Gateway, words_of

__all__ = ["callback_of", "major_version", "read_back"]

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 2.0
_DETAILS = "/health/readiness/details"
_OTLP_SINCE = (1, 104)
"""The first LiteLLM whose `langfuse` callback speaks OTLP; Langfuse 4 answers older ones 207 and keeps nothing."""


async def major_version(langfuse: httpx.AsyncClient) -> tuple[int, str]:
    """The version of Langfuse, its major number first.

    Raises:
        SmokeFailed: what answers is no Langfuse.
    """
    answer = await langfuse.get("/api/public/health")
    try:
        version = str(answer.json()["version"])
        return int(version.split(".")[0]), version
    except (ValueError, KeyError, TypeError):
        raise SmokeFailed(
            f"langfuse-web: /api/public/health answers {answer.status_code} without a version; is LANGFUSE_WEB_URL right?"
        ) from None


async def read_back(langfuse: httpx.AsyncClient, trace: str, major: int) -> float:
    """Wait until a trace with what the model did can be read; for ever, the caller has a deadline.

    Args:
        langfuse: with the project's keys. trace: its id.
    Returns: seconds.
    Raises:
        SmokeFailed: Langfuse refuses the keys.
    """
    begun, pause = time.monotonic(), _FIRST_PAUSE_S
    looks: list[Callable[[], Awaitable[bool]]] = [lambda: _in_3(langfuse, trace)]
    if major >= 4:
        looks.insert(0, lambda: _in_4(langfuse, trace))  # in dual mode without preview only the old way leads there
    while True:
        for look in looks:
            if await look():
                return time.monotonic() - begun
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_S)


async def callback_of(gateway: Gateway, major: int) -> str:
    """Why a trace may be missing, as far as LiteLLM itself shows it: one sentence, with what to do.

    Args:
        major: of Langfuse.
    """
    try:
        answer = await gateway.get(_DETAILS)
        details: dict[str, Any] = answer.json() if answer.is_success else {}
    except (httpx.HTTPError, ValueError):
        details = {}
    if not isinstance(details, dict) or not details:
        return "is a Langfuse callback configured in LiteLLM, and does langfuse-worker run?"
    named = [str(name).lower() for field in ("success_callbacks", "success_callback") for name in details.get(field) or ()]
    callbacks = [name for name in named if "langfuse" in name]
    if not callbacks:
        return "LiteLLM has no Langfuse callback; see that it loads shared/litellm/config.yaml"
    version = str(details.get("litellm_version", ""))
    if major >= 4 and not any("otel" in name for name in callbacks) and (0,) < _numbers(version) < _OTLP_SINCE:
        return (
            f"the callback `langfuse` of LiteLLM {version} loses every trace in Langfuse 4; use `langfuse_otel`, or LiteLLM "
            "1.104 or newer"
        )
    return "are LiteLLM's LANGFUSE_* variables those of this project, does langfuse-worker run, does its queue shrink?"


async def _in_3(langfuse: httpx.AsyncClient, trace: str) -> bool:
    body = await _ask(langfuse, f"/api/public/traces/{trace}")
    return bool(body.get("observations"))  # rows come table by table: the trace may be there before what the model did


async def _in_4(langfuse: httpx.AsyncClient, trace: str) -> bool:
    since = datetime.now(UTC) - timedelta(hours=1)
    query = {"traceId": trace, "fromStartTime": since.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return bool((await _ask(langfuse, "/api/public/v2/observations", query)).get("data"))


async def _ask(langfuse: httpx.AsyncClient, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
    """The answer; empty where there is nothing yet, or nobody answers just now."""
    try:
        answer = await langfuse.get(path, params=query)
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise SmokeFailed(
                f"langfuse-web: the project's keys are refused ({words_of(answer)}); set LANGFUSE_PUBLIC_KEY and "
                "LANGFUSE_SECRET_KEY to those that LiteLLM has"
            )
        found = answer.json() if answer.is_success else {}
    except (httpx.HTTPError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; empty where it is none."""
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
