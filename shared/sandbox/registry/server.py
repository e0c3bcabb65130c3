"""HTTP in front of the registries' answers, in threads of this program, and what can be done to disturb it."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from shared.engines.process import free_port
from shared.sandbox.railway_runtime.catalogue import Catalogue
from shared.sandbox.registry.answers import Answer, Answers

__all__ = ["Disturbance", "RegistryDouble"]

Disturbance = Literal["rate-limit", "error", "not-json"]
"""429; 503; an answer of 200 that is no JSON."""

_DISTURBED = {
    "rate-limit": Answer(429, b'{"errors":[{"code":"TOOMANYREQUESTS"}]}', {"Retry-After": "30"}),
    "error": Answer(503, b"upstream connect error", content_type="text/plain"),
    "not-json": Answer(200, b"<html>maintenance</html>", content_type="text/html"),
}


class RegistryDouble:
    """All registries on one port of 127.0.0.1. A context manager.

    Args:
        catalogue: the images that they have, see `railway_runtime`: its `publish` and `withdraw` are seen here at once.
        port: default a free one.
    Attributes:
        requests: method and path of everything that came, oldest first.
        answers: what is answered; its `private` and `page` may be changed.
    """

    host = "127.0.0.1"

    def __init__(self, catalogue: Catalogue, *, port: int | None = None) -> None:
        self.port = free_port() if port is None else port
        self.answers = Answers(catalogue, self.url)
        self.requests: list[tuple[str, str]] = []
        self._disturbances: deque[Disturbance] = deque()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """`REGISTRY_URL`."""
        return f"http://{self.host}:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="registries", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def disturb(self, disturbance: Disturbance, *, times: int = 1) -> None:
        """Let the next requests go wrong, after those that are already to go wrong."""
        self._disturbances.extend([disturbance] * times)

    def calm(self) -> None:
        """Let nothing go wrong any more."""
        self._disturbances.clear()

    def handle(self, method: str, target: str, authorization: str) -> Answer:
        """Answer a request. Called by the server, from many threads."""
        self.requests.append((method, target))
        with contextlib.suppress(IndexError):
            return _DISTURBED[self._disturbances.popleft()]
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        return self.answers.token(query) if parts.path == "/token" else self.answers.answer(parts.path, query, authorization)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, registry: RegistryDouble) -> None:
        self.registry = registry
        super().__init__((registry.host, registry.port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    server: _Server

    def _handle(self) -> None:
        answer = self.server.registry.handle(self.command, self.path, self.headers.get("Authorization") or "")
        self.close_connection = True
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")  # so that stop() leaves no connection that would still be served
        with contextlib.suppress(ConnectionError):  # the client has not waited
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    do_GET = do_HEAD = _handle  # noqa: N815 - names of the base class

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - name of the base class
        """Nothing: what came is kept."""
