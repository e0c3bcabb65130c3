"""Postgres has no connections left, or a database of an application is gone."""

from __future__ import annotations

import contextlib

import psycopg

from shared.gameday.causes.cause import Cause
from shared.gameday.ground import Ground

__all__ = ["ConnectionsExhausted", "DatabaseDropped"]

_MOST = 500
"""No server here has more."""
_DATABASE = "langfuse"
_TABLES = ("organizations", "projects", "api_keys", "users")
"""What Langfuse makes at its first start, so that every backup set has it, and that nobody changes on a game day."""

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


class DatabaseDropped(Cause):
    """Somebody drops Langfuse's database, and takes it for another one."""

    key, numbers, what = "database-dropped", (), "somebody drops Langfuse's Postgres database, WITH (FORCE)"
    service, aspects = "postgres", ("databases",)
    runbook = "restore-database"

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._before: dict[str, int] = {}

    def cause(self) -> None:
        """As in `Cause`."""
        self._before = self._counted()
        self.ground.postgres("postgres", f"DROP DATABASE {_DATABASE} WITH (FORCE)")

    def undo(self) -> None:
        """As in `Cause`."""
        if not self._is_there():
            self.ground.run("restore/on-demand", {"components": [f"postgres/{_DATABASE}"], "confirm": self.ground.name})

    def left(self) -> str:
        """As in `Cause`."""
        if not self._is_there():
            return "there is no database of Langfuse"
        found = self._counted()
        lost = [
            f"{table}: {found[table]} rows, expected {rows}" for table, rows in self._before.items() if found[table] != rows
        ]
        return f"rows of Langfuse are missing: {lost[0]}" if lost else ""

    def _is_there(self) -> bool:
        return bool(self.ground.postgres("postgres", "SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]))

    def _counted(self) -> dict[str, int]:
        """Rows by table, as Langfuse's own role sees them: a restore that got the owner wrong shows nothing."""
        with psycopg.connect(self.ground.variables("langfuse-web")["DATABASE_URL"], autocommit=True) as connection:
            counted = "SELECT " + ", ".join(f"(SELECT count(*) FROM {table})" for table in _TABLES)
            row = connection.execute(counted.encode()).fetchone()
        return {table: int(rows) for table, rows in zip(_TABLES, row or (), strict=True)}
