"""Runs whose process has died without a word: a worker that is killed leaves them Running for ever, with their slots.

A run is given up when its own process has given no sign of life for long. Never merely because it runs: another worker of the
pool may be at it, and two live at once whenever the container is replaced. Nor because nobody could hear it: while the server
is away no sign arrives, so silence counts only once the server has answered for as long, and when two looks agree on it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from blocks.errors import ServiceError, StackError
from railway.worker.prefect_http import FlowRun, PrefectHttp

__all__ = ["STARTING", "Reaper", "Silence", "silence_of"]

STARTING = timedelta(minutes=10)
"""A run whose process has sent fewer than two signs may be silent for so long: three times Prefect's own default, and more."""
MISSED, SPARE = 3, timedelta(seconds=60)
"""Else so many of its own heartbeats may be missing, and an event may take so long to arrive: 150 s for runs of this container,
which send one every 30 s (see `supervisor.py`). Runs of a worker with other settings are measured by theirs."""
LEAST = timedelta(seconds=30)
"""Between two heartbeats: the least that Prefect allows. Signs that are closer together were sent late, or again."""
BLINK = timedelta(minutes=2)
"""Between two looks that are further apart nobody knows whether the server was there, nor what the clock did."""

_log = logging.getLogger("railway.worker")


class Silence:
    """Whose silence the last looks agree on. Decides alone: asks nothing, and the time is told to it."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._looked: datetime | None = None
        self._before: dict[str, datetime] = {}
        self._silent: dict[str, datetime] = {}

    def heard(self, now: datetime) -> None:
        """A look begins, and the server answers."""
        if self._since is None or self._looked is None or not timedelta() <= now - self._looked <= BLINK:
            self.lost()
            self._since = now
        self._looked = now
        self._before, self._silent = self._silent, {}

    def lost(self) -> None:
        """The server did not answer: what was seen before says nothing any more."""
        self._since = None
        self._before, self._silent = {}, {}

    def of(self, run: FlowRun, beats: Sequence[datetime], now: datetime) -> timedelta | None:
        """Return for how long a run has been silent, None where it is not to be given up in this look.

        Args:
            beats: as in `silence_of`. now: as told to `heard`.
        """
        if (silence := silence_of(run, beats, now)) is None:
            return None
        self._silent[run.id] = now - silence
        if self._before.get(run.id) != now - silence or self._since is None or now - self._since < _limit(beats):
            return None
        return silence


class Reaper:
    """Looks for the stale runs of a pool, again and again, and crashes them.

    Args:
        prefect: the server. pool: name.
    """

    def __init__(self, prefect: PrefectHttp, pool: str) -> None:
        self._prefect, self._pool = prefect, pool
        self._silence = Silence()

    def look(self, now: datetime | None = None) -> list[str]:
        """Look once, and crash the runs whose process has been silent for too long.

        Returns: the names of those that were.
        Raises:
            ServiceError: the server did not answer; some may have been crashed.
        """
        now = now or datetime.now(UTC)
        crashed: list[str] = []
        try:
            runs = self._prefect.runs(self._pool, ("RUNNING", "PENDING", "CANCELLING"))
            self._silence.heard(now)
            silent = [(run, self._silence.of(run, self._prefect.heartbeats(run.id), now)) for run in runs]
        except ServiceError:
            self._silence.lost()
            raise
        for run, silence in silent:
            if silence is None:
                continue
            cancelled = run.state_type == "CANCELLING"
            message = f"its process has been silent for {silence.total_seconds():.0f} s: the worker that ran it was killed"
            self._prefect.set_state(
                run.id, "CANCELLED" if cancelled else "CRASHED", "Cancelled" if cancelled else "Crashed", message
            )
            _log.warning("flow run %s crashed: %s", run.name, message)
            crashed.append(run.name)
        return crashed

    def look_or_say(self) -> list[str]:
        """Look once; a server that does not answer is said in the log, and asked again at the next turn.

        Returns: as `look`.
        """
        try:
            return self.look()
        except StackError as error:
            _log.warning("stale runs were not looked for: %s", error)
            return []


def silence_of(run: FlowRun, beats: Sequence[datetime], now: datetime) -> timedelta | None:
    """Return for how long a run has been silent, None where that is not too long.

    Args:
        beats: its last two heartbeats, newest first; fewer where it has not sent so many.
    """
    silence = now - max([run.state_at, *beats])
    return silence if silence > _limit(beats) else None


def _limit(beats: Sequence[datetime]) -> timedelta:
    return STARTING if len(beats) < 2 else MISSED * max(beats[0] - beats[1], LEAST) + SPARE
