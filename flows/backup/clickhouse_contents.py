"""What the live tables hold, read while their backup runs: only the parts that nobody has read before.

A part never changes. Which parts a backup holds is known when it is done, but merges are stopped, so what is there at its
beginning is still there at its end, and most of the reading overlaps with the upload. Parts that the previous backup's index
knows under the same identity (a hash of all their files, which ClickHouse keeps) are not read again.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from blocks.clickhouse_client import ClickHouseClient, literal
from blocks.errors import ServiceError
from flows.backup.clickhouse_files import Index, PartContent, TableParts
from flows.backup.clickhouse_operation import Progress
from flows.backup.manifest import TableContent
from flows.compare.clickhouse_content import Content, part_contents, row_expressions, whole_content
from flows.compare.clickhouse_tables import Table

__all__ = ["ContentReader", "reading"]

THREADS = 2
"""Threads on the server for reading; the upload beside it is what takes time, and people's queries come first."""

_ABANDONED_WITHIN = 30.0


@dataclass(frozen=True)
class _Part:
    rows: int
    identity: str
    has_deleted_rows: bool


class ContentReader:
    """Reads the content of tables while they are backed up.

    Args:
        client: for long queries, shared with whoever waits for the backup.
        tables: where the rows of each table lie, by the name under which the backup files them.
        known: index of an earlier backup, whose parts need not be read again.
        progress: told what is read.
    """

    def __init__(
        self, client: ClickHouseClient, database: str, tables: Mapping[str, Table], known: Index | None, progress: Progress
    ) -> None:
        self._client = client
        self._tables = tables
        self._known = known.tables if known else {}
        self._expressions = row_expressions(client, database)
        self._query_id = f"content-{uuid.uuid4()}"
        self._stop = threading.Event()
        self._progress = progress
        self._parts: dict[str, dict[str, PartContent]] = {name: {} for name, table in tables.items() if table.in_parts}
        self._whole: dict[str, Content] = {}

    def read_ahead(self) -> None:
        """Read everything that is there now; returns early when `abandon` is called."""
        for name, table in self._tables.items():
            if self._stop.is_set():
                return
            if table.in_parts:
                self._read_parts(name, self._active(table))
            else:
                self._whole[name] = whole_content(self._client, table, self._expressions[table.name])

    def abandon(self) -> None:
        """End a `read_ahead` in another thread soon: its query is killed on the server."""
        self._stop.set()
        try:
            self._client.command(f"KILL QUERY WHERE startsWith(query_id, {literal(self._query_id)}) ASYNC")
        except ServiceError as error:
            self._progress(f"could not end a reading query: {error}")

    def contents(self, parts: Mapping[str, set[str]]) -> tuple[dict[str, TableContent], dict[str, TableParts]]:
        """Return what the backup holds, now that its parts are known.

        Args:
            parts: of each table, as the backup's own list has them.
        Returns: the content of every table that could be read consistently, and of their parts for the index.
        Raises:
            ServiceError: parts vanished before they were read (not permanent); or a row policy hides rows.
        """
        found: dict[str, TableContent] = {}
        index: dict[str, TableParts] = {}
        for name, table in self._tables.items():
            wanted = parts.get(name, set())
            if table.in_parts:
                index[name] = self._complete(name, table, wanted)
                total = _sum(index[name])
                found[name] = TableContent(name=name, method="full", rows=total.rows, checksum=str(total.checksum))
            elif name in parts:
                again = whole_content(self._client, table, self._expressions[table.name])
                if again == self._whole[name]:  # nobody wrote, so this is what was backed up
                    found[name] = TableContent(name=name, method="full", rows=again.rows, checksum=str(again.checksum))
        return found, index

    def _complete(self, name: str, table: Table, wanted: set[str]) -> TableParts:
        missing = wanted - self._parts[name].keys()
        if missing:
            there = self._active(table)
            self._read_parts(name, {part: there[part] for part in missing & there.keys()})
        vanished = sorted(wanted - self._parts[name].keys())
        if vanished:
            raise ServiceError(
                f"clickhouse: table {table.sql}: {len(vanished)} parts of the backup ({vanished[0]}) vanished before they were "
                "read; somebody dropped a partition or truncated the table; trying again takes a new backup"
            )
        parts = {part: self._parts[name][part] for part in sorted(wanted)}
        return TableParts(expression=self._expressions[table.name], parts=parts)

    def _read_parts(self, name: str, there: Mapping[str, _Part]) -> None:
        table = self._tables[name]
        fresh = {part: facts for part, facts in there.items() if not self._reuse(name, part, facts)}
        read = part_contents(
            self._client,
            table,
            self._expressions[table.name],
            fresh,
            threads=THREADS,
            query_id=f"{self._query_id}-{uuid.uuid4()}",
        )
        for part, content in read.items():
            facts = fresh[part]
            if content.rows < facts.rows and not facts.has_deleted_rows:
                raise ServiceError(
                    f"clickhouse: table {table.sql}: {content.rows} of {facts.rows} rows of a part are visible; a row "
                    "policy hides the others, but not from the backup; give the backup user one that shows all rows",
                    permanent=True,
                )
            self._parts[name][part] = PartContent(rows=content.rows, checksum=str(content.checksum), identity=facts.identity)
        empty = {part for part, facts in fresh.items() if facts.rows == 0}
        for part in empty - read.keys():  # a part that deletions have emptied yields no group
            self._parts[name][part] = PartContent(rows=0, checksum="0", identity=fresh[part].identity)

    def _reuse(self, name: str, part: str, facts: _Part) -> bool:
        known = self._known.get(name)
        if known is None or known.expression != self._expressions[self._tables[name].name]:
            return False
        content = known.parts.get(part)
        if content is None or not facts.identity or content.identity != facts.identity:
            return False
        self._parts[name][part] = content
        return True

    def _active(self, table: Table) -> dict[str, _Part]:
        rows = self._client.rows(
            "SELECT name, rows, hash_of_all_files, has_lightweight_delete FROM system.parts "
            "WHERE database = {database:String} AND table = {table:String} AND active",
            {"database": table.database, "table": table.name},
        )
        found = {str(name): _Part(int(count), str(identity), bool(deleted)) for name, count, identity, deleted in rows}
        if any(name.startswith("patch-") for name in found):  # lightweight updates: reading a part shows more than its files
            return {name: _Part(part.rows, "", part.has_deleted_rows) for name, part in found.items()}
        return found


@contextmanager
def reading(reader: ContentReader) -> Iterator[Future[None]]:
    """Let `reader` read ahead in a thread while the body runs; when the body fails, the reading is ended.

    Yields: the reading, to wait for.
    """
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clickhouse-content")
    ahead = pool.submit(reader.read_ahead)
    try:
        yield ahead
    except BaseException:
        reader.abandon()
        wait([ahead], timeout=_ABANDONED_WITHIN)
        raise
    finally:
        pool.shutdown(wait=False)


def _sum(table: TableParts) -> Content:
    total = Content(0, 0)
    for part in table.parts.values():
        total += Content(part.rows, int(part.checksum))
    return total
