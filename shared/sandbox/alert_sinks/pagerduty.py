"""PagerDuty: the Events API v2 (developer.pagerduty.com, "Send an alert event"), and the alerts that its events lead to."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.sandbox.alert_sinks.exchange import Answer, Request, json_answer

__all__ = ["PagerDutyAlert", "PagerDutySink"]

_KEY, _DEDUP_KEY, _SUMMARY = 32, 255, 1024
_BYTES = 512 * 1024
_SEVERITIES = ("critical", "warning", "error", "info")
_STATES: dict[str, Literal["triggered", "acknowledged", "resolved"]] = {
    "trigger": "triggered",
    "acknowledge": "acknowledged",
    "resolve": "resolved",
}


@dataclass
class PagerDutyAlert:
    """An alert: who is on call was paged once for it.

    Attributes:
        state: it is in now. payload: of its first event. events: how many came for it, the first included.
    """

    state: Literal["triggered", "acknowledged", "resolved"]
    payload: dict[str, Any] = field(default_factory=dict)
    events: int = 1


class PagerDutySink:
    """One service with one integration key, at `/v2/enqueue`.

    Args:
        routing_key: the integration's, 32 characters.
    Attributes:
        alerts: by dedup key, the last one under each, oldest first. pages: dedup keys of all alerts that were opened, in order.
    """

    kind = "pagerduty"

    def __init__(self, routing_key: str) -> None:
        self.alerts: dict[str, PagerDutyAlert] = {}
        self.pages: list[str] = []
        self._key = routing_key

    def clear(self) -> None:
        """Forget all alerts."""
        self.alerts, self.pages = {}, []

    def answer(self, request: Request) -> Answer:
        """Take an event: 202, or 400 with what is wrong with it."""
        if request.method != "POST":
            return json_answer(405, {"status": "error", "message": "Method not allowed"}, refused="method not allowed")
        if len(request.body) > _BYTES:
            return json_answer(413, {"status": "error", "message": "Event is too large"}, refused="too large")
        try:
            event = request.json()
        except ValueError:
            event = None
        if not isinstance(event, dict):
            return _invalid(["JSON parse error"], None)
        if problems := list(_problems(event)):
            return _invalid(problems, event)
        if event["routing_key"] != self._key:
            return _invalid(["Invalid routing key"], event)
        dedup_key = event.get("dedup_key") or secrets.token_hex(16)
        self._keep(event, dedup_key)
        said = {"status": "success", "message": "Event processed", "dedup_key": dedup_key}
        return json_answer(202, said, payload={**event, "dedup_key": dedup_key})

    def too_many(self, seconds: float) -> Answer:
        """429 with Retry-After in whole seconds."""
        said = {"status": "throttle exceeded", "message": "Requests for this service are arriving too quickly.", "errors": []}
        return json_answer(429, said, refused="throttled", headers={"Retry-After": str(max(1, round(seconds)))})

    def _keep(self, event: dict[str, Any], dedup_key: str) -> None:
        """Open, continue or close an alert. An event for none that is open changes nothing, unless it opens one."""
        alert = self.alerts.get(dedup_key)
        is_open = alert is not None and alert.state != "resolved"
        if alert is not None and is_open:
            alert.events += 1
            if event["event_action"] != "trigger":  # another trigger is added to the alert, which stays as it is
                alert.state = _STATES[event["event_action"]]
        elif event["event_action"] == "trigger":
            self.alerts.pop(dedup_key, None)
            self.alerts[dedup_key] = PagerDutyAlert("triggered", event["payload"])
            self.pages.append(dedup_key)


def _invalid(errors: list[str], event: Any) -> Answer:
    said = {"status": "invalid event", "message": "Event object is invalid", "errors": errors}
    return json_answer(400, said, payload=event, refused="; ".join(errors))


def _problems(event: dict[str, Any]) -> Iterator[str]:
    key = event.get("routing_key")
    if not isinstance(key, str) or len(key) != _KEY:
        yield f"Length of 'routing_key' is incorrect (should be {_KEY} characters)"
    elif not key.isalnum():
        yield "'routing_key' cannot contain non-alphanumeric characters."
    action = event.get("event_action")
    if action not in _STATES:
        yield "'event_action' is missing or invalid (should be one of trigger, acknowledge, resolve)"
    dedup_key = event.get("dedup_key")
    if dedup_key is not None and (not isinstance(dedup_key, str) or len(dedup_key) > _DEDUP_KEY):
        yield f"'dedup_key' is too long (maximum is {_DEDUP_KEY} characters)"
    elif not dedup_key and action in ("acknowledge", "resolve"):
        yield "'dedup_key' is missing or blank"
    if action == "trigger":
        yield from _payload_problems(event.get("payload"))
    for name, wanted in (("links", "href"), ("images", "src")):
        items = event.get(name) or []
        if not isinstance(items, list) or not all(isinstance(one, dict) and one.get(wanted) for one in items):
            yield f"'{name}' is invalid (each needs a '{wanted}')"


def _payload_problems(payload: object) -> Iterator[str]:
    if not isinstance(payload, dict):
        yield "'payload' is missing or is not an object"
        return
    for name in ("summary", "source"):
        if not isinstance(payload.get(name), str) or not payload[name]:
            yield f"'payload.{name}' is missing or blank"
    if len(str(payload.get("summary", ""))) > _SUMMARY:
        yield f"'payload.summary' is too long (maximum is {_SUMMARY} characters)"
    if payload.get("severity") not in _SEVERITIES:
        yield f"'payload.severity' is invalid (must be one of the following: {', '.join(_SEVERITIES)})"
    if "custom_details" in payload and not isinstance(payload["custom_details"], dict | str):
        yield "'payload.custom_details' is invalid"
