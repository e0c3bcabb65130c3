"""Sequences that belong to a table: moved up where its rows have come to have larger numbers, never down."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import TupleRow


@dataclass(frozen=True)
class _Sequence:
    name: str
    table: str
    column: str
    number: bool
    step: int
    low: int
    high: int


def raise_sequences(connection: Connection[TupleRow], oids: Collection[int], recorded: Mapping[str, int]) -> list[str]:
    """Move the sequences of some tables past every number in them.

    Args:
        oids: of the tables. recorded: the value that a sequence would have given next at the time of the backup, by its name.
    Returns: what was moved, a sentence each. This is not undone by a rollback: numbers are only left out.
    """
    moved = []
    for sequence in _owned(connection, oids):
        row = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.SQL(sequence.name))).fetchone()
        if row is None:
            continue
        now = int(row[0]) + (sequence.step if row[1] else 0)
        further = max if sequence.step > 0 else min
        wanted = further([now, *_wanted(connection, sequence), recorded.get(sequence.name, now)])
        if wanted == now:
            continue
        last, called = wanted, False
        if not sequence.low <= wanted <= sequence.high:  # its last number is taken: it is exhausted then, as it was
            last, called = (sequence.high if sequence.step > 0 else sequence.low), True
        connection.execute("SELECT pg_catalog.setval(%s::pg_catalog.regclass, %s, %s)", [sequence.name, last, called])
        moved.append(f"sequence {sequence.name} goes on with {wanted} instead of {now}")
    return moved


def _wanted(connection: Connection[TupleRow], sequence: _Sequence) -> list[int]:
    if not sequence.number:
        return []
    furthest = sql.SQL("max" if sequence.step > 0 else "min")
    query = sql.SQL("SELECT {}({}) FROM {}").format(furthest, sql.Identifier(sequence.column), sql.SQL(sequence.table))
    row = connection.execute(query).fetchone()
    return [] if row is None or row[0] is None else [int(row[0]) + sequence.step]


def _owned(connection: Connection[TupleRow], oids: Collection[int]) -> list[_Sequence]:
    rows = connection.execute(_OWNED, {"oids": list(oids)}).fetchall()
    return [_Sequence(str(n), str(t), str(c), bool(i), int(s), int(low), int(high)) for n, t, c, i, s, low, high in rows]


_OWNED = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), d.refobjid::pg_catalog.regclass::text, a.attname,
  a.atttypid IN (20, 21, 23), s.seqincrement, s.seqmin, s.seqmax
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
JOIN pg_catalog.pg_class c ON c.oid = d.objid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.refobjid = ANY (%(oids)s) AND d.deptype IN ('a', 'i')
ORDER BY 1
"""
