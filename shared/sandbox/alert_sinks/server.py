"""The HTTP server in front of the sinks, in threads of this program, and what can be done to disturb it."""

from __future__ import annotations

import secrets
import socket
import struct
import threading
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from shared.engines.process import free_port
from shared.sandbox.alert_sinks.discord import DiscordSink
from shared.sandbox.alert_sinks.exchange import Answer, Received, Request, Sink, text_answer
from shared.sandbox.alert_sinks.pagerduty import PagerDutySink
from shared.sandbox.alert_sinks.plain import HeartbeatSink, WebhookSink
from shared.sandbox.alert_sinks.slack import SlackSink, SlackWebhookSink

__all__ = ["AlertSinks", "Disturbance", "Kind", "SinkKeys"]

Kind = Literal["slack", "slack-webhook", "discord", "pagerduty", "webhook", "heartbeat"]
Disturbance = Literal["rate-limit", "error", "hang", "drop", "lost-answer"]
"""429; 500; no answer, the connection stays open; the connection is cut at once; cut after the request was carried out."""

_DISCORD_ID = "1200000000000000001"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST at once


@dataclass(frozen=True, repr=False)
class SinkKeys:
    """The secrets of the sinks.

    Attributes:
        slack_token: of the bot. slack_webhook, discord_webhook: the last parts of their URLs.
        pagerduty: 32 letters and digits. webhook: key of the HMAC. heartbeat: UUID of the check.
    """

    slack_token: str
    slack_webhook: str
    discord_webhook: str
    pagerduty: str
    webhook: str
    heartbeat: str

    @classmethod
    def generate(cls) -> Self:
        """Draw new ones."""
        return cls(
            slack_token=f"xoxb-{secrets.token_urlsafe(24)}",
            slack_webhook=secrets.token_hex(12),
            discord_webhook=secrets.token_urlsafe(48),
            pagerduty=secrets.token_hex(16),
            webhook=secrets.token_urlsafe(24),
            heartbeat=str(uuid.uuid4()),
        )


