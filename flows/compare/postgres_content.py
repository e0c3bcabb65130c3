"""The content of a Postgres database as numbers that two copies can be compared by.

A row's hash chains the hashes of its columns, each column's hash seeding the next one's: values swapped between two rows, a
NULL that became an empty string, or text moved from one column to its neighbour all change it. A table's checksum is the sum
of its rows' hashes, so the order of rows does not matter. Nothing longer than one value is ever built, so that a row is hashed
whenever pg_dump can dump it (`sum(hashtextextended(row::text, 0))` fails earlier, at 1 GB of quoted text, and is slower).

Left out: generated columns and materialised views, which both sides compute, and rows that extensions bring with them. Columns
count in the order of their names, because a restore may order those of an inheritance child differently.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from flows.backup.manifest import LargeObjects, TableContent
from flows.compare.postgres_definitions import USER_SCHEMA

CHAIN = 100
"""Columns in one nested expression; the server's parser would exhaust its stack (2 MB) with 1,600 of them."""
LARGE_OBJECT_CHUNK = 1024 * 1024
NOTABLE_BYTES = 64 * 1024 * 1024
"""Tables of this size are worth a line of progress."""

_TABLES = f"""
SELECT c.oid, format('%I.%I', n.nspname, c.relname), pg_table_size(c.oid), e.filter,
  coalesce((
    SELECT array_agg(ARRAY[a.attname, CASE WHEN a.atttypid IN (25, 1043) THEN 'text' ELSE 'other' END,
                           CASE WHEN a.attnotnull THEN 'not null' ELSE 'null' END] ORDER BY a.attname COLLATE "C")
    FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''), '{{}}')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
  AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN LATERAL (
  SELECT x.extcondition[array_position(x.extconfig, c.oid)] AS filter FROM pg_extension x
  WHERE x.oid = d.refobjid AND c.oid = ANY (x.extconfig)) e ON true
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND {USER_SCHEMA} AND (d.objid IS NULL OR e.filter IS NOT NULL)
ORDER BY n.nspname, c.relname
"""

_SEQUENCES = f"""
SELECT format('%I.%I', n.nspname, c.relname), s.seqincrement
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_sequence s ON s.seqrelid = c.oid
WHERE {USER_SCHEMA} AND c.relpersistence <> 't' AND NOT EXISTS (
  SELECT FROM pg_depend d
  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname, c.relname
"""

_LARGE_OBJECTS = f"""
SELECT count(*), coalesce(sum(h), 0)::text FROM (
  SELECT o.oid, sum(hashtextextended(
    CASE WHEN o.size = 0 THEN '' ELSE encode(lo_get(o.oid, page, {LARGE_OBJECT_CHUNK}), 'hex') END
    COLLATE "C", hashint8extended(o.oid::bigint, page # o.size))) AS h
  FROM (
    SELECT f.oid, lo_lseek64(f.fd, 0, 2) AS size, lo_close(f.fd) AS closed
    FROM (SELECT m.oid, lo_open(m.oid, x'40000'::int) AS fd FROM pg_largeobject_metadata m OFFSET 0) f
    OFFSET 0) o, generate_series(0, greatest(o.size - 1, 0), {LARGE_OBJECT_CHUNK}) page
  GROUP BY o.oid) objects
"""


@dataclass(frozen=True)
class Column:
    """One column that counts: its name, whether it is text already, and whether it may be NULL."""

    name: str
    text: bool
    nullable: bool


@dataclass(frozen=True)
class Table:
    """One table with rows of its own: plain tables and the leaves of partitioned ones.

    Attributes:
        oid: identifies it while it is locked. name: qualified and quoted. bytes: with TOAST, without indexes.
        columns: those that count, in the order of their names.
        condition: a WHERE clause where only some rows are the user's (configuration tables of extensions), else empty.
    """

    oid: int
    name: str
    bytes: int
    columns: tuple[Column, ...]
    condition: str = ""


def list_tables(connection: Connection[TupleRow]) -> list[Table]:
    """List every table whose rows are part of a backup, in the order of their names."""
    return [
        Table(oid, name, size, tuple(Column(c, kind == "text", null == "null") for c, kind, null in columns), where or "")
        for oid, name, size, where, columns in connection.execute(_TABLES)
    ]


