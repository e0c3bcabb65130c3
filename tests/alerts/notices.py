"""Notices as an incident makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.alerts import Links, Notice

T0 = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
KEY = "prod/postgres/connect/20261124T030000Z"
LINKS = Links(run="http://prefect/runs/flow-run/1", runbook="http://prefect/deployments", status="http://status")


def notice(kind: str = "opened", **changes: Any) -> Notice:
    """A notice of one incident: Postgres, critical, opened at T0."""
    fields: dict[str, Any] = {
        "id": f"{KEY}/{kind}/1",
        "dedup_key": KEY,
        "kind": kind,
        "stack": "prod",
        "service": "postgres",
        "aspect": "connect",
        "severity": "critical",
        "sentence": "postgres: no answer within 5 s; is the service up?",
        "at": T0 if kind == "opened" else T0 + timedelta(minutes=12),
        "opened_at": T0,
        "closed_at": T0 + timedelta(minutes=12) if kind == "closed" else None,
        "casualties": ("litellm", "langfuse-web"),
        "links": LINKS,
    }
    return Notice(**{**fields, **changes})
