"""HTTP in front of the endpoint, in threads of this program."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shared.engines.process import free_port
from shared.sandbox.railway_api.endpoint import PATH, Answer, Endpoint

__all__ = ["ApiServer"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST at once


class ApiServer:
    """Listens on 127.0.0.1 from `start` to `stop`.

    Args:
        port: default a free one.
    """

    host = "127.0.0.1"

    def __init__(self, endpoint: Endpoint, *, port: int | None = None) -> None:
        self._endpoint = endpoint
        self.port = free_port() if port is None else port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where documents are posted to."""
        return f"http://{self.host}:{self.port}{PATH}"

    def start(self) -> None:
        """Listen."""
        self._server = _Server((self.host, self.port), self._endpoint)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="railway api", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    server: _Server

    def do_POST(self) -> None:
        """A document. The connection is closed after each, so that `stop` leaves none that would still be served."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != PATH:
            self._send(Answer(404, "Not Found"))
            return
        answer = self.server.endpoint.answer({name.lower(): value for name, value in self.headers.items()}, body)
        if answer.is_cut:
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.close()
            return
        self._send(answer)

    def do_GET(self) -> None:
        """Nothing is there."""
        self._send(Answer(404, "Not Found"))

    def _send(self, answer: Answer) -> None:
        is_json = not isinstance(answer.body, str)
        content = (json.dumps(answer.body) if is_json else answer.body).encode()
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json" if is_json else "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        with contextlib.suppress(ConnectionError):  # the client has not waited
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - name of the base class
        """Nothing: what came is kept."""