def row_hash(columns: Sequence[Column]) -> sql.Composable:
    """Build the expression of a row's hash, a bigint."""
    chains = [_chain(columns[start : start + CHAIN]) for start in range(0, len(columns), CHAIN)]
    if len(chains) <= 1:
        return chains[0] if chains else sql.SQL("0::bigint")
    return sql.SQL("""hashtextextended(concat_ws(',', {}) COLLATE "C", 0)""").format(sql.SQL(", ").join(chains))


def _chain(columns: Sequence[Column]) -> sql.Composable:
    expression: sql.Composable = sql.SQL("0::bigint")
    for column in columns:
        name = sql.Identifier(column.name)
        # concat() calls the type's output function, as COPY does; a cast to text may be somebody's own, and lossy.
        text = sql.SQL("concat({})").format(name)
        if column.text:
            text = sql.SQL("coalesce({}::text, '')").format(name) if column.nullable else sql.SQL("{}::text").format(name)
        if column.nullable:
            expression = sql.SQL("{} # num_nulls({})").format(expression, name)
        expression = sql.SQL("""hashtextextended({} COLLATE "C", {})""").format(text, expression)
    return expression


def table_content(connection: Connection[TupleRow], table: Table, *, checksum: bool = True) -> TableContent:
    """Count the rows of one table and sum up their hashes.

    Args:
        connection: with the settings `blocks.postgres.PINNED`, else values print differently elsewhere.
        checksum: False only counts.
    """
    total: sql.Composable = sql.SQL("NULL")
    if checksum:
        total = sql.SQL("coalesce(sum({}), 0)::text").format(row_hash(table.columns))
    query = sql.SQL("SELECT count(*), {} FROM ONLY {} {}").format(total, sql.SQL(table.name), sql.SQL(table.condition))
    row = connection.execute(query).fetchone()
    rows, value = row if row else (0, None)
    return TableContent(name=table.name, method="full" if checksum else "count", rows=rows, checksum=value or "")


def table_contents(
    connections: Sequence[Connection[TupleRow]],
    tables: Sequence[Table],
    *,
    checksums: bool = True,
    progress: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> list[TableContent]:
    """Read many tables over several connections at once, the largest first.

    Args:
        connections: all in the same snapshot, or of a database that nobody writes to; one thread each.
        progress: is told about every large table that is done.
        stop: when set, no further table is begun.
    Returns: in the order of `tables`.
    Raises: the first psycopg error of any connection.
    """
    waiting: queue.SimpleQueue[Table] = queue.SimpleQueue()
    for table in sorted(tables, key=lambda t: t.bytes, reverse=True):
        waiting.put(table)
    ended = stop or threading.Event()
    done: dict[int, TableContent] = {}

    def read(connection: Connection[TupleRow]) -> None:
        try:
            while not ended.is_set():
                table = waiting.get_nowait()
                done[table.oid] = table_content(connection, table, checksum=checksums)
                if table.bytes >= NOTABLE_BYTES:
                    progress(f"{done[table.oid].name}: {done[table.oid].rows} rows read")
        except queue.Empty:
            return
        except BaseException:
            ended.set()
            raise

    with ThreadPoolExecutor(max_workers=len(connections), thread_name_prefix="content") as pool:
        for future in [pool.submit(read, connection) for connection in connections]:
            future.result()
    return [done[table.oid] for table in tables if table.oid in done]


def large_objects(connection: Connection[TupleRow]) -> LargeObjects:
    """Count the large objects and sum up the hashes of their numbers, sizes and bytes, 1 MiB at a time.

    `pg_largeobject` is for superusers only; `lo_get` also serves a role with `lo_compat_privileges`. The connection must be
    in a transaction, as large-object descriptors live in one.
    """
    row = connection.execute(_LARGE_OBJECTS).fetchone()
    return LargeObjects(count=row[0], checksum=row[1]) if row else LargeObjects()


def sequence_positions(connection: Connection[TupleRow]) -> dict[str, tuple[int, int]]:
    """Return, by quoted name, the value that each sequence gives next, and its increment.

    Sequences know no snapshots: this is where they stand now, whatever the transaction sees.
    """
    found = [(str(name), int(step)) for name, step in connection.execute(_SEQUENCES)]
    positions: dict[str, tuple[int, int]] = {}
    for start in range(0, len(found), 200):
        batch = found[start : start + 200]
        parts = [
            sql.SQL("SELECT {}, last_value, is_called FROM {}").format(i, sql.SQL(name)) for i, (name, _) in enumerate(batch)
        ]
        for index, last, called in connection.execute(sql.SQL(" UNION ALL ").join(parts)):
            name, step = batch[index]
            positions[name] = (last + step if called else last, step)
    return positions
