"""The content of ClickHouse tables as numbers, and whether a copy holds what the manifest says.

A table's checksum is the sum, modulo 2^64, of a hash of every row: the order of rows and parts does not matter, duplicates
count. The hash is `cityHash64(tuple(...))` over the stored columns, ALIAS and EPHEMERAL ones left out. Without `tuple` a
single NULL makes the whole row vanish from the sum (measured). Reading every column is also the only thing that notices a
flipped byte: RESTORE and count() do not (facts: anchors.md 0.3).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from blocks.clickhouse_client import ClickHouseClient, StatementFailed, identifier, literal
from flows.backup.manifest import ClickHouseDatabase, ClickHouseTable, TableContent
from flows.compare.clickhouse_tables import Table, consumes, inventory, is_inner, stored_in
from flows.compare.differences import Difference

__all__ = ["Content", "compare_database", "part_contents", "row_expressions", "whole_content"]

CHECKSUM_MODULUS = 1 << 64

READING: Mapping[str, str | int] = {
    "final": 0,
    "limit": 0,
    "offset": 0,
    "max_execution_time": 0,
    "max_rows_to_read": 0,
    "max_bytes_to_read": 0,
    "max_result_rows": 0,
    "apply_deleted_mask": 1,
    "apply_mutations_on_fly": 0,
    "optimize_trivial_count_query": 0,
    "optimize_use_projections": 0,
    "optimize_use_implicit_projections": 0,
    "use_query_cache": 0,
    "additional_table_filters": "{}",
    "session_timezone": "UTC",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_denormals": 1,
    "output_format_json_quote_decimals": 1,
    "cancel_http_readonly_queries_on_client_close": 1,
}
"""What a profile could set that would change what is read or how it prints; rows are counted by reading, not from metadata."""


@dataclass(frozen=True)
class Content:
    """Rows and checksum of a table or a part."""

    rows: int
    checksum: int

    def __add__(self, other: Content) -> Content:
        return Content(self.rows + other.rows, (self.checksum + other.checksum) % CHECKSUM_MODULUS)


NOTHING = Content(0, 0)


def row_expressions(client: ClickHouseClient, database: str) -> dict[str, str]:
    """Return, for every table of a database, the expression whose sum is its checksum.

    Two tables with the same expression have the same columns, of the same types, in the same order.
    """
    rows = client.rows(
        "SELECT table, name, type FROM system.columns WHERE database = {database:String} "
        "AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') ORDER BY table, position",
        {"database": database},
    )
    return {
        str(table): row_expression((str(name), str(kind)) for _, name, kind in columns)
        for table, columns in groupby(rows, key=lambda row: row[0])
    }


def row_expression(columns: Iterable[tuple[str, str]]) -> str:
    """Compose the hash of a row.

    Args:
        columns: name and type of every stored column, in order.
    """
    return f"cityHash64(tuple({', '.join(_hashable(identifier(name), kind) for name, kind in columns)}))"


def _hashable(column: str, kind: str) -> str:
    """Say how a column enters the hash: as it is, or as text with its type where the engine's hash is not told to be stable."""
    if kind.startswith("AggregateFunction("):
        return f"toString({column})"  # the serialised state
    if kind.startswith("JSON"):
        return f"toJSONString({column}), JSONAllPathsWithTypes({column})"
    if kind.startswith("Dynamic"):
        return f"toString({column}), dynamicType({column})"
    if kind.startswith("Variant("):
        return f"toString({column}), toString(variantType({column}))"
    if re.search(r"\b(JSON|Dynamic|Variant|Object)\b", kind):
        return f"toJSONString({column})"
    return column


def part_contents(
    client: ClickHouseClient,
    table: Table,
    expression: str,
    parts: Collection[str],
    *,
    threads: int = 0,
    query_id: str | None = None,
) -> dict[str, Content]:
    """Read parts of a table and return the content of each that is there.

    Args:
        table: of the MergeTree family. expression: from `row_expressions`. parts: names; nothing else is read.
        threads: at most so many on the server; 0 leaves it to the server. query_id: to kill it by.
    """
    if not parts:
        return {}
    settings = dict(READING) | ({"max_threads": threads} if threads else {}) | ({"query_id": query_id} if query_id else {})
    names = ", ".join(literal(part) for part in sorted(parts))
    rows = client.rows(
        f"SELECT _part, count(), sum({expression}) FROM {table.sql} WHERE _part IN ({names}) GROUP BY _part", settings=settings
    )
    return {str(part): Content(int(count), int(checksum)) for part, count, checksum in rows}


