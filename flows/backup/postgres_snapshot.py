"""One moment of a Postgres database, shared by pg_dump and by the connections that read counts and checksums.

The order matters. TRUNCATE is not MVCC-safe: a snapshot taken before somebody else's TRUNCATE sees the table empty afterwards.
So every table is locked first (ACCESS SHARE: it stops TRUNCATE, DROP and rewriting ALTERs, and nothing else), and only then
the snapshot is taken, in the same transaction; LOCK TABLE takes none of its own. Tables that came or went meanwhile mean
another try.

Every connection takes its own locks before the snapshot: later ones would queue behind a TRUNCATE that already waits for us,
and neither would ever move. pg_dump comes after that, so its lock timeout is short, and giving up lets the other one through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import Connection, IsolationLevel, sql
from psycopg.rows import TupleRow

from blocks.errors import ServiceError
from blocks.postgres import PINNED, PostgresServer, explain, explained
from flows.compare.postgres_content import Table, list_tables, sequence_positions
from flows.compare.postgres_definitions import USER_SCHEMA

QUEUED_TIMEOUT_S = 5
"""Lock timeout once the first connection has its locks: whoever blocks now waits for us."""
TRIES = 5

_LOCKED = f"""
SELECT c.oid, format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND {USER_SCHEMA} AND NOT EXISTS (
  SELECT FROM pg_depend d JOIN pg_extension x ON x.oid = d.refobjid
  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    AND (x.extconfig IS NULL OR NOT c.oid = ANY (x.extconfig)))
ORDER BY 2
"""


@dataclass(frozen=True)
class Frozen:
    """A moment of a database, and who may look at it.

    Attributes:
        snapshot: its name, for pg_dump --snapshot and SET TRANSACTION SNAPSHOT.
        tables: those with rows in it, locked. sequences: next value and increment of each, read before anything else.
        holder: the connection whose transaction keeps the snapshot. readers: further ones in the same snapshot.
    """

    snapshot: str
    tables: list[Table]
    sequences: dict[str, tuple[int, int]]
    holder: Connection[TupleRow]
    readers: list[Connection[TupleRow]]


class _Changed(Exception):
    """Tables came or went, or somebody queued up between our locks: begin again."""


@contextmanager
def freeze(
    server: PostgresServer, database: str, readers: int, *, lock_timeout_s: int, progress: Callable[[str], None]
) -> Iterator[Frozen]:
    """Hold a moment of a database until the block ends.

    Args:
        readers: how many further connections see it.
        lock_timeout_s: how long to wait for tables that somebody else has locked, seconds.
        progress: is told when it has to begin again.
    Raises:
        ServiceError: tables stay locked by somebody else, or keep changing; another time may be better.
        AccessDenied: the role may not read a table.
    """
    for attempt in range(1, TRIES + 1):
        with ExitStack() as stack:
            try:
                frozen = _freeze_once(server, database, readers, lock_timeout_s, stack)
            except _Changed as change:
                progress(f"postgres {database}: {change}; taking the snapshot again ({attempt} of {TRIES})")
                continue
            yield frozen
            return
    raise ServiceError(f"postgres {database}: its tables kept changing; take the backup when no migration runs")


def _freeze_once(server: PostgresServer, database: str, readers: int, lock_timeout_s: int, stack: ExitStack) -> Frozen:
    with explained(database, "list tables"), server.connect(database, settings=PINNED) as connection:
        locked = _lockable(connection)
    holder = stack.enter_context(_transaction(server, database, lock_timeout_s))
    _lock(holder, database, locked.values(), f"a table stayed locked for {lock_timeout_s} s by somebody else")
    others = [stack.enter_context(_transaction(server, database, QUEUED_TIMEOUT_S)) for _ in range(readers)]
    for other in others:
        _lock(other, database, locked.values(), None)
    with explained(database, "take a snapshot"):
        row = holder.execute("SELECT pg_export_snapshot()").fetchone()
        snapshot = str(row[0]) if row else ""
        if _lockable(holder) != locked:
            raise _Changed("tables came or went")
        for other in others:
            other.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        try:
            sequences = sequence_positions(holder)
        except psycopg.errors.UndefinedTable:
            raise _Changed("a sequence went") from None
        return Frozen(snapshot, list_tables(holder), sequences, holder, others)


def _lockable(connection: Connection[TupleRow]) -> dict[int, str]:
    """Return the tables that pg_dump reads or whose partitions it reads: quoted name by oid."""
    return {int(oid): str(name) for oid, name in connection.execute(_LOCKED.encode())}


@contextmanager
def _transaction(server: PostgresServer, database: str, lock_timeout_s: int) -> Iterator[Connection[TupleRow]]:
    """Connect for one read-only transaction, which the first statement opens and the end of the block gives up."""
    connection = server.connect(database, autocommit=False, settings=PINNED | {"lock_timeout": f"{lock_timeout_s}s"})
    try:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        yield connection
    finally:
        connection.close()


def _lock(connection: Connection[TupleRow], database: str, tables: Iterable[str], refusal: str | None) -> None:
    """Lock tables as the transaction's first statement, all at once.

    Args:
        refusal: what a timeout means; None when somebody queued up behind our own locks, and we should let them through.
    """
    names = [sql.SQL("ONLY ") + sql.SQL(name) for name in tables]
    if not names:
        return
    try:
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(sql.SQL(", ").join(names)))
    except (psycopg.errors.UndefinedTable, psycopg.errors.DeadlockDetected):
        raise _Changed("tables came or went") from None
    except psycopg.errors.LockNotAvailable:
        if refusal is None:
            raise _Changed("somebody waits for a table that we hold") from None
        raise ServiceError(
            f"postgres {database}: {refusal}; take the backup when no migration, TRUNCATE or VACUUM FULL runs"
        ) from None
    except psycopg.Error as error:
        raise explain(error, database, "lock the tables") from None
