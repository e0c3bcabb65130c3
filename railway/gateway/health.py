"""`/health`: the stack's state for programs, in the shape that the predecessor's monitor had."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flows.health.verdicts import Word
from railway.gateway.known import Known
from railway.gateway.words import ago, scrub

__all__ = ["answer"]

_STATUS = {
    Word.UP: "healthy",
    Word.DEGRADED: "degraded",
    Word.DOWN: "unhealthy",
    Word.UNKNOWN: "unknown",
    Word.MAINTENANCE: "maintenance",
}


def answer(known: Known, now: datetime, *, in_full: bool) -> tuple[int, dict[str, Any]]:
    """Say how the stack is.

    Args:
        in_full: with what is wrong; otherwise only with the words.
    Returns: 503 where a service is down, or where nothing is known that is fresh: no sweep, or none of its checks, could tell;
        else 200. And the document.
    """
    published = known.published
    document: dict[str, Any] = {"status": "unknown", "timestamp": now.isoformat(), "services": {}}
    if published is None:
        document["detail"] = (
            "what sweeps reported cannot be read; is prefect-server up?"
            if known.source_failed
            else "no sweep has reported yet; health/sweep runs on prefect-worker"
        )
        return 503, document
    document["last_sweep"] = published.at.isoformat()
    document["open_incidents"] = len(published.open)
    for verdict in published.verdicts:
        wrong = verdict.word not in (Word.UP, Word.MAINTENANCE)
        document["services"][verdict.service] = {
            "status": _STATUS[verdict.word],
            "verdict": verdict.word.value,
            "response_time_ms": verdict.latency_ms,
            "last_check": published.at.isoformat(),
            "error": (scrub(verdict.sentence) or verdict.word.value) if in_full and wrong else None,
            "consecutive_failures": verdict.consecutive_failures,
        }
    if published.is_stale(now):
        document["detail"] = (
            f"the last sweep reported {ago(published.at, now)}, expected every {published.interval} s; "
            "are prefect-worker and prefect-server up?"
        )
        return 503, document
    words = {verdict.word for verdict in published.verdicts}
    if Word.DOWN in words:
        document["status"] = "unhealthy"
        return 503, document
    if words <= {Word.UNKNOWN, Word.MAINTENANCE} and words != {Word.MAINTENANCE}:
        document["detail"] = (
            "no service could be checked; see the run of the last sweep"
            if words
            else "no service is watched; set the services' URLs on prefect-worker"
        )
        return 503, document
    document["status"] = "degraded" if Word.DEGRADED in words else "healthy"
    return 200, document
