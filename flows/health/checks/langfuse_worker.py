"""Langfuse's worker: does it live, does it still take jobs and copy traces, is it of the same version as the web service."""

from __future__ import annotations

import asyncio

from blocks.langfuse import STUCK, WORKER_HEALTH, WORKER_READY
from flows.health.checks.langfuse_propagation import look_at_propagation
from flows.health.checks.langfuse_web import version_at
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.reach import Web, web
from flows.health.targets import ClickHouse, Limits

__all__ = ["MAIN", "check"]

MAIN = "health"


async def check(url: str, web_url: str, warehouse: ClickHouse | None, found: Findings, limits: Limits) -> None:
    """Look at langfuse-worker.

    Args:
        web_url: of langfuse-web, for its version; may be empty. warehouse: where the traces are; may be None.
    """
    with found.looking(MAIN, Status.DOWN):
        async with web(url) as worker:
            answer = await worker.get(WORKER_HEALTH)
            if answer.status != 200:
                todo = "expected 200; are Postgres and Redis up, what does its log say?"
                sentence = f"Langfuse worker is not well (HTTP {answer.status}), {todo}"
                found.add(MAIN, Status.DOWN, sentence, latency_ms=answer.latency_ms)
                return
            found.add(MAIN, Status.OK, "Langfuse worker reaches Postgres and Redis", latency_ms=answer.latency_ms)
            own = str(answer.json().get("version", ""))
            await asyncio.gather(_ready(worker, found), _versions(worker, web_url, own, found))
            if found.status("stuck-probe") is not None:  # else it is a 3, which would answer as if it had not been asked
                await look_at_propagation(worker, warehouse, found, limits)


async def _ready(worker: Web, found: Findings) -> None:
    with found.looking("ready", Status.DEGRADED):
        answer = await worker.get(WORKER_READY)
        if answer.status == 200:
            found.add("ready", Status.OK, "Langfuse worker takes jobs")
        else:
            todo = "expected 200: it is shutting down; if no deploy is under way, restart it"
            found.add("ready", Status.DEGRADED, f"Langfuse worker is not ready (HTTP {answer.status}), {todo}")


async def _versions(worker: Web, web_url: str, own: str, found: Findings) -> None:
    """Compare the versions, and ask the probe that 4.0 brought whether jobs are taken at all.

    Workers that do not say their version (all up to 4.16) cannot be compared, and nothing is said then.
    """
    other = await version_at(web_url) if web_url else ""
    if own and other:
        same = own == other
        todo = "both should be the same: deploy the web service first, then the worker"
        sentence = f"Langfuse worker and web are both {own}" if same else f"Langfuse worker is {own}, web is {other}; {todo}"
        found.add("version-skew", Status.OK if same else Status.DEGRADED, sentence)
    if (own or other or "4").partition(".")[0] == "3":
        return  # it would answer as if it had not been asked
    with found.looking("stuck-probe", Status.DEGRADED):
        answer = await worker.get(WORKER_HEALTH, query=STUCK)
        if answer.status == 200:
            found.add("stuck-probe", Status.OK, "Langfuse worker has taken jobs lately, or there were none")
        elif answer.status == 503:
            todo = "restart it, then see that Redis' maxmemory-policy is noeviction"
            found.add("stuck-probe", Status.DOWN, f"Langfuse worker says itself that it takes no more jobs; {todo}")
