"""ClickHouse's HTTP interface: what arrives, who sends it, and what goes back."""

from __future__ import annotations

import logging
import re
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from shared.engines.clickhouse_http.body import raw_body
from shared.engines.clickhouse_http.database import Database
from shared.engines.clickhouse_http.errors import ClickHouseError
from shared.engines.clickhouse_http.query import Query
from shared.engines.clickhouse_http.request import Account, read_query
from shared.engines.clickhouse_http.watch import Watch

__all__ = ["Server"]

_LOG = logging.getLogger(__name__)
_SPOOL_BYTES = 1 << 22
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_CONTENT_TYPES = {
    "json": "application/json; charset=UTF-8",
    "jsoncompact": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "native": "application/octet-stream",
    "rowbinary": "application/octet-stream",
    "parquet": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
}


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1; a thread for each connection.

    Args:
        port: to listen on.
        database: the engine.
        account: who may use it.
        temporary: directory for results that are kept until the query has ended.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, database: Database, account: Account, temporary: Path) -> None:
        self.database = database
        self.account = account
        self.temporary = temporary
        self.watch = Watch(database.kill)
        super().__init__(("127.0.0.1", port), Handler)

    def server_close(self) -> None:
        """Stop listening and watching."""
        self.watch.close()
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that broke is the client's business; anything else is a defect to see in the log."""
        error = sys.exception()
        if isinstance(error, (ConnectionError, TimeoutError)):
            _LOG.debug("connection from %s: %s", client_address, error)
        else:
            _LOG.error("connection from %s", client_address, exc_info=error)


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 600.0  # seconds a client may send or take nothing
    server: Server
    _answered = False

    def do_GET(self) -> None:
        """Health, or a query that may only read."""
        path = urlsplit(self.path).path
        if path in ("/ping", "/replicas_status") or self.path == "/":
            self._plain(HTTPStatus.OK, b"Ok.\n")
        else:
            self._query(read_only=True)

    def do_HEAD(self) -> None:
        """Health."""
        self._plain(HTTPStatus.OK, b"")

    def do_POST(self) -> None:
        """A query."""
        self._query(read_only=False)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """No access log: URLs carry passwords and data."""

    def version_string(self) -> str:
        """For the Server header."""
        return f"ClickHouse/{self.server.database.version} (chDB)"

    def send_header(self, keyword: str, value: str) -> None:
        """Send a header; what a client made up for it cannot end the line."""
        super().send_header(keyword, _UNPRINTABLE.sub("?", value))

    def _query(self, *, read_only: bool) -> None:
        url = urlsplit(self.path)
        self._answered = False
        raw = raw_body(self.rfile, self.headers)
        query_id = ""
        try:
            fields = dict(parse_qsl(url.query, keep_blank_values=True, errors="surrogateescape"))
            self.server.account.check(self.headers, fields)
            if url.path not in ("", "/"):
                self.close_connection = True  # the body is not read
                self._plain(HTTPStatus.NOT_FOUND, f"There is no handle {url.path}\n\nUse / or /ping.\n".encode())
                return
            query_id = fields.get("query_id") or str(uuid.uuid4())
            query = read_query(self.headers, fields, raw, query_id, read_only=read_only)
            with closing(query.run(self.server.database)) as pieces, self._watched(query):
                if fields.get("wait_end_of_query") in ("1", "true"):
                    self._send_whole(query, pieces)
                else:
                    self._send_stream(query, pieces)
        except (ConnectionError, TimeoutError) as error:
            _LOG.info("query %s: the client has gone: %s", query_id, error)
            self.close_connection = True
        except (ClickHouseError, RuntimeError, ValueError) as error:
            self._fail(ClickHouseError.of(error), query_id, raw)

    def _watched(self, query: Query) -> AbstractContextManager[None]:
        """Kill a query that only reads when its client goes, if the client wants it so."""
        if query.statement.may_stream and query.context.settings.get("cancel_http_readonly_queries_on_client_close") == "1":
            return self.server.watch.watching(query.context.query_id, self.connection)
        return nullcontext()

    def _send_whole(self, query: Query, pieces: Iterator[bytes]) -> None:
        """Keep the result until the query has ended, so that a late failure is a proper error."""
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(self.server.temporary)) as spool:
            for piece in pieces:
                spool.write(piece)
            length = spool.tell()
            spool.seek(0)
            self._start(query, with_format=bool(length) or query.statement.has_result)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            while data := spool.read(1 << 20):
                self.wfile.write(data)

    def _send_stream(self, query: Query, pieces: Iterator[bytes]) -> None:
        """Send the result as it comes. What fails before the first piece is a proper error."""
        first = next(pieces, b"")
        tag = uuid.uuid4().hex[:16]
        self._start(query, with_format=bool(first) or query.statement.has_result)
        chunked = self.request_version != "HTTP/1.0"
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.close_connection = True
        self.send_header("X-ClickHouse-Exception-Tag", tag)
        self.end_headers()
        try:
            piece = first
            while piece:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                piece = next(pieces, b"")
        except (ClickHouseError, RuntimeError) as error:
            self._break_off(ClickHouseError.of(error), tag, chunked=chunked)
            return
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _break_off(self, error: ClickHouseError, tag: str, *, chunked: bool) -> None:
        """Fail in the middle of a result: the text in a marked block, and no last chunk.

        Source of the block: WriteBufferFromHTTPServerResponse.cpp since 25.11.
        """
        text, mark = self._text(error), tag.encode()
        block = b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (mark, text, len(text), mark)
        self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
        self.close_connection = True

    def _fail(self, error: ClickHouseError, query_id: str, raw: Iterator[bytes]) -> None:
        """Answer with an error, after what is left of the request: a client that still sends would miss the answer."""
        if self._answered:
            self.close_connection = True
            return
        try:
            for _ in raw:
                continue
        except (ClickHouseError, OSError):
            self.close_connection = True
        headers = {"X-ClickHouse-Exception-Code": str(error.code)}
        if query_id:
            headers["X-ClickHouse-Query-Id"] = query_id
        self._plain(error.status, self._text(error), headers)

    def _text(self, error: ClickHouseError) -> bytes:
        version = "" if "(version " in error.text else f" (version {self.server.database.version})"
        return f"{error.text}{version}\n".encode(errors="replace")

    def _start(self, query: Query, *, with_format: bool) -> None:
        self._answered = True
        self.send_response(HTTPStatus.OK)
        if with_format:
            self.send_header("X-ClickHouse-Format", query.format)
        self.send_header("Content-Type", _CONTENT_TYPES.get(query.format.lower(), "text/plain; charset=UTF-8"))
        self.send_header("X-ClickHouse-Query-Id", query.context.query_id)
        timezone = query.context.settings.get("session_timezone", self.server.database.timezone)
        self.send_header("X-ClickHouse-Timezone", timezone)
        self.send_header("X-ClickHouse-Summary", query.progress.summary())
        self._send_names()

    def _plain(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._answered = True
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self._send_names()
        self.end_headers()
        self.wfile.write(body)

    def _send_names(self) -> None:
        self.send_header("X-ClickHouse-Server-Display-Name", "sandbox")
        if self.close_connection:
            self.send_header("Connection", "close")
