"""Foreign keys from and to a table, checked with a query: what Postgres would have checked, had its triggers fired."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import RestoreRefused

SHOWN_VALUE = 80
"""Characters of an example's key."""


@dataclass(frozen=True)
class ForeignKey:
    """One foreign key.

    Attributes:
        name: of the constraint. table, other: referring and referred table, qualified and quoted; their oids.
        columns, others: that must be equal, in order. operators: by which, qualified. full: MATCH FULL.
        whole, other_whole: the table is partitioned, so that its partitions count.
        valid: Postgres vouches for it; one that is NOT VALID may have been broken before.
        period: it compares ranges (PERIOD), which equality cannot check.
    """

    name: str
    table: str
    other: str
    oid: int
    other_oid: int
    columns: tuple[str, ...]
    others: tuple[str, ...]
    operators: tuple[str, ...]
    full: bool
    whole: bool
    other_whole: bool
    valid: bool
    period: bool


def foreign_keys(connection: Connection[TupleRow], oids: Collection[int]) -> list[ForeignKey]:
    """Return the foreign keys from and to some tables, also those that they have from a partitioned table they belong to."""
    return [
        ForeignKey(
            name=str(name),
            table=str(table),
            other=str(other),
            oid=int(oid),
            other_oid=int(other_oid),
            columns=tuple(columns),
            others=tuple(others),
            operators=tuple(operators),
            full=bool(full),
            whole=bool(whole),
            other_whole=bool(other_whole),
            valid=bool(valid),
            period=bool(period),
        )
        for name, table, other, oid, other_oid, columns, others, operators, full, whole, other_whole, valid, period in (
            connection.execute(_KEYS, {"oids": list(oids)})
        )
    ]


def refuse_orphans(connection: Connection[TupleRow], keys: Collection[ForeignKey], table: str) -> None:
    """Look for rows that refer to nothing.

    Args:
        table: whose rows have been replaced, for the message.
    Raises:
        RestoreRefused: which table would have how many, by which constraint, and the key of one.
    """
    problems = [problem for key in keys if key.valid for problem in _orphans(connection, key)]
    if problems:
        raise RestoreRefused(
            f"with these rows in {table}, {'; '.join(problems)}; restore beside and copy rows, or restore the other table first"
        )


def _orphans(connection: Connection[TupleRow], key: ForeignKey) -> Iterator[str]:
    row = connection.execute(_query(key)).fetchone()
    if row and row[0]:
        example = f"for example {', '.join(key.columns)} = {str(row[1])[:SHOWN_VALUE]}"
        yield f"{row[0]} rows of {key.table} would refer to nothing in {key.other} ({key.name}; {example})"


def _query(key: ForeignKey) -> sql.Composed:
    mine = [sql.SQL("f.") + sql.Identifier(column) for column in key.columns]
    equal = sql.SQL(" AND ").join(
        sql.SQL("o.{} {} {}").format(sql.Identifier(other), sql.SQL(operator), column)
        for other, operator, column in zip(key.others, key.operators, mine, strict=True)
    )
    nulls = sql.SQL("pg_catalog.num_nulls({})").format(sql.SQL(", ").join(mine))
    # a row with some NULL refers to nothing on purpose; with MATCH FULL only one that has nothing else
    meant = sql.SQL("{} < {}" if key.full else "{} = 0").format(nulls, *([sql.Literal(len(mine))] if key.full else []))
    return sql.SQL(
        "SELECT count(*), min(pg_catalog.concat_ws(', ', {columns})) FROM {table} f "
        "WHERE {meant} AND NOT EXISTS (SELECT FROM {other} o WHERE {equal})"
    ).format(
        columns=sql.SQL(", ").join(mine),
        table=sql.SQL(key.table if key.whole else f"ONLY {key.table}"),
        other=sql.SQL(key.other if key.other_whole else f"ONLY {key.other}"),
        meant=meant,
        equal=equal,
    )


_KEYS = """
WITH RECURSIVE concerned (oid) AS (
  SELECT unnest(%(oids)s::pg_catalog.oid[])
  UNION
  SELECT i.inhparent FROM concerned JOIN pg_catalog.pg_inherits i ON i.inhrelid = concerned.oid
  JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relispartition)
SELECT k.conname, k.conrelid::pg_catalog.regclass::text, k.confrelid::pg_catalog.regclass::text,
  k.conrelid, k.confrelid,
  ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u (n, i)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.i),
  ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u (n, i)
    JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.i),
  ARRAY(SELECT pg_catalog.format('OPERATOR(%%I.%%s)', s.nspname, p.oprname) FROM unnest(k.conpfeqop) WITH ORDINALITY u (o, i)
    JOIN pg_catalog.pg_operator p ON p.oid = u.o JOIN pg_catalog.pg_namespace s ON s.oid = p.oprnamespace ORDER BY u.i),
  k.confmatchtype = 'f', t.relkind = 'p', o.relkind = 'p', k.convalidated,
  coalesce((pg_catalog.to_jsonb(k) ->> 'conperiod')::boolean, false)
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class t ON t.oid = k.conrelid JOIN pg_catalog.pg_class o ON o.oid = k.confrelid
WHERE k.contype = 'f' AND k.conparentid = 0
  AND (k.conrelid IN (SELECT oid FROM concerned) OR k.confrelid IN (SELECT oid FROM concerned))
ORDER BY 2, 1
"""
