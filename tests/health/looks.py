"""Looking at one thing: targets with nothing else in them, and servers that answer as they are told, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flows.health.observation import Observation, Status
from flows.health.observe import observe
from flows.health.targets import Targets

__all__ = ["Scripted", "Seen", "look", "silent_port"]

CANARY = "canary-7d3f"


class Seen(dict[str, Observation]):
    """Observations by aspect, of one service."""

    def bad(self) -> dict[str, Status]:
        """What is not ok."""
        return {aspect: one.status for aspect, one in self.items() if one.status is not Status.OK}

    def sentence(self, aspect: str) -> str:
        """What was said of an aspect."""
        return self[aspect].sentence


def look(targets: Targets, service: str) -> Seen:
    """Look once, as a sweep does.

    Returns: what was seen of one service.
    """
    found = asyncio.run(observe(targets))
    for one in found:
        assert CANARY not in one.sentence
        assert "127.0.0.1" not in one.sentence
        assert "\n" not in one.sentence
    return Seen({one.aspect: one for one in found if one.service == service})


class Scripted:
    """An HTTP server whose answers the test chooses: path, or path with query -> status and body.

    Attributes:
        keyed: answers to those who show a key. put: answer to every PUT. hold: paths whose answers
            wait for an event.
        asked: every path that was asked for, with its query.
    """

    def __init__(self, answers: Mapping[str, tuple[int, str]], *, port: int = 0) -> None:
        self.answers = dict(answers)
        self.keyed: dict[str, tuple[int, str]] = {}
        self.put = (200, "")
        self.hold: dict[str, threading.Event] = {}
        self.asked: list[str] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                script.asked.append(self.path)
                if self.path in script.hold:
                    script.hold[self.path].wait(10)
                keyed = script.keyed if "Authorization" in self.headers else {}
                path = self.path.partition("?")[0]
                candidates = (keyed.get(self.path), keyed.get(path), script.answers.get(self.path), script.answers.get(path))
                self._answer(*next((one for one in candidates if one), (404, "{}")))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(*script.put)

            def _answer(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Scripted:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are accepted by the kernel and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]
