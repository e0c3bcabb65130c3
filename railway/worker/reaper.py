"""Runs whose process has died without a word: a worker that is killed leaves them Running for ever, with their slots.

A run is given up when its own process has given no sign of life for long. Never merely because it runs: another worker of the
pool may be at it, and two live at once whenever the container is replaced.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from blocks.errors import StackError
from railway.worker.prefect_http import FlowRun, PrefectHttp

__all__ = ["SILENCE", "STARTING", "reap_stale_runs", "silence_of"]

SILENCE = timedelta(seconds=150)
"""Five heartbeats of 30 s, which is how often flow runs of this container send one (see `supervisor.py`)."""
STARTING = timedelta(minutes=10)
"""A run whose process never sent any sign may take so long from one state to the next."""

_log = logging.getLogger("railway.worker")


def reap_stale_runs(prefect: PrefectHttp, pool: str, now: datetime | None = None) -> list[str]:
    """Crash the runs of a pool whose process has been silent for too long.

    Returns: the names of those that were.
    Raises:
        ServiceError: the server did not answer; some may have been crashed.
    """
    now = now or datetime.now(UTC)
    crashed: list[str] = []
    for run in prefect.runs(pool, ("RUNNING", "PENDING", "CANCELLING")):
        last = prefect.last_heartbeat(run.id)
        if (silence := silence_of(run, last, now)) is None:
            continue
        cancelled = run.state_type == "CANCELLING"
        message = f"its process has been silent for {silence.total_seconds():.0f} s: the worker that ran it was killed"
        prefect.set_state(run.id, "CANCELLED" if cancelled else "CRASHED", "Cancelled" if cancelled else "Crashed", message)
        _log.warning("flow run %s crashed: %s", run.name, message)
        crashed.append(run.name)
    return crashed


def silence_of(run: FlowRun, last: datetime | None, now: datetime) -> timedelta | None:
    """Return for how long a run has been silent, None where that is not too long.

    Args:
        last: its last heartbeat, None where it never sent one.
    """
    silence = now - max(last or run.state_at, run.state_at)
    return silence if silence > (STARTING if last is None else SILENCE) else None


def reap_or_say(prefect: PrefectHttp, pool: str) -> None:
    """Crash stale runs; a server that does not answer is said in the log, and asked again at the next turn."""
    try:
        reap_stale_runs(prefect, pool)
    except StackError as error:
        _log.warning("stale runs were not looked for: %s", error)