class AlertSinks:
    """Slack, Discord, PagerDuty, a webhook and a heartbeat on one port of 127.0.0.1. A context manager; `stop` and `start`
    keep the port and what came.

    Args:
        keys: default new ones. port: default a free one.
    Attributes:
        slack, slack_webhook, discord, pagerduty, webhook, heartbeat: the sinks, with what stands in them now.
    """

    host = "127.0.0.1"

    def __init__(self, keys: SinkKeys | None = None, *, port: int | None = None) -> None:
        self.keys = keys or SinkKeys.generate()
        self.port = free_port() if port is None else port
        self._slack_path = f"/services/T0SANDBOX/B0SANDBOX/{self.keys.slack_webhook}"
        self.slack = SlackSink(self.keys.slack_token, "C0SANDBOX")
        self.slack_webhook = SlackWebhookSink(self._slack_path)
        self.discord = DiscordSink(_DISCORD_ID, self.keys.discord_webhook)
        self.pagerduty = PagerDutySink(self.keys.pagerduty)
        self.webhook = WebhookSink()
        self.heartbeat = HeartbeatSink(self.keys.heartbeat)
        self._sinks: dict[str, Sink] = {
            "/slack/api/": self.slack,
            "/services/": self.slack_webhook,
            "/api/": self.discord,
            "/v2/enqueue": self.pagerduty,
            "/hook": self.webhook,
            "/ping/": self.heartbeat,
        }
        self._exchanges: list[Received] = []
        self._disturbances: dict[str, deque[tuple[Disturbance, float]]] = {one.kind: deque() for one in self._sinks.values()}
        self._lock = threading.Lock()
        self._calm = threading.Event()
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://{self.host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    def environment(self) -> dict[str, str]:
        """The variables of `blocks/settings.py` that lead here; with secrets. The webhook's takes the generic sink."""
        return {
            "SLACK_BOT_TOKEN": self.keys.slack_token,
            "SLACK_CHANNEL": self.slack.channel,
            "SLACK_API_URL": f"{self.url}/slack/api/",
            "SLACK_WEBHOOK_URL": self.url + self._slack_path,
            "DISCORD_WEBHOOK_URL": f"{self.url}/api/webhooks/{_DISCORD_ID}/{self.keys.discord_webhook}",
            "PAGERDUTY_ROUTING_KEY": self.keys.pagerduty,
            "PAGERDUTY_URL": self.url,
            "ALERT_WEBHOOK_URL": f"{self.url}/hook",
            "ALERT_WEBHOOK_SECRET": self.keys.webhook,
            "HEARTBEAT_URL": f"{self.url}/ping/{self.keys.heartbeat}",
        }

    def start(self) -> None:
        """Listen."""
        if self._server is None:
            self._calm.clear()
            self._server = _Server(self)
            threading.Thread(target=self._server.serve_forever, args=(0.05,), name="alert sinks", daemon=True).start()

    def stop(self) -> None:
        """Listen no more; requests that hang are cut. What came stays."""
        if self._server is not None:
            self._calm.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def received(self, kind: Kind | None = None) -> list[Received]:
        """What the sinks, or one of them, accepted, in order."""
        return [one for one in self.exchanges(kind) if one.accepted]

    def exchanges(self, kind: Kind | None = None) -> list[Received]:
        """All that came, accepted or not, in order."""
        with self._lock:
            return [one for one in self._exchanges if kind in (None, one.kind)]

    def disturb(self, kind: Kind, disturbance: Disturbance, *, times: int = 1, retry_after: float = 1.0) -> None:
        """Let the next requests go wrong, after those that are already to go wrong.

        Args:
            kind: of which sink. disturbance: how. times: how many requests.
            retry_after: seconds that a 429 asks to wait.
        """
        with self._lock:
            self._disturbances[kind].extend([(disturbance, retry_after)] * times)

    def calm(self) -> None:
        """Let nothing go wrong any more; requests that hang are cut."""
        with self._lock:
            for waiting in self._disturbances.values():
                waiting.clear()
        self._calm.set()
        self._calm = threading.Event()

    def clear(self) -> None:
        """Forget all that came, and let nothing go wrong any more."""
        self.calm()
        with self._lock:
            self._exchanges.clear()
            for sink in self._sinks.values():
                sink.clear()

    def handle(self, request: Request) -> Answer | None:
        """Answer a request, or None to cut its connection. Called by the server, from many threads."""
        sink = next((one for prefix, one in self._sinks.items() if request.path.startswith(prefix)), None)
        if sink is None:
            return text_answer(404, "no sink here", refused="no sink")
        with self._lock:
            waiting, calm = self._disturbances[sink.kind], self._calm
            disturbance, retry_after = waiting.popleft() if waiting else (None, 0.0)
            if disturbance in (None, "lost-answer"):
                answer = sink.answer(request)
                self._keep(sink, request, answer, status=answer.status if disturbance is None else 0)
                return answer if disturbance is None else None
            answer = sink.too_many(retry_after) if disturbance == "rate-limit" else text_answer(500, "", refused="error")
            is_answered = disturbance in ("rate-limit", "error")
            self._keep(sink, request, answer, status=answer.status if is_answered else 0)
        if disturbance == "hang":
            calm.wait()
        return answer if is_answered else None

    def _keep(self, sink: Sink, request: Request, answer: Answer, *, status: int) -> None:
        at = datetime.now(UTC)
        self._exchanges.append(Received(sink.kind, at, request, answer.payload, status, answer.refused))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, sinks: AlertSinks) -> None:
        self.sinks = sinks
        super().__init__((sinks.host, sinks.port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    server: _Server

    def _handle(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, self.rfile.read(length))
        answer = self.server.sinks.handle(request)
        self.close_connection = True
        if answer is None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.connection.close()
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")  # so that stop() leaves no connection that would still be served
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = _handle  # noqa: N815 - names of the base class

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - name of the base class
        """Nothing: paths carry secrets, and what came is kept."""
