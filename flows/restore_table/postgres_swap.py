"""Replacing the rows of a live Postgres table, in one transaction: the table itself stays, and with it all that hangs on it.

Views, foreign keys, grants, triggers and sequences know the table, so it keeps its identity and only its rows are exchanged.
Under the table's lock the present rows are copied aside and compared, so that nothing written a moment before is lost; then the
others are put in, compared, and every foreign key is checked. Either all of that is committed or nothing happened. Whether it
was is seen from the schema that keeps the rows of before: it is made in the same transaction.

An undo is the same with other names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import RestoreRefused, StackError
from blocks.postgres import PINNED, PostgresServer, explained
from flows.restore_table.columns import refuse_other_columns
from flows.restore_table.postgres_family import Relation, columns, content, family, in_schema, leaves, stored_columns, text
from flows.restore_table.postgres_keys import ForeignKey, foreign_keys, refuse_orphans
from flows.restore_table.postgres_schemas import create_schema, note_of
from flows.restore_table.postgres_sequences import raise_sequences

LOCK_WAIT_S = 30
_SETTINGS = PINNED | {
    "session_replication_role": "replica",  # no trigger of the table fires, nor those that check and cascade foreign keys
    "lock_timeout": f"{LOCK_WAIT_S}s",
    "synchronous_commit": "on",
    "default_transaction_read_only": "off",
}
_STRUCTURE = "INCLUDING ALL EXCLUDING DEFAULTS EXCLUDING IDENTITY EXCLUDING INDEXES EXCLUDING STATISTICS"

Check = Callable[[Connection[TupleRow]], None]
Hook = Callable[[str], None]


@dataclass(frozen=True)
class Exchange:
    """What is exchanged for what.

    Attributes:
        table: the live one, qualified and quoted. source: schema that holds the rows to put in.
        keep: schema for the rows that go out; must not exist. restore_id: whose schemas they are.
        recorded: what sequences would have given next when the backup was taken.
    """

    table: str
    source: str
    keep: str
    restore_id: str
    recorded: Mapping[str, int]


@dataclass(frozen=True)
class _Unit:
    """A live table whose rows are replaced as a whole: without inheritance children, with partitions."""

    live: Relation
    source: str
    kept: str

    @property
    def rows(self) -> sql.SQL:
        """The live rows, in FROM."""
        return sql.SQL(self.live.name if self.live.kind == "p" else f"ONLY {self.live.name}")


def exchange_rows(
    server: PostgresServer, database: str, wanted: Exchange, check: Check, hook: Hook = lambda _: None
) -> list[str]:
    """Replace the rows of a live table and keep those there were. Does nothing where an earlier call has done it.

    Args:
        server: as a superuser. check: looks whether the rows to put in are the right ones.
        hook: told the name of each step before it is done.
    Returns: what a person should know, a sentence each.
    Raises:
        RestoreRefused: it does not fit, or foreign keys would break; all was rolled back.
        ServiceError: the connection was lost while the transaction was committed: call again to find out.
    """
    committing = False
    try:
        with (
            explained(database, f"exchange the rows of {wanted.table}"),
            server.connect(database, settings=_SETTINGS, autocommit=False) as connection,
        ):
            if note_of(connection, wanted.keep) is not None:
                return []
            hook("lock")
            keys = _lock(connection, wanted.table)
            if note_of(connection, wanted.keep) is not None:
                return []
            said = _exchange(connection, wanted, keys, check, hook)
            hook("commit")
            committing = True
            connection.commit()
            hook("committed")
            with suppress(psycopg.Error):  # it is done; autovacuum collects statistics as well, later
                connection.execute(sql.SQL("ANALYZE {}").format(sql.SQL(wanted.table)))
            return said
    except StackError as error:
        if committing:
            raise
        what = str(error).removeprefix(f"postgres {database}: ")
        raise RestoreRefused(
            f"postgres {database}: {what}; all was rolled back, {wanted.table} is as it was", permanent=error.permanent
        ) from error


def _lock(connection: Connection[TupleRow], table: str) -> list[ForeignKey]:
    """Take the locks: nobody reads or writes the table, and nobody writes to those that refer to it or that it refers to."""
    oids = {member.oid for member in family(connection, table)}
    if not oids:
        raise RestoreRefused(f"there is no live table {table}; restore it beside, and move it with ALTER TABLE ... SET SCHEMA")
    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(table)))
    keys = foreign_keys(connection, {member.oid for member in family(connection, table)})
    others = ({key.table for key in keys} | {key.other for key in keys}) - {table}
    if others:
        names = sql.SQL(", ").join(map(sql.SQL, sorted(others)))
        connection.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(names))
    return keys


def _exchange(
    connection: Connection[TupleRow], wanted: Exchange, keys: list[ForeignKey], check: Check, hook: Hook
) -> list[str]:
    units = _units(connection, wanted)
    refuse_unfit(connection, [unit.live for unit in units], keys)
    for unit in units:
        refuse_other_columns(columns(connection, unit.live.name), columns(connection, unit.source), unit.live.name)
    check(connection)
    hook("keep")
    create_schema(connection, wanted.keep, wanted.restore_id)
    kept = {unit.kept: _keep(connection, unit) for unit in units}
    note = f"{wanted.restore_id} {json.dumps(kept)}"
    connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(sql.Identifier(wanted.keep), sql.Literal(note)))
    hook("replace")
    live = {member.oid for unit in units for member in family(connection, unit.live.name)}
    reached = _with_parents(connection, live)
    referred = any(key.other_oid in reached and key.oid not in live for key in keys)
    for unit in units:
        _replace(connection, unit, delete=referred)
    hook("check")
    refuse_orphans(connection, keys, wanted.table)
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(wanted.source)))
    return raise_sequences(connection, live, wanted.recorded)


def _units(connection: Connection[TupleRow], wanted: Exchange) -> list[_Unit]:
    """Pair live tables with those that hold the rows to put in: by the table's name, in the other schema."""
    members = family(connection, wanted.table)
    root = members[0]
    paired = [root] if root.kind == "p" else [root, *(member for member in members[1:] if not member.partition)]
    units = []
    for member in paired:
        source, kept = (in_schema(connection, schema, member.name) for schema in (wanted.source, wanted.keep))
        if family(connection, source):
            units.append(_Unit(member, source, kept))
        elif member is root:
            raise RestoreRefused(f"{source} is gone: somebody dropped or moved it; restore from a set instead")
    return units


