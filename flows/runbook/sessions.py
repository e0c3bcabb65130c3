"""Sessions of Postgres: who holds connections and transactions, which of them may be ended, and ending exactly those.

Never a superuser's or a replication role's, nobody's but client backends, and never what this project's own flows are doing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from psycopg import Connection
from psycopg.rows import TupleRow

__all__ = ["Session", "cancel", "end", "idle", "in_transaction", "read_sessions", "summary"]


@dataclass(frozen=True)
class Session:
    """One session.

    Attributes:
        since: when its state last changed, as text of the server; a session that has done anything since is left alone.
        quiet: seconds since then. transaction: seconds since its transaction began, None outside one.
    """

    pid: int
    role: str
    database: str
    application: str
    state: str
    since: str
    quiet: float
    transaction: float | None = None

    @property
    def words(self) -> str:
        """For people: who it is, without what it asked."""
        name = f", {self.application}" if self.application else ""
        return f"{self.role}@{self.database}{name}: {self.state}"


def read_sessions(connection: Connection[TupleRow], roles: Collection[str]) -> list[Session]:
    """Read the sessions that may be ended.

    Args:
        roles: only theirs; empty: of every role that is no superuser and does not replicate.
    """
    rows = connection.execute(_SESSIONS, [list(roles), list(roles)]).fetchall()
    return [Session(*row) for row in rows]


def idle(sessions: Sequence[Session], seconds: float, most: int) -> tuple[Session, ...]:
    """Choose sessions that do nothing and have done nothing for so long, the longest first, at most so many."""
    found = [one for one in sessions if one.state == "idle" and one.quiet >= seconds]
    return tuple(sorted(found, key=lambda one: -one.quiet)[: max(most, 0)])


def in_transaction(sessions: Sequence[Session], seconds: float, *, working: bool) -> tuple[Session, ...]:
    """Choose sessions whose transaction is so old, the oldest first.

    Args:
        working: those in which a statement runs; otherwise those whose program has said nothing for as long.
    """
    found = [
        one
        for one in sessions
        if (one.transaction or 0) >= seconds
        and ((one.state == "active") if working else (one.state.startswith("idle in transaction") and one.quiet >= seconds))
    ]
    return tuple(sorted(found, key=lambda one: -(one.transaction or 0)))


def end(connection: Connection[TupleRow], sessions: Sequence[Session]) -> int:
    """End sessions that are still as they were when they were read; returns how many."""
    return _apply(connection, sessions, "pg_catalog.pg_terminate_backend(a.pid, 5000)")


def cancel(connection: Connection[TupleRow], sessions: Sequence[Session]) -> int:
    """Cancel the statements of sessions that are still as they were when they were read; returns how many."""
    return _apply(connection, sessions, "pg_catalog.pg_cancel_backend(a.pid)")


def summary(sessions: Sequence[Session], most: int = 4) -> str:
    """Count sessions by who they are, the most first: `12 litellm@litellm, prisma: idle`."""
    counted = Counter(one.words for one in sessions).most_common()
    text = "; ".join(f"{count} {words}" for words, count in counted[:most])
    return text + (f"; and {len(counted) - most} other kinds" if len(counted) > most else "") or "none"


def _apply(connection: Connection[TupleRow], sessions: Sequence[Session], call: str) -> int:
    parameters = [[one.pid for one in sessions], [one.since for one in sessions], [one.state for one in sessions]]
    rows = connection.execute(_STILL.replace("{call}", call).encode(), parameters).fetchall()
    return sum(bool(done) for (done,) in rows)


_MAY_BE_ENDED = """
  a.backend_type = 'client backend' AND a.pid <> pg_catalog.pg_backend_pid()
  AND NOT r.rolsuper AND NOT r.rolreplication
  AND a.application_name NOT LIKE 'stack-operations%%' AND a.application_name NOT IN ('pg_dump', 'pg_dumpall', 'pg_restore')
"""
_SESSIONS = f"""
SELECT a.pid, a.usename::text, a.datname::text, a.application_name, coalesce(a.state, ''), a.state_change::text,
  extract(epoch FROM clock_timestamp() - a.state_change)::float8,
  extract(epoch FROM clock_timestamp() - a.xact_start)::float8
FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE {_MAY_BE_ENDED} AND a.state_change IS NOT NULL AND (cardinality(%s::text[]) = 0 OR a.usename = ANY(%s::text[]))
ORDER BY a.pid
"""
_STILL = f"""
SELECT {{call}}
FROM unnest(%s::int[], %s::text[], %s::text[]) AS wanted (pid, since, state)
JOIN pg_catalog.pg_stat_activity a ON a.pid = wanted.pid AND a.state_change = wanted.since::timestamptz
  AND a.state = wanted.state
JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE {_MAY_BE_ENDED}
"""
