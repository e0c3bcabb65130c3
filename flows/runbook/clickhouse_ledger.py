"""golang-migrate's ledger in ClickHouse: which migration is marked, what the broken one has done, and marking it anew.

A migration writes its version dirty before its first statement, and clean after its last; each mark is a row, the newest has
the highest sequence, nanoseconds of the client's clock (source: golang-migrate, database/clickhouse).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, StatementFailed, qualified
from blocks.errors import AccessDenied, GuardRefused
from flows.runbook.frame import Action

__all__ = ["Force", "Ledger", "Mark", "Statement", "is_repeatable", "read_ledger", "read_statements", "running"]

TABLE = "schema_migrations"
NONE_YET = -1
"""golang-migrate's version of a database without migrations."""
_LONGEST = 160
"""Characters of a statement that are shown."""


@dataclass(frozen=True)
class Mark:
    """One row of the ledger."""

    version: int
    dirty: bool
    sequence: int


@dataclass(frozen=True)
class Ledger:
    """The ledger of one database; `marks`: the newest first, at least one."""

    database: str
    marks: tuple[Mark, ...]

    @property
    def newest(self) -> Mark:
        """What golang-migrate goes by."""
        return self.marks[0]

    @property
    def before(self) -> int:
        """The version that was whole before the newest one began."""
        version = self.newest.version
        whole = [one.version for one in self.marks if not one.dirty and one.version < version]
        return max(whole, default=version - 1 if version > 1 else NONE_YET)


@dataclass(frozen=True)
class Statement:
    """One statement of the broken migration, as ClickHouse logged it.

    Attributes:
        text: without the values in it, cut. code: of the error it ended with, 0 where it was done.
        repeatable: to do it twice is to do it once.
    """

    text: str
    code: int
    repeatable: bool

    @property
    def done(self) -> bool:
        """Whether it was carried out."""
        return self.code == 0

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.text} ({'done' if self.done else f'failed, code {self.code}'})"


_GUARDED = re.compile(r"^(CREATE\b.*?\bIF\s+NOT\s+EXISTS|CREATE\s+OR\s+REPLACE|DROP\b.*?\bIF\s+EXISTS)\b", re.I | re.S)
_PARTS = re.compile(
    r"\b(?:ADD|DROP|RENAME|CLEAR)\s+(?:COLUMN|INDEX|PROJECTION|CONSTRAINT|STATISTICS)\b(\s+IF\s+(?:NOT\s+)?EXISTS\b)?", re.I
)
_HARMLESS = re.compile(r"\b(?:ADD|DROP|RENAME|CLEAR|MODIFY|MATERIALIZE|RESET|COMMENT)\b", re.I)
_ONCE = re.compile(
    r"\b(?:UPDATE|DELETE|ATTACH|DETACH|MOVE|FREEZE|REPLACE|FETCH)\b|\b(?:DROP|CLEAR)\s+(?:DETACHED\s+)?PARTITION\b", re.I
)


def is_repeatable(text: str) -> bool:
    """Say whether a statement may be run again after it was done: a guard says so, or its nature; when in doubt it may not."""
    statement = " ".join(text.split())
    if not statement.upper().startswith("ALTER"):
        return bool(_GUARDED.match(statement))
    if _ONCE.search(statement) or not _HARMLESS.search(statement):
        return False
    return all(_PARTS.findall(statement))


def read_ledger(client: ClickHouseClient, databases: Sequence[str]) -> Ledger | None:
    """Read the ledger of the first database that has one which is dirty, else of the first that has one."""
    newest_first = "ORDER BY sequence DESC LIMIT 200"
    found = []
    for database in databases:
        if not int(client.command(f"EXISTS TABLE {qualified(database, TABLE)}")):
            continue
        rows = client.rows(f"SELECT version, dirty, sequence FROM {qualified(database, TABLE)} {newest_first}")
        if rows:
            found.append(Ledger(database, tuple(Mark(int(one), bool(two), int(three)) for one, two, three in rows)))
    return next((one for one in found if one.newest.dirty), found[0] if found else None)


