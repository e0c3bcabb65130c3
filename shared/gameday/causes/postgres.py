"""Postgres has no connections left, or somebody holds a transaction open."""

from __future__ import annotations

import contextlib

import psycopg

from shared.gameday.causes.cause import Cause
from shared.gameday.ground import Ground

__all__ = ["ConnectionsExhausted"]

_MOST = 500
"""No server here has more."""

Connection = psycopg.Connection[tuple[object, ...]]


class ConnectionsExhausted(Cause):
    """A program of LiteLLM's role opens connections until it gets none, and does nothing with them."""

    key, numbers, what = "connections", (11,), "a program takes every connection that Postgres has, and leaves them idle"
    service, aspects = "postgres", ("connections",)
    runbook = "free-connections"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._held: list[Connection] = []

    def cause(self) -> None:
        """As in `Cause`."""
        url = self.ground.variables("litellm")["DATABASE_URL"]
        with contextlib.suppress(psycopg.OperationalError):  # none is left: that is what was wanted
            while len(self._held) < _MOST:
                self._held.append(psycopg.connect(url, application_name="prisma", autocommit=True))

    def undo(self) -> None:
        """As in `Cause`."""
        for one in self._held:
            one.close()
        self._held.clear()

    def left(self) -> str:
        """As in `Cause`."""
        try:
            psycopg.connect(self.ground.variables("litellm")["DATABASE_URL"]).close()
        except psycopg.OperationalError:
            return "LiteLLM gets no connection"
        return ""
