"""Who may tell the gateway something, and what of it is taken: pure functions over headers and bodies.

A body is a hint. Of what it says only ids, kinds and short names are kept; what is so is found out by the API it is about.

- Railway signs nothing and numbers nothing (facts: railway.md 5): a header that its webhook is given carries a secret.
- PagerDuty's v3 webhooks carry `X-PagerDuty-Signature`: `v1=` and the HMAC-SHA256 of the body, once for each secret that is
  valid while one is exchanged (developer.pagerduty.com/docs/verifying-webhook-signatures).
- Alertmanager sends what its `http_config` says: a bearer token (prometheus.io/docs/alerting/latest/configuration).
- Slack signs `v0:<timestamp>:<body>` (docs.slack.dev/authentication/verifying-requests-from-slack).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "REPLAY_SECONDS",
    "Told",
    "Unreadable",
    "bearer_is",
    "of_alertmanager",
    "of_pagerduty",
    "of_railway",
    "pagerduty_signed",
    "same",
    "slack_signed",
]

REPLAY_SECONDS = 300
"""What Slack signed longer ago is refused: somebody may have kept it."""

_MOST, _LONGEST = 20, 300
_ID = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_KIND = re.compile(r"(?=.{1,80}$)[a-z0-9_]+(\.[a-z0-9_]+)*")


class Unreadable(Exception):
    """A body is not what this sender sends. The message says what was expected."""


@dataclass(frozen=True)
class Told:
    """What one body said.

    Attributes:
        event: name of the Prefect event. payload: what is kept of it.
    """

    event: str
    payload: Mapping[str, str | list[str]]


# --- who it is ---------------------------------------------------------------------------------------------------------------


def same(given: str, secret: str) -> bool:
    """Compare two secrets in constant time, whatever their lengths."""
    return hmac.compare_digest(hashlib.sha256(_bytes(given)).digest(), hashlib.sha256(_bytes(secret)).digest())


def bearer_is(header: str, token: str) -> bool:
    """Say whether an Authorization header carries this token."""
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and same(given.strip(), token)


def pagerduty_signed(header: str, body: bytes, secret: str) -> bool:
    """Say whether one of the signatures in the header is of this body."""
    expected = f"v1={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"
    return any(same(one.strip(), expected) for one in header.split(",")[:10])


def slack_signed(timestamp: str, signature: str, body: bytes, secret: str, now: float) -> bool:
    """Say whether Slack signed this body lately.

    Args:
        timestamp, signature: the headers `X-Slack-Request-Timestamp` and `X-Slack-Signature`. now: seconds since 1970.
    """
    if not timestamp.isdecimal() or len(timestamp) > 12 or abs(now - int(timestamp)) > REPLAY_SECONDS:
        return False
    expected = hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return same(signature, f"v0={expected}")


# --- what is taken -----------------------------------------------------------------------------------------------------------


def of_railway(body: bytes, *, project: str = "", environment: str = "") -> Told | None:
    """Read a webhook of Railway's: `Deployment.OomKilled` becomes `stack.railway.deployment.oom_killed`.

    Args:
        project, environment: ids of ours; a webhook tells of every environment of its project. Empty: not known.
    Returns: None where it is about somebody else.
    Raises:
        Unreadable: it is no such body.
    """
    document = _object(body)
    resource = _part(document, "resource")
    ids = {name: _id(_part(resource, name).get("id")) for name in ("project", "environment", "service", "deployment")}
    if (project and ids["project"] not in ("", project)) or (environment and ids["environment"] not in ("", environment)):
        return None
    kind = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", _short(document.get("type"))).lower()
    if not _KIND.fullmatch(kind):
        raise Unreadable("expected a `type` such as Deployment.failed")
    return Told(f"stack.railway.{kind}", {name: value for name, value in ids.items() if value})


def of_pagerduty(body: bytes) -> Told:
    """Read a v3 webhook of PagerDuty's: `incident.acknowledged` becomes `stack.pagerduty.incident.acknowledged`.

    Raises:
        Unreadable: it is no such body.
    """
    event = _part(_object(body), "event")
    kind = _short(event.get("event_type"))
    if not _KIND.fullmatch(kind):
        raise Unreadable("expected an `event` with an `event_type` such as incident.acknowledged")
    data = _part(event, "data")
    payload = {
        "id": _id(data.get("id")),
        "incident": _short(data.get("incident_key")),
        "status": _id(data.get("status")),
        "by": _short(_part(event, "agent").get("summary")),
        "at": _short(event.get("occurred_at")),
    }
    return Told(f"stack.pagerduty.{kind}", {name: value for name, value in payload.items() if value})


def of_alertmanager(body: bytes) -> Told:
    """Read a notification of Alertmanager's webhook receiver: `stack.alertmanager.firing`, or `.resolved`.

    Raises:
        Unreadable: it is no such body.
    """
    document = _object(body)
    status, alerts = document.get("status"), document.get("alerts")
    if status not in ("firing", "resolved") or not isinstance(alerts, list):
        raise Unreadable("expected a `status` of firing or resolved, and a list of `alerts`")
    labels = [_part(alert, "labels") for alert in alerts if isinstance(alert, dict)]
    names = sorted({name for one in labels if (name := _short(one.get("alertname")))})
    services = sorted({name for one in labels if (name := _short(one.get("service")))})
    payload = {"group": _short(document.get("groupKey")), "receiver": _short(document.get("receiver"))}
    return Told(f"stack.alertmanager.{status}", {**payload, "alerts": names[:_MOST], "services": services[:_MOST]})


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise Unreadable("expected an object in JSON")
    return document


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def _id(value: object) -> str:
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""


def _short(value: object) -> str:
    """Text for people, on one line."""
    return "".join(one for one in " ".join(value.split()) if one.isprintable())[:_LONGEST] if isinstance(value, str) else ""


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
