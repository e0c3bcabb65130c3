"""Runs whose process has died without a word: a worker that is killed leaves them Running for ever, with their slots.

A run is given up when its own process has given no sign of life for long. Never merely because it runs: another worker of the
pool may be at it, and two live at once whenever the container is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from blocks.errors import StackError
from railway.worker.prefect_http import FlowRun, PrefectHttp

__all__ = ["STARTING", "reap_stale_runs", "silence_of"]

STARTING = timedelta(minutes=10)
"""A run whose process has sent fewer than two signs may be silent for so long: three times Prefect's own default, and more."""
MISSED, SPARE = 3, timedelta(seconds=60)
"""Else so many of its own heartbeats may be missing, and an event may take so long to arrive: 150 s for runs of this container,
which send one every 30 s (see `supervisor.py`). Runs of a worker with other settings are measured by theirs."""

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
        if (silence := silence_of(run, prefect.heartbeats(run.id), now)) is None:
            continue
        cancelled = run.state_type == "CANCELLING"
        message = f"its process has been silent for {silence.total_seconds():.0f} s: the worker that ran it was killed"
        prefect.set_state(run.id, "CANCELLED" if cancelled else "CRASHED", "Cancelled" if cancelled else "Crashed", message)
        _log.warning("flow run %s crashed: %s", run.name, message)
        crashed.append(run.name)
    return crashed


def silence_of(run: FlowRun, beats: Sequence[datetime], now: datetime) -> timedelta | None:
    """Return for how long a run has been silent, None where that is not too long.

    Args:
        beats: its last two heartbeats, newest first; fewer where it has not sent so many.
    """
    limit = STARTING if len(beats) < 2 else MISSED * (beats[0] - beats[1]) + SPARE
    silence = now - max([run.state_at, *beats])
    return silence if silence > limit else None


def reap_or_say(prefect: PrefectHttp, pool: str) -> None:
    """Crash stale runs; a server that does not answer is said in the log, and asked again at the next turn."""
    try:
        reap_stale_runs(prefect, pool)
    except StackError as error:
        _log.warning("stale runs were not looked for: %s", error)
