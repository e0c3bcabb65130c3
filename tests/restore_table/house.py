"""What the tests of table restores work on: a stack of real engines without Prefect, its sets, and killed processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.postgres import PINNED
from flows.backup.manifest import Component, Manifest
from flows.backup.postgres import dump_database
from flows.backup.sets import new_set
from flows.compare.postgres_catalogue import catalogue
from flows.compare.postgres_content import list_tables, table_contents
from flows.lease import lock_key
from flows.restore_table import steps, undo
from flows.restore_table.journal import Into, TableJournal, load_all
from flows.restore_table.plan import plan_table
from flows.restore_table.steps import begin, discard_staged_on_failure, leave_beside
from flows.stack import Stack
from shared.engines.postgres import PostgresEngine
from shared.engines.process import wait_until
from tests.stores import seen_through


@dataclass
class Restored:
    """What a restore came to.

    Attributes:
        journal: of it. statements: SQL it told.
    """

    journal: TableJournal
    statements: list[str]


@dataclass(frozen=True)
class House:
    """The stack, and what a test does to it.

    Attributes:
        stack: without Prefect. engine: its Postgres. database: that is restored from.
    """

    stack: Stack
    engine: PostgresEngine
    database: str = "shop"

    # --- sets --------------------------------------------------------------------------------------------------------

    def commit(self, take: Callable[[str, str], Iterable[Component]]) -> Manifest:
        """Make a set; `take(prefix, id)` stores its components."""
        with self.stack.exclusive("backup") as lease, new_set(self.stack, lease, label="", protect=False) as backup_set:
            backup_set.add(*take(backup_set.prefix, backup_set.id))
            return backup_set.commit()

    def back_up(self, database: str | None = None) -> Manifest:
        """Make a set of a Postgres database."""
        server, store, keys = self.stack.need_postgres(), self.stack.store, self.stack.keys
        return self.commit(lambda prefix, _: [dump_database(server, database or self.database, store, prefix, keys)])

    # --- restores ----------------------------------------------------------------------------------------------------

    def restore(
        self,
        manifest: Manifest,
        table: str,
        into: Into = "beside",
        *,
        component: str = "",
        partition: str = "",
        hook: Callable[[str], None] = lambda _: None,
    ) -> Restored:
        """Do what the flow does, without Prefect."""
        plan = plan_table(self.stack, manifest, component or f"postgres/{self.database}", table, partition, into)
        statements: list[str] = []
        with self.stack.exclusive("restore"):
            undo.settle(self.stack)
            steps.check_stored.fn(self.stack, manifest, plan)
            journal = begin(self.stack, plan)
            with discard_staged_on_failure(self.stack, journal):
                journal.members = steps.stage.fn(self.stack, manifest, plan, journal).members
                hook("staged")
                if into == "swap":
                    steps.swap(self.stack, journal, hook)
                else:
                    statements = leave_beside(self.stack, journal)
        return Restored(journal, statements)

    def undo(self, journal: TableJournal, hook: Callable[[str], None] = lambda _: None) -> None:
        """Take a restore back."""
        undo.undo(self.stack, journal, hook)

    def forget(self, journal: TableJournal) -> None:
        """Drop what a restore left or kept."""
        undo.forget(self.stack, journal)

    def settle(self) -> list[TableJournal]:
        """Settle what died, as the next run does once the lock of the dead one has run out."""
        self.end_lock()
        return undo.settle(self.stack)

    def end_lock(self) -> None:
        """Let the lock of a process that was killed run out at once."""
        self.stack.store.remove([lock_key(self.stack.store)])

    def newest(self) -> TableJournal:
        """The journal that was begun last."""
        return load_all(self.stack.store)[-1]

    def die(self, work: Callable[[House, Callable[[str], None]], object], step: str) -> None:
        """Do something in a process that is killed with SIGKILL right before one of its steps."""
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                own = replace(self, stack=replace(self.stack, store=seen_through(self.stack.store)))  # no shared sockets
                work(own, lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == step else None)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"{step} was never reached"

    def kill_when(self, work: Callable[[House], object], condition: Callable[[], bool]) -> None:
        """Do something in a process that is killed with SIGKILL as soon as a condition holds."""
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                work(replace(self, stack=replace(self.stack, store=seen_through(self.stack.store))))
            os._exit(1)
        try:
            wait_until(condition, timeout=60, what="the condition holds")
        finally:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it ended before"

    # --- what is there -----------------------------------------------------------------------------------------------

    @contextmanager
    def connect(self, database: str | None = None) -> Iterator[Connection[TupleRow]]:
        """Connect as the superuser, each statement a transaction, everything printed alike."""
        with psycopg.connect(self.engine.url(database or self.database), autocommit=True) as connection:
            yield connection

    def execute(self, *statements: str) -> None:
        """Run statements on the live database."""
        with self.connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, query: str) -> object:
        """Return what a query answers in its first column."""
        with self.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        return row[0] if row else None

    def contents(self) -> dict[str, str]:
        """Rows and checksum of every table of the live database."""
        with self.stack.need_postgres_admin().connect(self.database, settings=PINNED) as connection:
            found = table_contents([connection], list_tables(connection))
        return {table.name: f"{table.rows} {table.checksum}" for table in found}

    def definitions(self) -> dict[str, str]:
        """Every definition in the live database, its grants and comments, and what is there beside it."""
        with self.stack.need_postgres_admin().connect(self.database, settings=PINNED) as connection:
            found = catalogue(connection)
        return found | {f"database {name}": "" for name in self.databases()}

    def databases(self) -> list[str]:
        """Databases beside the live one."""
        with self.connect("postgres") as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_%' ORDER BY 1").fetchall()
        return [str(name) for (name,) in rows]

    def schemas(self) -> list[str]:
        """Schemas that restores have made."""
        query = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^(restored|kept|undone)_' ORDER BY 1"
        with self.connect() as connection:
            return [str(name) for (name,) in connection.execute(query).fetchall()]

    def recreate(self, template: str) -> None:
        """Make the live database anew from a template, and drop all that is beside it."""
        with self.connect("postgres") as connection:
            for name in (self.database, *self.databases()):
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            statement = "CREATE DATABASE {} OWNER litellm TEMPLATE {} STRATEGY file_copy"
            connection.execute(sql.SQL(statement).format(sql.Identifier(self.database), sql.Identifier(template)))