def read_statements(client: ClickHouseClient, database: str) -> tuple[Statement, ...] | None:
    """Read from ClickHouse's query log what was done to a database's structure since its ledger was last written to.

    Returns: in order; None where nobody can tell: there is no such log, or it does not reach back so far.
    """
    with suppress(AccessDenied, StatementFailed):  # the log is seconds old then: what counts is a boot that failed before
        client.command("SYSTEM FLUSH LOGS")
    try:
        begun = client.row(_BEGUN, {"database": database, "ledger": f"{database}.{TABLE}"})
        if begun is None or not int(begun[0]):
            return None
        rows = client.rows(_STATEMENTS, {"database": database, "ledger": f"{database}.{TABLE}", "begun": int(begun[1])})
    except StatementFailed:
        return None
    return tuple(Statement(str(shown)[:_LONGEST], int(code), is_repeatable(str(text))) for text, shown, code in rows)


def running(client: ClickHouseClient, database: str) -> int:
    """Count the statements that change a database's structure at this moment."""
    row = client.row(_RUNNING, {"database": database})
    return int(row[0]) if row else 0


@dataclass(frozen=True)
class Force(Action):
    """Marks a version as whole, so that golang-migrate goes on after it. No table but the ledger is touched.

    Attributes:
        version: to go on after. broken: what is marked dirty. secure: takes a backup set first, and returns its id.
    """

    server: ClickHouseServer
    database: str
    broken: int
    version: int
    secure: Callable[[], str]

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "it decides which migrations Langfuse runs at its next start"

    def describe(self) -> str:
        """As in `Action`."""
        again = f"so that Langfuse runs migration {self.broken} again, whole" if self.version != self.broken else "as applied"
        what = "no migration" if self.version == NONE_YET else f"migration {self.version}"
        return f"take a backup set of ClickHouse, then mark {what} as the last whole one of {self.database}, {again}"

    def needless(self) -> str:
        """As in `Action`."""
        with self.server.client() as client:
            found = read_ledger(client, [self.database])
        return "" if found is not None and found.newest.dirty else "nothing is marked dirty any more"

    def do(self) -> str:
        """As in `Action`."""
        with self.server.client() as client:
            self._still(client)  # before the set is taken, which may be long
            taken = self.secure()
            newest = self._still(client)
            sequence = max(time.time_ns(), newest.sequence + 1)
            table = qualified(self.database, TABLE)
            client.command(f"INSERT INTO {table} (version, dirty, sequence) VALUES ({self.version}, 0, {sequence})")
        return f"migration {self.version} is marked; way back: set {taken}"

    def _still(self, client: ClickHouseClient) -> Mark:
        """See that it is as it was diagnosed."""
        found = read_ledger(client, [self.database])
        if found is None or (found.newest.version, found.newest.dirty) != (self.broken, True):
            raise GuardRefused(f"clickhouse {self.database}: its ledger has changed since it was looked at; run this again")
        if count := running(client, self.database):
            raise GuardRefused(f"clickhouse {self.database}: {count} statements change its structure right now; wait for them")
        return found.newest


_OF_DATABASE = "(has(databases, {database:String}) OR current_database = {database:String})"
_BEGUN = """
SELECT count(), toUnixTimestamp64Micro(max(event_time_microseconds)) FROM system.query_log
WHERE type = 'QueryFinish' AND query_kind = 'Insert' AND has(tables, {ledger:String})
  AND event_date >= today() - 30
"""
_STATEMENTS = f"""
SELECT query, normalizeQuery(query), exception_code FROM system.query_log
WHERE type IN ('QueryFinish', 'ExceptionBeforeStart', 'ExceptionWhileProcessing') AND is_initial_query
  AND event_date >= today() - 30 AND toUnixTimestamp64Micro(event_time_microseconds) > {{begun:Int64}}
  AND (query_kind IN ('Create', 'Alter', 'Drop', 'Rename', 'Undrop') OR (query_kind = 'Insert' AND query ILIKE '%select%'))
  AND NOT has(tables, {{ledger:String}}) AND {_OF_DATABASE}
ORDER BY event_time_microseconds LIMIT 200
"""
_RUNNING = """
SELECT count() FROM system.processes
WHERE query_kind IN ('Create', 'Alter', 'Drop', 'Rename') AND current_database = {database:String}
"""
