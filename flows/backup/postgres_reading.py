"""Reading what is in a database while pg_dump runs, and a dump that ends only when that has ended well."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, cast

import psycopg

from blocks.errors import BackupFailed
from blocks.postgres import explained
from flows.backup.manifest import DatabaseProperties, LargeObjects, TableContent
from flows.backup.postgres_snapshot import Frozen
from flows.compare.postgres_catalogue import catalogue
from flows.compare.postgres_content import large_objects, table_contents
from flows.compare.postgres_properties import database_properties, database_size, extensions, needed_roles, not_taken

CANCEL_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Content:
    """What a database holds at the frozen moment, but for its tables' rows."""

    bytes: int
    properties: DatabaseProperties
    extensions: dict[str, str]
    roles: list[str]
    not_taken: list[str]
    large_objects: LargeObjects
    catalogue: dict[str, str]


class Reading:
    """Reads content and catalogue of a frozen moment in threads of its own. A context manager; leaving it ends the threads.

    Args:
        frozen: the moment. database: for messages. checksums: False only counts rows. progress: is told about large tables.
        on_failure: called from such a thread when it fails, so that nobody waits for a dump that is worth nothing.
    """

    def __init__(
        self, frozen: Frozen, database: str, *, checksums: bool, progress: Callable[[str], None], on_failure: Callable[[], None]
    ) -> None:
        self._frozen, self._database, self._checksums = frozen, database, checksums
        self._progress, self._on_failure = progress, on_failure
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="content")

    def __enter__(self) -> Reading:
        self._content: Future[Content] = self._pool.submit(self._told, self._read_content)
        self._tables: Future[list[TableContent]] = self._pool.submit(self._told, self._read_tables)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if not (self._content.done() and self._tables.done()):
            for connection in (self._frozen.holder, *self._frozen.readers):
                with suppress(psycopg.Error):  # it is closed or gone, which is all that is wanted
                    connection.cancel_safe(timeout=CANCEL_TIMEOUT_S)
        self._pool.shutdown()

    def check(self) -> None:
        """Raise what a thread has failed with."""
        for job in (self._content, self._tables):
            if job.done():
                job.result()

    def wait(self) -> tuple[Content, list[TableContent]]:
        """Wait for the end and return what was read; raise what a thread has failed with."""
        return self._content.result(), self._tables.result()

    def _told(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except BaseException:
            self._stop.set()
            self._on_failure()
            raise

    def _read_tables(self) -> list[TableContent]:
        with explained(self._database, "read tables"):
            readers, tables = self._frozen.readers, self._frozen.tables
            return table_contents(readers, tables, checksums=self._checksums, progress=self._progress, stop=self._stop)

    def _read_content(self) -> Content:
        holder = self._frozen.holder
        with explained(self._database, "read large objects"):
            objects = large_objects(holder)
        with explained(self._database, "read the catalogue"):
            return Content(
                bytes=database_size(holder),
                properties=database_properties(holder, self._database),
                extensions=extensions(holder),
                roles=needed_roles(holder),
                not_taken=not_taken(holder),
                large_objects=objects,
                catalogue=catalogue(holder),
            )


class Guarded(io.RawIOBase):
    """A dump on its way: breaks off when reading content has failed, and ends only when `at_end` is content.

    Args:
        dump: pg_dump's output. check: raises when reading content has failed. at_end: raises when the end is no good end.
    """

    def __init__(self, dump: IO[bytes], check: Callable[[], None], at_end: Callable[[], None]) -> None:
        super().__init__()
        self._dump, self._check, self._at_end = dump, check, at_end
        self._ended = False

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from the dump; 0 only after `at_end`."""
        self._check()
        try:
            count = cast(io.BufferedReader, self._dump).readinto1(buffer)
        except BackupFailed:
            self._check()  # if pg_dump was killed because reading content failed, say what that failed with
            raise
        if count == 0 and not self._ended:
            self._at_end()
            self._ended = True
        return count

    def close(self) -> None:
        """End the dump if it still runs."""
        self._dump.close()
        super().close()