def whole_content(client: ClickHouseClient, table: Table, expression: str) -> Content:
    """Read a whole table."""
    row = client.row(f"SELECT count(), sum({expression}) FROM {table.sql}", settings=READING)
    return NOTHING if row is None else Content(int(row[0]), int(row[1]))


def compare_database(
    client: ClickHouseClient,
    component: ClickHouseDatabase,
    database: str,
    *,
    tables: Collection[str] | None = None,
    merged_since: bool = False,
) -> list[Difference]:
    """Compare a copy of a database with what the manifest says of it: definitions, and every value of every row.

    Args:
        component: what was backed up. database: the copy.
        tables: only these; None for all, and then further ones in the copy are differences too.
        merged_since: merges have been running on the copy. Engines that drop or sum up rows when they merge
            (ReplacingMergeTree and the like) are then only read in full and required to hold no more rows than recorded:
            enough to look at a live database after a restore, no proof.
    Returns: every difference, named; empty when the copy is equal.
    """
    return _Comparison(client, component, database, merged_since=merged_since).run(tables)


class _Comparison:
    def __init__(self, client: ClickHouseClient, component: ClickHouseDatabase, database: str, *, merged_since: bool) -> None:
        self._client = client
        self._component = component
        self._database = database
        self._merged_since = merged_since
        self._found = inventory(client, database)
        self._expressions = row_expressions(client, database)
        self._differences: list[Difference] = []

    def run(self, only: Collection[str] | None) -> list[Difference]:
        expected = {table.name: table for table in self._component.tables if only is None or table.name in only}
        engines = {name: table.engine for name, table in expected.items()}
        absent = consumes(engines, {name: table.ddl for name, table in expected.items()}, self._component.name)
        for name, table in sorted(expected.items()):
            if name in self._found:
                self._compare(table)
            elif name not in absent:
                self._note(name, table.engine, "nothing")
        if only is None:
            for name in sorted(self._found.keys() - expected.keys()):
                if not is_inner(name):
                    self._note(name, "nothing", self._found[name].engine)
        return self._differences

    def _compare(self, table: ClickHouseTable) -> None:
        expected, found = self._one_form(table.ddl), self._one_form(self._renamed(self._found[table.name].ddl))
        if expected != found:
            self._note(f"{table.name}: definition", expected, found)
        if table.content is None or table.content.method != "full":
            return
        place = stored_in(self._found, table.name)
        if place is None:
            self._note(f"{table.name}: rows", str(table.content.rows), "a table without rows of its own")
            return
        try:
            content = whole_content(self._client, place, self._expressions[place.name])
        except StatementFailed as error:
            if not error.permanent:
                raise
            self._note(table.name, f"{table.content.rows} readable rows", f"unreadable: {error}")
            return
        self._compare_content(table.name, place.engine, table.content, content)

    def _compare_content(self, name: str, engine: str, expected: TableContent, found: Content) -> None:
        if self._merged_since and _merging_changes_rows(engine):
            if found.rows > expected.rows or (expected.rows > 0 and found.rows == 0):
                self._note(f"{name}: rows", f"at most {expected.rows}, merged", str(found.rows))
        elif found.rows != expected.rows:
            self._note(f"{name}: rows", str(expected.rows), str(found.rows))
        elif str(found.checksum) != expected.checksum:
            self._note(
                f"{name}: content", f"{expected.rows} rows with checksum {expected.checksum}", f"checksum {found.checksum}"
            )

    def _note(self, where: str, expected: str, found: str) -> None:
        name = f"clickhouse {self._component.name}"
        self._differences.append(Difference(name, f"table {where}", expected, found))

    def _renamed(self, ddl: str) -> str:
        """Write a definition as it would be in the database that was backed up."""
        return with_database(ddl, self._database, self._component.name)

    def _one_form(self, ddl: str) -> str:
        """Let one server print both definitions: two versions break lines and quote names differently."""
        row = self._client.row(f"SELECT formatQuerySingleLine({literal(ddl)})")
        return str(row[0]) if row else ddl


def with_database(ddl: str, old: str, new: str) -> str:
    """Put another database's name into a definition.

    Args:
        ddl: as ClickHouse prints it. old: so distinctive that it stands for nothing else. new: what is put there.
    """
    if old == new:
        return ddl
    ddl = ddl.replace(literal(old), literal(new)).replace(identifier(old), identifier(new))
    return re.sub(rf"(?<![\w`'.]){re.escape(old)}(?=\.)", lambda _: _as_printed(new), ddl)


def _as_printed(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else identifier(name)


def _merging_changes_rows(engine: str) -> bool:
    return engine.endswith("MergeTree") and engine.removeprefix("Replicated").removeprefix("Shared") != "MergeTree"
