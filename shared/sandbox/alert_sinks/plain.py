"""A webhook that takes anything, and a heartbeat as healthchecks.io has it."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from shared.sandbox.alert_sinks.exchange import Answer, Request, text_answer

__all__ = ["HeartbeatSink", "WebhookSink"]

_ACTIONS = re.compile(r"/ping/([^/]+)(?:/(start|fail|log|\d+))?")


class WebhookSink:
    """Takes every POST below `/hook`; what it understood is the JSON, or None.

    Who signs has to prove it elsewhere: the headers and the body are recorded as they came.
    """

    kind = "webhook"

    def clear(self) -> None:
        """Nothing is kept."""

    def answer(self, request: Request) -> Answer:
        """200 to a POST."""
        if request.method != "POST":
            return text_answer(405, "method not allowed", refused="method not allowed")
        payload: Any = None
        if request.headers.get("content-type", "").startswith("application/json"):
            try:
                payload = request.json()
            except ValueError:
                return text_answer(400, "no JSON", refused="no JSON")
        return text_answer(200, "ok", payload=payload)

    def too_many(self, seconds: float) -> Answer:
        """429 with Retry-After in whole seconds."""
        return text_answer(429, "slow down", refused="too many", headers={"Retry-After": str(max(1, round(seconds)))})


class HeartbeatSink:
    """One check, at `/ping/<uuid>`, with `/start`, `/fail`, `/log` or an exit status behind.

    Args:
        check: its UUID.
    Attributes:
        signals: `success`, `start`, `fail` or `log`, in the order they came.
    """

    kind = "heartbeat"

    def __init__(self, check: str) -> None:
        self.signals: list[str] = []
        self._check = check

    def clear(self) -> None:
        """Forget the signals."""
        self.signals = []

    def answer(self, request: Request) -> Answer:
        """`OK`, to HEAD, GET and POST."""
        match = _ACTIONS.fullmatch(request.path)
        if match is None or request.method not in ("HEAD", "GET", "POST"):
            return text_answer(404, "not found", refused="not found")
        check, action = match.group(1), match.group(2) or "success"
        if not _is_uuid(check) or not _is_uuid(request.query.get("rid", check)):
            return text_answer(400, "invalid url format", refused="invalid url format")
        if action.isdigit():
            if int(action) > 255:
                return text_answer(400, "invalid url format", refused="invalid url format")
            action = "fail" if int(action) else "success"
        if check != self._check:
            return text_answer(404, "not found", refused="not found")
        self.signals.append(action)
        said = {"signal": action, "run": request.query.get("rid"), "body": request.body.decode(errors="replace")}
        return text_answer(200, "OK", payload=said, headers={"Ping-Body-Limit": "100000"})

    def too_many(self, seconds: float) -> Answer:
        """429 with Retry-After in whole seconds."""
        return text_answer(429, "rate limited", refused="rate limited", headers={"Retry-After": str(max(1, round(seconds)))})


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
