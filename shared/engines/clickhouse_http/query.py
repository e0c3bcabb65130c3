"""One query: what a request asks for, run on the engine, its result in pieces."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace

from shared.engines.clickhouse_http.body import Body
from shared.engines.clickhouse_http.connection import Connection, Context, Result
from shared.engines.clickhouse_http.database import Database
from shared.engines.clickhouse_http.errors import READONLY, SYNTAX_ERROR, ClickHouseError
from shared.engines.clickhouse_http.statement import parse, quote

__all__ = ["Progress", "Query"]

_HEAD_BYTES = 1 << 18  # ClickHouse's own limit for an INSERT without its data (max_query_size)
_STATEMENT_LIMIT = 1 << 28
_PIECE = 1 << 20
# chDB encodes every piece of a stream on its own: these formats have neither header nor footer, so that pieces join up.
_JOINABLE = {
    "native",
    "rowbinary",
    "csv",
    "tsv",
    "tsvraw",
    "tabseparated",
    "tabseparatedraw",
    "jsoneachrow",
    "jsonlines",
    "ndjson",
    "jsonstringseachrow",
    "jsoncompacteachrow",
    "jsoncompactstringseachrow",
    "lineasstring",
    "rawblob",
}
_ADD_FOOTERS = {"extremes", "output_format_json_array_of_rows"}


@dataclass
class Progress:
    """Counts for X-ClickHouse-Summary."""

    started: int = field(default_factory=time.monotonic_ns)
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0

    def add(self, piece: Result, data: bytes) -> None:
        """Take in a piece of a result."""
        self.read_rows = max(self.read_rows, piece.storage_rows_read())
        self.read_bytes = max(self.read_bytes, piece.storage_bytes_read())
        self.written_rows += piece.rows_written()
        self.written_bytes += piece.bytes_written()
        self.result_rows += piece.rows_read()
        self.result_bytes += len(data)

    def summary(self) -> str:
        """As ClickHouse writes it: JSON with numbers as strings."""
        counts = {
            "read_rows": self.read_rows,
            "read_bytes": self.read_bytes,
            "written_rows": self.written_rows,
            "written_bytes": self.written_bytes,
            "total_rows_to_read": self.read_rows,
            "result_rows": self.result_rows or self.written_rows,
            "result_bytes": self.result_bytes or self.written_bytes,
            "elapsed_ns": time.monotonic_ns() - self.started,
        }
        return json.dumps({name: str(count) for name, count in counts.items()}, separators=(",", ":"))


class Query:
    """A statement with its data, parameters and context.

    Args:
        body: the statement, and after it the data of an INSERT.
        context: without `stateful`, which the statement decides.
        parameters: values of `{name:Type}`, escaped as in TSV.
        default_format: of a result whose statement names none.
    Raises:
        ClickHouseError: the statement is not one that can be sent here.
    """

    def __init__(self, body: Body, context: Context, parameters: Mapping[str, str], default_format: str) -> None:
        text = body.peek(_HEAD_BYTES)
        self.statement = parse(text)
        if self.statement.data_at is None and len(text) >= _HEAD_BYTES:
            self.statement = parse(body.whole(_STATEMENT_LIMIT))
        if not self.statement.verb:
            raise ClickHouseError(SYNTAX_ERROR, "Empty query")
        settings = dict(context.settings)
        # The engine never takes `readonly` back from a connection, and a session's connection has other requests to serve.
        read_only = context.session is not None and settings.pop("readonly", "0") != "0"
        if read_only and not self.statement.changes_nothing:
            raise ClickHouseError(READONLY, "Cannot execute query in readonly mode")
        self.context = replace(context, settings=settings, stateful=self.statement.verb in ("SET", "USE"))
        self.format = self.statement.format or default_format
        self.progress = Progress()
        self._body = body
        self._parameters = parameters

    def run(self, database: Database) -> Generator[bytes, None, None]:
        """Run it and yield its result. Closing the iterator cancels it.

        Raises:
            ClickHouseError: at any time; an INSERT then has written none of its data, or whole blocks of it.
        """
        with database.connection(self.context) as connection:
            if self.statement.data_at is not None and not self._parameters:
                self._insert(connection)
                return
            sql = self._body.whole(_STATEMENT_LIMIT).decode(errors="surrogateescape")
            if self.statement.verb == "KILL":
                sql = _with_engine_ids(sql, database.engine_ids())
            if self._may_stream():
                yield from self._stream(connection, sql)
            else:
                yield from self._at_once(connection, sql)

    def _may_stream(self) -> bool:
        return (
            self.statement.may_stream
            and self.format.lower() in _JOINABLE
            and not self.statement.totals
            and not _ADD_FOOTERS & self.context.settings.keys()
        )

    def _insert(self, connection: Connection) -> None:
        # The line feed ends a comment: the engine appends words of its own.
        inserter = connection.send_insert(self.statement.head.decode() + "\n", self.format)
        try:
            for piece in self._body.rest(self.statement.data_at or 0):
                if piece:
                    inserter.append(piece)
            done = inserter.finish()
        except BaseException:
            inserter.cancel()
            raise
        self.progress.written_rows, self.progress.written_bytes = done.rows_written, done.bytes_written

    def _stream(self, connection: Connection, sql: str) -> Iterator[bytes]:
        stream = connection.send_query(sql, self.format, self._parameters)
        try:
            while (piece := next(stream, None)) is not None:
                data = piece.bytes()
                self.progress.add(piece, data)
                yield data
        finally:
            stream.cancel()

    def _at_once(self, connection: Connection, sql: str) -> Iterator[bytes]:
        result = connection.query(sql, self.format, self._parameters)
        data = result.bytes()
        self.progress.add(result, data)
        for start in range(0, len(data), _PIECE):
            yield data[start : start + _PIECE]


def _with_engine_ids(sql: str, ids: Mapping[str, str]) -> str:
    for query_id, engine_id in ids.items():
        sql = sql.replace(quote(query_id), quote(engine_id))
    return sql
