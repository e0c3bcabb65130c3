"""The image's HEALTHCHECK: it asks the gateway of its own container."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from railway.worker.healthcheck import main
from shared.engines.process import free_port


class Gateway(BaseHTTPRequestHandler):
    """Answers /livez as it was told."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Gateway]]:
    """A gateway on PORT."""
    answering = type("Answering", (Gateway,), {})
    server = HTTPServer(("127.0.0.1", 0), answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("PORT", str(server.server_port))
    try:
        yield answering
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_gateway_that_answers_is_healthy_and_any_other_answer_is_not(
    gateway: type[Gateway], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main() == 0
    gateway.status = 503
    assert main() == 1
    assert capsys.readouterr().err == "gateway: /livez answered 503, expected 200\n"


def test_no_gateway_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    monkeypatch.setenv("PORT", str(port))
    assert main() == 1
    assert capsys.readouterr().err == f"gateway: no answer on port {port} (ConnectionRefusedError)\n"