def refuse_unfit(connection: Connection[TupleRow], tables: list[Relation], keys: list[ForeignKey]) -> None:
    """Refuse tables whose rows cannot be replaced without something else happening.

    Raises:
        RestoreRefused: which, and why.
    """
    for table in tables:
        oids = [member.oid for member in family(connection, table.name)]
        if found := text(connection, _FIRES, oids, oids):
            raise RestoreRefused(
                f"{table.name} has {found}, which would fire (ENABLE ALWAYS or REPLICA); restore beside instead"
            )
        if found := text(connection, _OF_EXTENSION, table.oid):
            raise RestoreRefused(f"{table.name} belongs to extension {found}, whose own rows are in no backup; restore beside")
        if any(member.kind == "f" for member in family(connection, table.name)):
            raise RestoreRefused(f"{table.name} has a foreign table as a partition; restore beside and copy rows")
    period = next((key for key in keys if key.period), None)
    if period is not None:
        raise RestoreRefused(
            f"foreign key {period.name} of {period.table} is over a PERIOD, which is not checked here; restore beside"
        )


def _keep(connection: Connection[TupleRow], unit: _Unit) -> list[int]:
    """Copy the live rows aside and compare; returns their number and checksum."""
    names = stored_columns(connection, unit.live.name)
    kept = sql.SQL(unit.kept)
    connection.execute(sql.SQL("CREATE TABLE {} (LIKE {} {})").format(kept, sql.SQL(unit.live.name), sql.SQL(_STRUCTURE)))
    connection.execute(sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM {2}").format(kept, names, unit.rows))
    live, copy = (content(connection, leaves(connection, name)) for name in (unit.live.name, unit.kept))
    if live != copy:
        raise RestoreRefused(f"the copy of {unit.live.name} that is to be kept has {copy.rows} rows instead of {live.rows}")
    return [live.rows, live.checksum]


def _replace(connection: Connection[TupleRow], unit: _Unit, *, delete: bool) -> None:
    """Put the other rows in.

    Args:
        delete: another table refers to it, which TRUNCATE does not allow.
    """
    names = stored_columns(connection, unit.live.name)
    source = family(connection, unit.source)[0]
    rows = sql.SQL(source.name if source.kind == "p" else f"ONLY {source.name}")
    connection.execute((sql.SQL("DELETE FROM {}") if delete else sql.SQL("TRUNCATE {}")).format(unit.rows))
    insert = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}")
    connection.execute(insert.format(sql.SQL(unit.live.name), names, names, rows))
    live, wanted = (content(connection, leaves(connection, name)) for name in (unit.live.name, unit.source))
    if live != wanted:
        raise RestoreRefused(f"{unit.live.name} would hold {live.rows} rows that are not the {wanted.rows} of {unit.source}")


def kept_as_noted(connection: Connection[TupleRow], schema: str) -> dict[str, int]:
    """See that kept rows are those that were put aside.

    Returns: number of rows by table.
    Raises:
        RestoreRefused: they are gone, or somebody changed them.
    """
    note = note_of(connection, schema)
    if note is None:
        raise RestoreRefused(f"schema {schema} is gone, there is nothing to put back; restore from a set instead")
    noted: dict[str, list[int]] = json.loads(note.partition(" ")[2] or "{}")
    for table, (rows, checksum) in noted.items():
        found = content(connection, leaves(connection, table))
        if (found.rows, found.checksum) != (rows, checksum):
            raise RestoreRefused(
                f"{table} was changed since it was put aside: {found.rows} rows, {rows} then; copy rows by hand"
            )
    return {table: rows for table, (rows, _) in noted.items()}


def _with_parents(connection: Connection[TupleRow], oids: set[int]) -> set[int]:
    rows = connection.execute(_PARENTS, {"oids": list(oids)}).fetchall()
    return {int(oid) for (oid,) in rows}


_PARENTS = """
WITH RECURSIVE above (oid) AS (
  SELECT unnest(%(oids)s::pg_catalog.oid[])
  UNION SELECT i.inhparent FROM above JOIN pg_catalog.pg_inherits i ON i.inhrelid = above.oid)
SELECT oid FROM above
"""
_FIRES = """
SELECT pg_catalog.string_agg(what, ' and ') FROM (
  SELECT 'trigger ' || pg_catalog.quote_ident(tgname) AS what FROM pg_catalog.pg_trigger
  WHERE tgrelid = ANY (%s) AND NOT tgisinternal AND tgenabled IN ('A', 'R')
  UNION
  SELECT 'rule ' || pg_catalog.quote_ident(rulename) FROM pg_catalog.pg_rewrite
  WHERE ev_class = ANY (%s) AND ev_enabled IN ('A', 'R')) found
"""
_OF_EXTENSION = """
SELECT x.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = %s AND d.deptype = 'e'
"""
