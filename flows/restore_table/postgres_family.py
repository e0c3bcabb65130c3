"""A table and what belongs to it: its partitions or inheritance children, as one side of a copy."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from flows.compare.postgres_content import list_tables, table_content
from flows.restore_table.choose import split


@dataclass(frozen=True)
class Relation:
    """One table of a family.

    Attributes:
        oid: of it. name: qualified and quoted. kind: `r` for a plain table, `p` for a partitioned one, `f` for a foreign one.
        partition: it is a partition of another one. owner: quoted name of the role that owns it.
    """

    oid: int
    name: str
    kind: str
    partition: bool
    owner: str


@dataclass(frozen=True)
class Content:
    """Rows and checksum of some tables together; the checksum counts the rows of a set, so that sums can be compared."""

    rows: int
    checksum: int


def family(connection: Connection[TupleRow], name: str) -> list[Relation]:
    """Return a table and everything that inherits from it, itself first; nothing where there is no such table.

    Args:
        name: qualified and quoted.
    """
    found = connection.execute(_FAMILY, {"name": name}).fetchall()
    return [Relation(int(oid), str(n), str(kind), bool(part), str(owner)) for oid, n, kind, part, owner in found]


def content(connection: Connection[TupleRow], oids: set[int]) -> Content:
    """Read the rows of some tables, each without what inherits from it.

    Args:
        connection: with the settings `blocks.postgres.PINNED`.
    """
    found = [table_content(connection, table) for table in list_tables(connection) if table.oid in oids]
    return Content(sum(table.rows for table in found), sum(int(table.checksum) for table in found))


def leaves(connection: Connection[TupleRow], name: str) -> set[int]:
    """Return the tables in which the rows of a table lie: itself, or its partitions; not its inheritance children."""
    members = family(connection, name)
    if members and members[0].kind == "p":
        return {member.oid for member in members}
    return {member.oid for member in members[:1]}


def columns(connection: Connection[TupleRow], name: str) -> dict[str, str]:
    """Return the type of each column by name; of generated ones it says that they are."""
    return {str(column): str(kind) for column, kind in connection.execute(_COLUMNS, [name])}


def stored_columns(connection: Connection[TupleRow], name: str) -> sql.Composed:
    """List the columns that take values, quoted."""
    names = [column for column, kind in columns(connection, name).items() if not kind.endswith(GENERATED)]
    return sql.SQL(", ").join(map(sql.Identifier, names))


def in_schema(connection: Connection[TupleRow], schema: str, table: str) -> str:
    """Name the table of the same name in another schema.

    Args:
        schema: bare. table: qualified and quoted.
    """
    return text(connection, "SELECT pg_catalog.format('%%I.%%I', %s::text, %s::text)", schema, split(table)[-1])


def text(connection: Connection[TupleRow], query: str, *values: object) -> str:
    """Return what a query answers in one column, empty when it answers nothing."""
    row = connection.execute(query.encode(), values or None).fetchone()  # without values, a % in a name is only a character
    return "" if row is None or row[0] is None else str(row[0])


GENERATED = " generated"

_FAMILY = """
WITH RECURSIVE members (oid, depth) AS (
  SELECT pg_catalog.to_regclass(%(name)s)::pg_catalog.oid, 0
  UNION
  SELECT i.inhrelid, m.depth + 1 FROM members m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid)
SELECT c.oid, pg_catalog.format('%%I.%%I', n.nspname, c.relname), c.relkind::text, c.relispartition,
  pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(c.relowner))
FROM (SELECT oid, min(depth) AS depth FROM members GROUP BY oid) m
JOIN pg_catalog.pg_class c ON c.oid = m.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY m.depth, 2
"""
_COLUMNS = f"""
SELECT a.attname,
  pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attgenerated <> '' THEN '{GENERATED}' ELSE '' END
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = pg_catalog.to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
