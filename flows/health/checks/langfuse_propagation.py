"""Langfuse 4 writes some traces twice: first as 3 did, then a job of its worker copies them to the new tables. Does it go on?

The worker says itself when the job is not started any more, and how old the newest is that was copied; not when the job runs
and copies nothing (langfuse#17452: two days behind, and `stuck: false`). That age also grows where nothing arrives, as at
night, or since LANGFUSE_MIGRATION_V4_WRITE_MODE is events_only: so ClickHouse is asked whether anything waits to be copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.langfuse import PROPAGATION, WORKER_HEALTH
from flows.health.findings import Findings, NoAnswer
from flows.health.observation import Status
from flows.health.reach import Web, web
from flows.health.targets import ClickHouse, Limits

__all__ = ["look_at_propagation"]

_ASPECT = "propagation"
_PARTITION = timedelta(minutes=3)
"""The job copies so much at a time, and remembers where it began."""
_WITHIN_S = 3.0
_LATE = "what reads Langfuse's new tables lacks them, and they are lost after 48 h: restart the Langfuse worker"


async def look_at_propagation(worker: Web, warehouse: ClickHouse | None, found: Findings, limits: Limits) -> None:
    """Ask the worker, and where it is behind, ClickHouse.

    Says nothing of a worker that has no such job, or does not answer the question.

    Args:
        warehouse: None where it is not watched: then the age alone counts.
    """
    with found.looking(_ASPECT, Status.DEGRADED):
        said = (await worker.get(WORKER_HEALTH, query=PROPAGATION)).json().get("eventPropagation")
        if not isinstance(said, Mapping) or not said.get("enabled"):
            return
        if said.get("stuck"):
            seconds = said.get("secondsSinceLastRun")
            what = f"Langfuse worker has not begun to copy traces to the new tables for {seconds} s"
            found.add(_ASPECT, Status.DEGRADED, f"{what}; {_LATE}", value=_number(seconds), unit="seconds")
            return
        behind, limit = _number(said.get("propagationDelaySeconds")) or 0, limits.propagation_seconds
        if behind <= limit:
            sentence = f"Langfuse worker copies traces to the new tables, up to {behind:.0f} s ago"
            found.add(_ASPECT, Status.OK, sentence, value=behind, limit=limit, unit="seconds")
            return
        what = f"Langfuse worker has copied no trace to the new tables that is younger than {behind:.0f} s"
        try:
            late = warehouse is None or await _waits(warehouse, behind, limit)
        except (NoAnswer, TimeoutError):
            found.add(_ASPECT, Status.UNKNOWN, f"{what}, and ClickHouse does not say whether any waits; read its log")
            return
        sentence = f"{what}, expected at most {limit:g} s; {_LATE}" if late else f"{what}, and none waits for it"
        found.add(_ASPECT, Status.DEGRADED if late else Status.OK, sentence, value=behind, limit=limit, unit="seconds")


async def _waits(warehouse: ClickHouse, behind: float, limit: float) -> bool:
    """Find out whether something came after what was copied last, and longer ago than is allowed.

    Raises:
        NoAnswer, TimeoutError: ClickHouse does not say.
    """
    now = datetime.now(UTC)
    since, until = now - timedelta(seconds=behind) + _PARTITION, now - timedelta(seconds=limit)
    if since >= until:
        return False
    headers = {"X-ClickHouse-User": warehouse.user, "X-ClickHouse-Key": warehouse.password.get_secret_value()}
    async with asyncio.timeout(_WITHIN_S), web(warehouse.url, headers) as server:
        for row in await _rows(server, _DATABASES):
            moments = {"since": since.timestamp(), "until": until.timestamp()}
            if await _rows(server, _CAME.format(database=f"`{row['database']}`", **moments)):
                return True
    return False


async def _rows(server: Web, sql: str) -> list[dict[str, Any]]:
    answer = await server.post("/", sql, query=_SETTINGS)
    rows = answer.json().get("data") if answer.status == 200 else None
    if not isinstance(rows, list):
        raise NoAnswer(f"answers {answer.status} with an error")
    return rows


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


_SETTINGS = {"default_format": "JSON", "log_queries": "0", "max_threads": "1", "max_execution_time": "2"}
_DATABASES = """
SELECT DISTINCT database FROM system.columns WHERE table = 'observations' AND name = 'created_at'
AND NOT match(database, '__(restore|drill|kept|undone)_') ORDER BY 1 LIMIT 10
"""
_CAME = """
SELECT 1 AS came FROM {database}.observations
WHERE start_time > toDateTime({since:.0f}) - INTERVAL 1 DAY
AND created_at > toDateTime({since:.0f}) AND created_at < toDateTime({until:.0f}) LIMIT 1
"""
"""An observation's birthday, and a first look by what the table is sorted by."""
