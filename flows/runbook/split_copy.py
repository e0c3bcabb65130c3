"""One application's database out of a shared one: copied whole, compared, and only then left with its own tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import IO, cast

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import ServiceError, UpgradeFailed
from blocks.postgres import SIDE_NAME, PostgresServer, explained
from flows.backup.manifest import PostgresDatabase, StoredObject
from flows.backup.postgres import dump_into
from flows.backup.stream import HashingReader
from flows.compare.postgres import compare_database
from flows.restore.postgres import drop_database, finish_database, fresh_database, pour_dump, refuse_unfit
from flows.runbook.split_plan import SplitPlan
from flows.runbook.split_tables import LEDGER
from flows.upgrade.postgres.moving import outline

__all__ = ["copy_share", "drop_staged", "send_away"]

GONE_S = 60.0
"""Seconds that ended connections may take to go."""
_KINDS = {"v": "VIEW", "m": "MATERIALIZED VIEW", "r": "TABLE", "p": "TABLE", "f": "FOREIGN TABLE"}


def copy_share(server: PostgresServer, plan: SplitPlan, name: str, tell: Callable[[str], None]) -> str:
    """Copy the shared database under a staged name, compare it, and drop from it what is the other application's.

    Args:
        server: as a superuser. name: of the new database. tell: takes a line now and then.
    Returns: a few words, with numbers.
    Raises:
        UpgradeFailed: the copy is not equal to what was dumped, or more was dropped than was meant; it is dropped.
        BackupFailed, RestoreFailed: pg_dump or pg_restore failed. ServiceError: the server broke off.
    """
    staged = plan.staged(name)
    draft = outline(server, plan.shared, plan.new_major)
    refuse_unfit(server, draft)

    def sink(dump: IO[bytes], _expected: int) -> StoredObject:
        plain = HashingReader(dump)
        pour_dump(server, draft, cast(IO[bytes], plain), staged)
        while plain.read():  # pg_restore ends at the last entry, what follows says whether the dump ended well
            pass
        return StoredObject(key="", bytes=plain.bytes, sha256=plain.sha256, plain_bytes=plain.bytes, plain_sha256=plain.sha256)

    with fresh_database(server, draft, staged):
        moved = dump_into(server, plan.shared, sink, target_major=plan.new_major, progress=tell)
        finish_database(server, moved, staged)
        if differences := compare_database(server, moved, staged, progress=tell):
            shown = "; ".join(str(one) for one in differences[:5])
            raise UpgradeFailed(f"postgres {name}: the copy is not equal to {plan.shared}: {shown}; nothing was renamed")
        _leave_own(server, plan, name)
        rows = _refuse_less(server, plan, name, moved)
    return (
        f"{name}: {rows} rows in {len(moved.tables)} tables were copied and equal, then {len(plan.of_others(name)[0])} dropped"
    )


def drop_staged(server: PostgresServer, name: str) -> bool:
    """Drop a database that a split put aside; returns whether there was one."""
    if not SIDE_NAME.search(name) or not server.exists(name):
        return False
    drop_database(server, name)
    return True


def send_away(server: PostgresServer, database: str) -> None:
    """End every connection to a database, and wait until they are gone; their last act is to report what they wrote.

    Raises:
        ServiceError: they come again.
    """
    deadline = time.monotonic() + GONE_S
    with server.connect() as connection, explained(database, "end connections"):
        while (row := connection.execute(_END, [database]).fetchone()) and row[0]:
            if time.monotonic() > deadline:
                raise ServiceError(f"postgres {database}: {row[0]} connections come again and again; see pg_stat_activity")
            time.sleep(0.05)


def _leave_own(server: PostgresServer, plan: SplitPlan, name: str) -> None:
    """Drop what is the other's, in one transaction and without CASCADE: what hangs on it would be an error, not a loss."""
    tables, views = plan.of_others(name)
    settings = {"lock_timeout": "30s"}
    with server.connect(plan.staged(name), settings=settings) as connection, explained(name, "drop the other's tables"):
        kinds = {str(one): str(kind) for one, kind in connection.execute(_RELATIONS)}
        with connection.transaction():
            for group in (views, tables):
                _drop(connection, group, kinds)


def _drop(connection: Connection[TupleRow], names: Collection[str], kinds: dict[str, str]) -> None:
    for word in dict.fromkeys(_KINDS.values()):
        mine = [sql.Identifier("public", one) for one in names if _KINDS[kinds[one]] == word]
        if mine:
            connection.execute(sql.SQL("DROP {} {}").format(sql.SQL(word), sql.SQL(", ").join(mine)))


def _refuse_less(server: PostgresServer, plan: SplitPlan, name: str, moved: PostgresDatabase) -> int:
    """See that all that is the application's own is there, with all rows; returns how many.

    Raises:
        UpgradeFailed: something is missing, or was left over.
    """
    tables, views = plan.mine if name == plan.litellm else plan.theirs
    expected = {table.name: table.rows for table in moved.tables}
    total = 0
    with server.connect(plan.staged(name), settings={"search_path": ""}) as connection, explained(name, "count"):
        there = {str(one) for one, _ in connection.execute(_RELATIONS)} - {LEDGER}
        if there != {*tables, *views}:
            odd = sorted(there ^ {*tables, *views})
            raise UpgradeFailed(f"postgres {name}: {odd[0]} is not as it should be after the split; nothing was renamed")
        for leaf, quoted in connection.execute(_LEAVES).fetchall():
            counted = connection.execute(
                sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier("public", leaf))
            ).fetchone()
            rows = int(counted[0]) if counted else 0
            if rows != expected.get(str(quoted), rows):
                raise UpgradeFailed(
                    f"postgres {name}: {leaf} has {rows} rows, expected {expected[str(quoted)]}; nothing was renamed"
                )
            total += rows
    return total


_RELATIONS = """
SELECT c.relname, c.relkind::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND NOT c.relispartition AND n.nspname = 'public'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
    WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
"""
_LEAVES = """
SELECT c.relname::text, format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname = 'public' ORDER BY 1
"""
_END = """
SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM pg_catalog.pg_stat_activity
WHERE datname = %s AND pid <> pg_catalog.pg_backend_pid() AND backend_type = 'client backend'
"""
