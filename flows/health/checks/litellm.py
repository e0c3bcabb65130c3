"""LiteLLM: does it live, is it ready, does it keep strangers out, is it a version to run, are its requests traced.

Readiness is judged by the HTTP code alone, since the words in its body changed (facts: apps.md 1.3). `/health` is never asked:
it makes a paid completion with every model. Nor is `/health/services?service=langfuse`: each call sends a trace of its own.
Strangers are tried each time at a path that the same guard keeps, and at `/v1/models` where the target says so.
"""

from __future__ import annotations

import asyncio
from typing import Any

from blocks.litellm import CACHE, DENIED_VERSIONS, DETAILS, LIVENESS, MODELS, READINESS, bearer
from flows.health.checks.langfuse_web import version_at
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.reach import Web, web
from flows.health.targets import LiteLLM

__all__ = ["MAIN", "check"]

MAIN = "liveness"

_OTLP_SINCE = (1, 104)
"""The first release whose `langfuse` callback speaks OTLP; Langfuse 4 answers older ones 207 and keeps nothing."""


async def check(target: LiteLLM, found: Findings) -> None:
    """Look at the gateway."""
    with found.looking(MAIN, Status.DOWN):
        async with web(target.url) as gateway:
            answer = await gateway.get(LIVENESS)
            if answer.status != 200:
                todo = "expected 200; read its log, restart it"
                sentence = f"LiteLLM answers {answer.status} when asked whether it lives; {todo}"
                found.add(MAIN, Status.DOWN, sentence, latency_ms=answer.latency_ms)
                return
            found.add(MAIN, Status.OK, "LiteLLM lives", latency_ms=answer.latency_ms)
            await asyncio.gather(
                _readiness(gateway, found), _strangers(gateway, target, found), _inside(gateway, target, found)
            )


async def _readiness(gateway: Web, found: Findings) -> None:
    with found.looking("readiness", Status.DOWN, remedy="its database may hang: look at Postgres and its connections"):
        answer = await gateway.get(READINESS)
        if answer.status == 200:
            found.add("readiness", Status.OK, "LiteLLM is ready", latency_ms=answer.latency_ms)
        else:
            todo = "expected 200; is its Postgres reachable, has it connections left, what does its log say"
            sentence = f"LiteLLM is not ready (HTTP {answer.status}), {todo}"
            found.add("readiness", Status.DOWN, sentence, latency_ms=answer.latency_ms)


async def _strangers(gateway: Web, target: LiteLLM, found: Findings) -> None:
    with found.looking("authentication", Status.DEGRADED):
        answer = await gateway.get(DETAILS)
        # before 1.85 nothing else asks for a key
        if answer.status == 404 or (answer.status == 401 and target.models):
            answer = await gateway.get(MODELS)
        if answer.status == 401:
            found.add("authentication", Status.OK, "LiteLLM refuses requests without a key")
        elif 200 <= answer.status < 300:
            todo = "set LITELLM_MASTER_KEY on the service at once, then change every provider key"
            sentence = f"LiteLLM is unauthenticated: it serves requests without a key, expected 401; {todo}"
            found.add("authentication", Status.DOWN, sentence)
        else:
            todo = "expected 401; read its log"
            found.add("authentication", Status.DEGRADED, f"LiteLLM answers {answer.status} to a request without a key, {todo}")


async def _inside(gateway: Web, target: LiteLLM, found: Findings) -> None:
    """What only the key shows: version, cache, callbacks."""
    if target.key is None:
        return
    key = bearer(target.key)
    details: dict[str, Any] = {}
    with found.looking("version", Status.DEGRADED):
        answer = await gateway.get(DETAILS, headers=key)
        if answer.status in (400, 401, 403):
            todo = "set LITELLM_MASTER_KEY of the worker to that of the service"
            found.add(
                "version", Status.UNKNOWN, f"LiteLLM refuses the master key (HTTP {answer.status}), so nobody looked; {todo}"
            )
            return
        if answer.status == 404:  # before 1.85 all of it stood in the answer about readiness
            answer = await gateway.get(READINESS, headers=key)
        if not (details := answer.json()):
            what = f"LiteLLM does not describe itself (HTTP {answer.status}), so nobody knows its version, cache and callbacks"
            found.add("version", Status.UNKNOWN, f"{what}; read its log")
            return
        _version(str(details.get("litellm_version", "")), found)
    if not details:
        return
    if details.get("cache"):
        with found.looking("cache", Status.DEGRADED, remedy="is Redis up?"):
            answer = await gateway.get(CACHE, headers=key)
            if answer.status == 200:
                found.add("cache", Status.OK, "LiteLLM reaches its cache", latency_ms=answer.latency_ms)
            else:
                todo = "requests are served without it, limits of several replicas are not shared; is Redis up?"
                found.add(
                    "cache", Status.DEGRADED, f"LiteLLM cannot reach its cache (HTTP {answer.status}), expected 200; {todo}"
                )
    if target.traced:
        with found.looking("langfuse-callback", Status.UNKNOWN):
            await _traced(target, details, found)


def _version(version: str, found: Findings) -> None:
    if not version:
        found.add("version", Status.UNKNOWN, "LiteLLM does not say its version; compare the image's tag with the list by hand")
    elif version in DENIED_VERSIONS:
        todo = "deploy another version by its digest, then change every provider key"
        found.add("version", Status.DOWN, f"LiteLLM {version} is a compromised release; {todo}")
    else:
        found.add("version", Status.OK, f"LiteLLM {version} is not among the compromised releases")


async def _traced(target: LiteLLM, details: dict[str, Any], found: Findings) -> None:
    """Are requests traced at all, and by something that this Langfuse understands."""
    aspect = "langfuse-callback"
    named = [str(name).lower() for field in ("success_callbacks", "success_callback") for name in details.get(field) or ()]
    callbacks = [name for name in named if "langfuse" in name]
    if not callbacks:
        todo = "add langfuse_otel to litellm_settings.callbacks and see that the configuration is loaded"
        found.add(aspect, Status.DEGRADED, f"LiteLLM has no Langfuse callback, so no request is traced; {todo}")
        return
    version = str(details.get("litellm_version", ""))
    if not any("otel" in name for name in callbacks) and _numbers(version) and _numbers(version) < _OTLP_SINCE:
        langfuse = await version_at(target.langfuse_url)
        if _numbers(langfuse) >= (4,):
            todo = "upgrade LiteLLM to 1.104 or newer, or use the callback langfuse_otel"
            sentence = f"LiteLLM {version} traces in a way that Langfuse {langfuse} drops without a word; {todo}"
            found.add(aspect, Status.DEGRADED, sentence)
            return
    found.add(aspect, Status.OK, "LiteLLM traces its requests to Langfuse")


def _numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; empty where it is none."""
    parts = version.split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()
