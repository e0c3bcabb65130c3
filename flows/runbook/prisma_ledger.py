"""Prisma's ledger in Postgres: migrations that neither ended nor were taken back, what is there of them, and resolving one.

What is written is what `prisma migrate resolve` writes (source: prisma-engines, schema-engine, mark_migration_applied and
mark_migration_rolled_back): a failed row is marked as rolled back; for `--applied` a new row says that it was applied.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg import Connection
from psycopg.errors import lookup
from psycopg.rows import TupleRow

from blocks.errors import GuardRefused
from blocks.postgres import PostgresServer, explained
from flows.runbook.frame import Action
from flows.runbook.sql_effects import Effect

__all__ = ["Failed", "Resolve", "condition", "is_of", "keep_out", "present", "read_failed", "under_way"]

_PRISMA_LOCK = 72707369
"""Advisory lock that Prisma holds while it migrates."""


@dataclass(frozen=True)
class Failed:
    """A migration that began, and neither ended nor was taken back.

    Attributes:
        id: of its row. checksum: SHA-256 of its file, hex. minutes: since it began. reported: Prisma wrote down an error; else
            the program died in the middle.
        code: SQLSTATE of that error, or empty.
    """

    id: str
    name: str
    checksum: str
    minutes: float
    reported: bool
    code: str = ""

    @property
    def words(self) -> str:
        """For people; what Prisma logged is not repeated, as it may quote rows."""
        how = f"failed with {condition(self.code)}" if self.code else "failed" if self.reported else "was cut off"
        return f"{self.name} {how}, began {self.minutes:.0f} min ago"


def condition(code: str) -> str:
    """Name an SQLSTATE: `42P07 DuplicateTable`."""
    try:
        return f"{code} {lookup(code).__name__}"
    except KeyError:
        return code


def is_of(script: str, failed: Failed) -> bool:
    """Say whether a script is a migration's file, by its checksum; line ends that a form has changed are forgiven."""
    plain = script.replace("\r\n", "\n")
    candidates = (script, plain, f"{plain}\n", plain.rstrip("\n"), f"{plain.rstrip()}\n", plain.strip())
    return any(hashlib.sha256(one.encode()).hexdigest() == failed.checksum for one in candidates)


def read_failed(connection: Connection[TupleRow]) -> list[Failed]:
    """Read the failed migrations of a database, oldest first; none where it has no such ledger."""
    if not connection.execute("SELECT to_regclass('public._prisma_migrations') IS NOT NULL").fetchall()[0][0]:
        return []
    return [Failed(*row) for row in connection.execute(_FAILED).fetchall()]


def under_way(connection: Connection[TupleRow]) -> bool:
    """Say whether Prisma migrates this database right now."""
    return bool(connection.execute(_LOCKED, [_PRISMA_LOCK]).fetchall()[0][0])


def keep_out(connection: Connection[TupleRow], database: str) -> None:
    """Keep Prisma from migrating a database until the end of this transaction.

    Raises:
        GuardRefused: it migrates right now.
    """
    if not connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [_PRISMA_LOCK]).fetchall()[0][0]:
        raise GuardRefused(f"postgres {database}: Prisma migrates it right now; nothing was changed; wait for it")


def present(connection: Connection[TupleRow], wanted: Sequence[Effect]) -> list[tuple[Effect, bool]]:
    """Say of each effect whether it is there as the migration leaves it."""
    found = []
    for one in wanted:
        exists = bool(connection.execute(_EXISTS[one.kind], {"name": one.name, "owner": one.owner}).fetchall()[0][0])
        found.append((one, exists == one.there))
    return found


@dataclass(frozen=True)
class Resolve(Action):
    """Writes down that a migration was applied, or that it was rolled back. No table but the ledger is touched.

    Attributes:
        applied: else it is rolled back, and runs again at the next start. why: that is so.
        secure: takes a backup set first, and returns its id.
    """

    server: PostgresServer
    database: str
    failed: Failed
    applied: bool
    why: str
    secure: Callable[[], str]

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "it decides whether the migration runs again at the next start"

    def describe(self) -> str:
        """As in `Action`."""
        how = "applied: it never runs again" if self.applied else "rolled back: it runs again at the next start"
        return f"take a backup set of {self.database}, then mark {self.failed.name} as {how}; {self.why}"

    def needless(self) -> str:
        """As in `Action`."""
        with self.server.connect(self.database) as connection, explained(self.database, "read the ledger"):
            there = any(one.id == self.failed.id for one in read_failed(connection))
        return "" if there else f"{self.failed.name} is resolved already"

    def do(self) -> str:
        """As in `Action`."""
        taken = self.secure()
        settings = {"lock_timeout": "10s", "statement_timeout": "60s"}
        with (
            self.server.connect(self.database, autocommit=False, settings=settings) as connection,
            explained(self.database, "resolve a migration"),
        ):
            keep_out(connection, self.database)
            if connection.execute(_TAKE_BACK, [self.failed.id]).rowcount != 1:
                raise GuardRefused(f"postgres {self.database}: {self.failed.name} was resolved meanwhile; nothing was changed")
            if self.applied:
                connection.execute(_APPLY, [str(uuid.uuid4()), self.failed.checksum, self.failed.name])
            connection.commit()
        return f"{self.failed.name} is {'applied' if self.applied else 'rolled back'}; way back: set {taken}"


_FAILED = """
SELECT id, migration_name, checksum, extract(epoch FROM clock_timestamp() - started_at)::float8 / 60,
  coalesce(logs, '') <> '', coalesce(substring(logs FROM 'Database error code: ([0-9A-Z]{5})'), '')
FROM public._prisma_migrations WHERE finished_at IS NULL AND rolled_back_at IS NULL ORDER BY started_at, migration_name
"""
_LOCKED = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
  WHERE l.locktype = 'advisory' AND d.datname = current_database() AND l.objid = %s::bigint::oid)
"""
_TAKE_BACK = """
UPDATE public._prisma_migrations SET rolled_back_at = now()
WHERE id = %s AND finished_at IS NULL AND rolled_back_at IS NULL
"""
_APPLY = """
INSERT INTO public._prisma_migrations (id, checksum, finished_at, migration_name, logs, started_at, applied_steps_count)
VALUES (%s, %s, now(), %s, '', now(), 0)
"""
_IN_PUBLIC = "JOIN pg_catalog.pg_namespace n ON n.oid = {of}namespace AND n.nspname = 'public'"
_EXISTS = {
    "relation": f"SELECT EXISTS (SELECT FROM pg_catalog.pg_class c {_IN_PUBLIC.format(of='c.rel')} WHERE c.relname = %(name)s)",
    "type": f"SELECT EXISTS (SELECT FROM pg_catalog.pg_type t {_IN_PUBLIC.format(of='t.typ')} WHERE t.typname = %(name)s)",
    "label": f"""SELECT EXISTS (SELECT FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid
        {_IN_PUBLIC.format(of="t.typ")} WHERE t.typname = %(owner)s AND e.enumlabel = %(name)s)""",
    "column": f"""SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
        {_IN_PUBLIC.format(of="c.rel")} WHERE c.relname = %(owner)s AND a.attname = %(name)s AND NOT a.attisdropped)""",
    "constraint": f"""SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
        {_IN_PUBLIC.format(of="c.rel")} WHERE c.relname = %(owner)s AND k.conname = %(name)s)""",
}
