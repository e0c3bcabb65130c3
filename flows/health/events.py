"""Prefect events of incidents: `stack.incident.opened`, `.reminded`, `.escalated`, `.acknowledged`, `.closed`; runbooks follow.

An event's id follows from the happening, so that one that is sent again, after a process died between sending it and noting
that, is the same event: the server keeps it once and triggers nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect.client.orchestration import get_client

from blocks.errors import ServiceError
from flows.health.incidents import Happening

__all__ = ["SECONDS", "emit", "event_id", "event_of"]

SECONDS = 30.0
"""All events of a sweep may take so long."""


def event_id(happening: Happening) -> UUID:
    """The event's id: the same for the same happening, whoever computes it."""
    return uuid5(NAMESPACE_URL, f"stack-incident:{happening.id}")


def event_of(happening: Happening, run_id: str = "") -> dict[str, Any]:
    """Put a happening into the form in which Prefect's API takes events.

    Args:
        run_id: of the flow run that saw it, so that the event is shown with the run.
    """
    incident = happening.incident
    resource = f"stack.{incident.stack}.service.{incident.service}"
    return {
        "id": str(event_id(happening)),
        "occurred": happening.at.isoformat(),
        "event": f"stack.incident.{happening.kind}",
        "resource": {
            "prefect.resource.id": resource,
            "prefect.resource.name": incident.service,
            "stack": incident.stack,
            "service": incident.service,
            "aspect": incident.aspect,
            "severity": incident.severity,
        },
        "related": [{"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"}]
        if run_id
        else [],
        "payload": {
            **incident.model_dump(mode="json"),
            "casualties": list(incident.casualties),
            "kind": happening.kind,
            "ordinal": happening.ordinal,
            "note": happening.note,
        },
    }


async def emit(happenings: Sequence[Happening], run_id: str = "") -> None:
    """Send the events of happenings, and return when the server has taken them.

    Raises:
        ServiceError: it did not; they may be sent again.
    """
    if not happenings:
        return
    try:
        async with asyncio.timeout(SECONDS), get_client() as client:
            await client.request("POST", "/events", json=[event_of(one, run_id) for one in happenings])
    except (TimeoutError, httpx.HTTPError) as error:
        raise ServiceError(
            f"events: Prefect's API did not take {len(happenings)} ({type(error).__name__}); they are sent at the next sweep"
        ) from None
