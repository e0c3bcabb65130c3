"""The few routes of Prefect's API that a text in variables needs, for tests of what is read while it is written."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from prefect.settings import PREFECT_API_URL, temporary_settings


class Variables(ThreadingHTTPServer):
    """Variables in memory.

    Attributes:
        values: by name. earlier: values that the next readers of a name still get, oldest first.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.values: dict[str, Any] = {}
        self.earlier: dict[str, list[Any]] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Variables
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self._name()
        if not name:
            self._answer(404)
        elif waiting := self.server.earlier.get(name):
            self._answer(200, self._variable(name, waiting.pop(0)))
        elif name in self.server.values:
            self._answer(200, self._variable(name, self.server.values[name]))
        else:
            self._answer(404)

    def do_PATCH(self) -> None:
        name, body = self._name(), self._body()
        known = name in self.server.values
        if known:
            self.server.values[name] = body["value"]
        self._answer(204 if known else 404)

    def do_POST(self) -> None:
        body = self._body()
        if not self.path.endswith("/variables/"):
            self._answer(404)
            return
        self.server.values[body["name"]] = body["value"]
        self._answer(201, self._variable(body["name"], body["value"]))

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _name(self) -> str:
        return self.path.partition("/variables/name/")[2]

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"null")

    def _variable(self, name: str, value: Any) -> dict[str, Any]:
        return {"id": str(uuid4()), "name": name, "value": value}

    def _answer(self, status: int, document: object = None) -> None:
        body = b"" if status == 204 else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def variables() -> Iterator[Variables]:
    """Serve variables on 127.0.0.1 as Prefect's API of this process."""
    with Variables() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_address[1]}/api"}):
                yield server
        finally:
            server.shutdown()
            thread.join(10)
