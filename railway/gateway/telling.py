"""Telling Prefect what others told the gateway, as events; automations start what follows from them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from blocks.errors import ServiceError
from railway.gateway.senders import Told

__all__ = ["PrefectTeller", "Teller", "event_of", "id_of"]

TIMEOUT = 15.0
"""Seconds that Prefect may take."""


class Teller(Protocol):
    """Something that takes events."""

    async def tell(self, event: Mapping[str, Any]) -> None:
        """Return when the event is taken; the same id again is the same event.

        Raises:
            ServiceError: it was not, or nobody knows.
        """


class PrefectTeller:
    """Prefect's API, where PREFECT_API_URL says."""

    async def tell(self, event: Mapping[str, Any]) -> None:
        """See `Teller`."""
        try:
            async with asyncio.timeout(TIMEOUT), get_client() as client:
                await client.request("POST", "/events", json=[dict(event)])
        except (TimeoutError, httpx.HTTPError, PrefectException, OSError) as error:
            raise ServiceError(f"events: Prefect's API failed ({type(error).__name__}); send it again") from None


def id_of(stack: str, sender: str, body: bytes) -> UUID:
    """The id of what a body says: the same for the same body, so that the server drops what comes again.

    Railway gives its webhooks no id, so the hash of the body stands for one.
    """
    return uuid5(NAMESPACE_URL, f"stack-hook:{stack}:{sender}:{hashlib.sha256(body).hexdigest()}")


def event_of(stack: str, sender: str, told: Told, event_id: UUID) -> dict[str, Any]:
    """Put what was told into the form in which Prefect's API takes events."""
    return {
        "id": str(event_id),
        "occurred": datetime.now(UTC).isoformat(),
        "event": told.event,
        "resource": {
            "prefect.resource.id": f"stack.{stack}.hint.{sender}",
            "prefect.resource.name": sender,
            "stack": stack,
        },
        "related": [],
        "payload": dict(told.payload),
    }
