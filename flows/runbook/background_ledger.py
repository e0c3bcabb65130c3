"""Langfuse's ledger of background migrations in Postgres: what failed and why, what runs, and having what failed go on.

How Langfuse treats it (source: worker/src/backgroundMigrations): the worker looks into it when it starts, and only then; it
takes the first by name that has neither ended nor failed, unless that one was locked within the last minute, and locks it
again every 15 s. The Retry button of the settings takes `failed_at`, `failed_reason` and `finished_at` back and empties
`state`. What a migration notes in `state` is how far it came: one that was interrupted goes on there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from blocks.errors import GuardRefused
from blocks.postgres import PostgresServer, explained
from flows.runbook.frame import Action
from flows.runbook.prisma_ledger import condition

__all__ = ["IN_UTC", "Migration", "Reason", "Retry", "State", "read_migrations", "reason_of"]

State = Literal["failed", "done", "running", "waiting", "dormant"]
IN_UTC = {"TimeZone": "UTC"}
"""Langfuse writes its times in UTC, without saying so."""


@dataclass(frozen=True)
class Reason:
    """Why a migration failed: a condition with a name, never the text, which may quote rows, addresses or keys.

    Attributes:
        advice: what may help, empty where nothing is known that does.
    """

    words: str
    advice: str = ""


def reason_of(text: str) -> Reason:
    """Reduce what Langfuse wrote down of an error to what it is called."""
    for pattern, words, advice in _KNOWN:
        if found := pattern.search(text):
            return Reason(words or _named(found[1]), advice)
    if not text.strip():
        return Reason("no reason given", _LOOK)
    return Reason("a reason that has no name here", _LOOK)


@dataclass(frozen=True)
class Migration:
    """One row.

    Attributes:
        minutes: since it failed; 0 where it has not. reason: why. batch_size: `args.batchSize`, empty where it is not set.
        chunks, done, broken: that it is split into, as 4.x does, that are done, and that were given up; 0 where it is not.
    """

    id: str
    name: str
    state: State
    minutes: float = 0.0
    reason: Reason = Reason("")
    batch_size: str = ""
    chunks: int = 0
    done: int = 0
    broken: int = 0

    @property
    def words(self) -> str:
        """For people."""
        if self.state != "failed":
            return f"{self.name} ({self.state})"
        parts = f", with {self.done} of {self.chunks} parts done and {self.broken} given up" if self.chunks else ""
        return f"{self.name} failed {self.minutes:.0f} min ago: {self.reason.words}{parts}"


def read_migrations(connection: Connection[TupleRow]) -> list[Migration]:
    """Read all, in the order in which the worker takes them; none where there is no such ledger. Times are read `IN_UTC`."""
    if not connection.execute("SELECT to_regclass('public.background_migrations') IS NOT NULL").fetchall()[0][0]:
        return []
    found = []
    for id_, name, state, minutes, reason, batch_size, chunks, done, broken in connection.execute(_ALL).fetchall():
        why = reason_of(reason) if state == "failed" else Reason("")
        found.append(Migration(id_, name, state, minutes, why, batch_size, chunks, done, broken))
    return found


@dataclass(frozen=True)
class Retry(Action):
    """Takes back that migrations failed, so that the worker's next start takes them up. Nothing is ever marked as done.

    Attributes:
        failed: those that a person sees. anew: what they noted of their progress is forgotten, as by the Retry button.
        batch_size: becomes `args.batchSize`; 0: it stays. secure: takes a backup set first, and returns its id.
    """

    server: PostgresServer
    database: str
    failed: Sequence[Migration]
    anew: bool
    batch_size: int
    secure: Callable[[], str]

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "it changes what all projects have stored, for minutes or hours, and the worker is started again for it"

    @property
    def settles(self) -> bool:
        """As in `Action`: a worker has to start."""
        return False

    def describe(self) -> str:
        """As in `Action`."""
        names = ", ".join(one.name for one in self.failed)
        how = "from its beginning" if self.anew else "where it stands"
        size = f", {self.batch_size} rows at a time" if self.batch_size else ""
        return f"take a backup set of {self.database}, then have {names} run again {how}{size}"

    def needless(self) -> str:
        """As in `Action`."""
        with self._connect() as connection, explained(self.database, "read the background migrations"):
            left = self._left(read_migrations(connection))
        return "" if left else "none of them is failed any more"

    def do(self) -> str:
        """As in `Action`."""
        taken = self.secure()
        with self._connect() as connection, explained(self.database, "retry a background migration"):
            # Prisma's own statements wait for this, as does another run: nothing begins between the look and the change.
            connection.execute("LOCK TABLE public.background_migrations IN SHARE ROW EXCLUSIVE MODE")
            now = read_migrations(connection)
            if running := next((one.name for one in now if one.state == "running"), ""):
                raise GuardRefused(f"postgres {self.database}: {running} runs right now; nothing was changed; wait for its end")
            left = self._left(now)
            if not left:
                raise GuardRefused(f"postgres {self.database}: none of them is failed any more; nothing was changed")
            for one in left:
                connection.execute(_AGAIN, {"id": one.id, "args": Jsonb(self._arguments(one)), "anew": self.anew})
            connection.commit()
        return f"{', '.join(one.name for one in left)} may run again; way back: set {taken}"

    def _left(self, now: Sequence[Migration]) -> list[Migration]:
        """What is still failed of what a person has seen."""
        meant = {one.id for one in self.failed}
        return [one for one in now if one.id in meant and one.state == "failed"]

    def _arguments(self, one: Migration) -> dict[str, object]:
        """What is added to its arguments; parts that were given up are tried again only where it is told to (4.x)."""
        size: dict[str, object] = {"batchSize": self.batch_size} if self.batch_size else {}
        return size | ({"retryFailed": True} if one.broken and not self.anew else {})

    def _connect(self) -> Connection[TupleRow]:
        settings = IN_UTC | {"lock_timeout": "10s", "statement_timeout": "60s"}
        return self.server.connect(self.database, autocommit=False, settings=settings)


def _named(code: str) -> str:
    """An SQLSTATE by its name; a name of ClickHouse's or of the network's as it is."""
    return condition(code) if re.fullmatch(r"[0-9A-Z]{5}", code) and any(c.isdigit() for c in code) else code


_LOOK = "read failed_reason in background_migrations, and the worker's log from when it failed"
_SMALLER = "run this again with batch_size, for example 1000: so many rows at a time instead of thousands"
_MEMORY = "give ClickHouse more memory, or run this again with batch_size, for example 1000"
_KNOWN = (
    (re.compile(r"napi|Invalid string length|Cannot create a string longer"), "a batch is too large for Node.js", _SMALLER),
    (re.compile(r"heap out of memory|allocation failed"), "the worker ran out of memory", _SMALLER),
    (re.compile(r"\((MEMORY_LIMIT_EXCEEDED)\)"), "", _MEMORY),
    (re.compile(r"(?i)memory limit"), "MEMORY_LIMIT_EXCEEDED", _MEMORY),
    (re.compile(r"\((NOT_ENOUGH_SPACE|CANNOT_WRITE_TO_FILE_DESCRIPTOR)\)"), "", "make room on ClickHouse's volume first"),
    (re.compile(r"\((TOO_MANY_PARTS|TIMEOUT_EXCEEDED|SOCKET_TIMEOUT)\)"), "", "ClickHouse was too busy: try again, or later"),
    (re.compile(r"\b(ECONNREFUSED|ECONNRESET|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_AGAIN)\b"), "", "a store was away: try again"),
    (re.compile(r"(?i)timeout error|socket hang up|timed out"), "a timeout", f"try again; where it stays, {_SMALLER}"),
    (re.compile(r"Code: `([0-9A-Z]{5})`"), "", _LOOK),
    (re.compile(r"SQLSTATE\W{1,3}([0-9A-Z]{5})\b"), "", _LOOK),
    (re.compile(r"\b(P[12]\d{3})\b"), "", _LOOK),
    (re.compile(r"\((UNKNOWN_TABLE|UNKNOWN_IDENTIFIER|ACCESS_DENIED|AUTHENTICATION_FAILED|SYNTAX_ERROR)\)"), "", _LOOK),
    (re.compile(r"\d failed chunk"), "parts of it were given up", "read their error in `state`, mend that, run this again"),
    (re.compile(r"^Prerequisite migration"), "one that it needs has not ended well", "that one first; both are run in order"),
    (re.compile(r"^(?i:clickhouse).{1,60}does not exist"), "a table in ClickHouse is missing", "see dirty-migration"),
    (re.compile(r"(?i)must be configured"), "a setting of the worker is missing", _LOOK),
)
"""What an error is told by, what it is called (empty: as it calls itself), what may help; the first one that fits."""

_ALL = """
SELECT m.id, m.name,
  CASE WHEN m.finished_at IS NULL AND m.locked_at > now() - interval '1 minute' THEN 'running'
    WHEN m.failed_at IS NOT NULL THEN 'failed' WHEN m.finished_at IS NOT NULL THEN 'done'
    WHEN m.args->>'envGate' IS NOT NULL THEN 'dormant' ELSE 'waiting' END,
  coalesce(extract(epoch FROM now() - m.failed_at)::float8 / 60, 0), coalesce(m.failed_reason, ''),
  coalesce(m.args->>'batchSize', ''), p.chunks, p.done, p.broken
FROM public.background_migrations m CROSS JOIN LATERAL (
  SELECT count(*)::int AS chunks, (count(*) FILTER (WHERE t->>'status' = 'completed'))::int AS done,
    (count(*) FILTER (WHERE t->>'status' = 'failed'))::int AS broken
  FROM jsonb_array_elements(CASE WHEN jsonb_typeof(m.state->'todos') = 'array' THEN m.state->'todos' ELSE '[]' END) AS t
) AS p ORDER BY m.name
"""
"""A lock that is young counts first, whatever else is written: somebody is at it."""
_AGAIN = """
UPDATE public.background_migrations SET failed_at = NULL, failed_reason = NULL, finished_at = NULL,
  state = CASE WHEN %(anew)s THEN '{}'::jsonb ELSE state END, args = args || %(args)s
WHERE id = %(id)s AND failed_at IS NOT NULL
"""
