"""Langfuse's web service: does it answer, does it reach its Postgres, does it take requests."""

from __future__ import annotations

from blocks.langfuse import DATABASE, WEB_HEALTH, WEB_READY
from flows.health.findings import Findings, NoAnswer
from flows.health.observation import Status
from flows.health.reach import web

__all__ = ["MAIN", "check", "version_at"]

MAIN = "health"


async def check(url: str, found: Findings) -> None:
    """Look at langfuse-web."""
    with found.looking(MAIN, Status.DOWN, remedy="see whether it runs, and read its log: it waits for migrations at its start"):
        async with web(url) as langfuse:
            answer = await langfuse.get(WEB_HEALTH, query=DATABASE)
            version = str(answer.json().get("version", ""))
            if answer.status != 200:
                what = "does not reach its Postgres" if answer.status == 503 else f"is not well (HTTP {answer.status})"
                sentence = f"Langfuse web {what}, expected 200; is Postgres up, what does its log say?"
                found.add(MAIN, Status.DOWN, sentence, latency_ms=answer.latency_ms)
                return
            found.add(MAIN, Status.OK, f"Langfuse {version} answers and reaches its Postgres", latency_ms=answer.latency_ms)
            with found.looking("ready", Status.DEGRADED):
                answer = await langfuse.get(WEB_READY)
                if answer.status == 200:
                    found.add("ready", Status.OK, "Langfuse web takes requests")
                else:
                    todo = "expected 200: it is shutting down; if no deploy is under way, restart it"
                    found.add("ready", Status.DEGRADED, f"Langfuse web is not ready (HTTP {answer.status}), {todo}")


async def version_at(url: str) -> str:
    """Ask langfuse-web for its version; empty where it does not say, for another check says why."""
    try:
        async with web(url) as langfuse:
            return str((await langfuse.get(WEB_HEALTH)).json().get("version", ""))
    except NoAnswer:
        return ""
