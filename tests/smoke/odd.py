"""A server that answers as it is told, for gateways that cannot be had: one without a key, one that streams badly."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Answer = tuple[int, Any]
"""Status, and the body: text is sent as a stream of events, everything else as JSON; a function is given what was sent."""

COMPLETION = {
    "id": "chatcmpl-1",
    "choices": [{"message": {"content": "one two"}, "finish_reason": "stop"}],
    "usage": {"total_tokens": 5},
}
MODELS = {"data": [{"model_name": "m", "model_info": {"mode": "chat"}}]}
NO_KEY = {"error": {"message": "Authentication Error, No api key passed in.", "type": "auth_error", "code": "401"}}
NO_DATABASE = {"error": {"message": "Database not connected", "type": "internal_error", "code": "500"}}


def events(*texts: str, done: bool = True) -> str:
    """A stream of these pieces."""
    pieces = [json.dumps({"choices": [{"delta": {"content": text}}]}) for text in texts]
    return "".join(f"data: {piece}\n\n" for piece in [*pieces, *(["[DONE]"] if done else [])])


class Odd:
    """A server on 127.0.0.1; who has not the key `sk-master` is refused with 401, unless `open` is set.

    Args:
        answers: by method and path, beyond those of a gateway without a database. `STREAM` is what a stream is answered with.

    Attributes:
        seen: what was asked with the key, and the body.
    """

    def __init__(self, answers: dict[str, Answer] | None = None) -> None:
        self.answers: dict[str, Answer] = {
            "GET /v1/models": (200, {"data": []}),
            "GET /model/info": (200, MODELS),
            "POST /v1/chat/completions": (200, COMPLETION),
            "STREAM": (200, events("one ", "two")),
            "POST /key/generate": (500, NO_DATABASE),
            "GET /spend/logs": (500, NO_DATABASE),
            **(answers or {}),
        }
        self.seen: list[tuple[str, Any]] = []
        self.open = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def _do(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                status, content = server.answer(f"{self.command} {self.path.split('?')[0]}", self.headers, body)
                text = isinstance(content, str)
                data = content.encode() if text else json.dumps(content).encode()
                with suppress(BrokenPipeError, ConnectionResetError):  # who asked has gone
                    self.send_response(status)
                    self.send_header("Content-Type", "text/event-stream" if text else "application/json")
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            do_GET = do_POST = do_PATCH = _do  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, what: str, headers: Any, body: Any) -> Answer:
        if headers.get("Authorization") != "Bearer sk-master" and not self.open:
            return 401, NO_KEY
        self.seen.append((what, body))
        if isinstance(body, dict) and body.get("stream"):
            return self.answers["STREAM"]
        status, content = self.answers.get(what, (404, {"detail": "Not Found"}))
        return status, content(body) if callable(content) else content

    def asked(self, what: str) -> list[Any]:
        """The bodies of all requests of this method and path."""
        return [body for name, body in self.seen if name == what]

    def __enter__(self) -> Odd:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
