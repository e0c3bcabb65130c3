"""The administration API's `ingestion-replay`: events of the bucket into the queue again, by their keys (facts: apps.md 2.4).

As in the original a key of OpenTelemetry is queued as it is given, without the event prefix; of the others the worker reads
every object of the entity.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.sandbox.langfuse_double.configuration import Stores
from shared.sandbox.langfuse_double.queue import Queue

__all__ = ["Replay"]

_MOST = 1000
_OTEL = re.compile(r"otel/([^/]+)/\d{4}/\d\d/\d\d/\d\d/\d\d/[^.]+\.json")
_PLAIN = re.compile(r"([^/]+)/([^/]+)/(.+)/([^/]+)\.json")
_ENTITIES = ("trace", "observation", "score")


class Replay:
    """The endpoint.

    Args:
        secondary, otel: the queues. stores: the key, the prefix.
    """

    def __init__(self, secondary: Queue, otel: Queue, stores: Stores) -> None:
        self._secondary, self._otel, self._stores = secondary, otel, stores

    async def answer(self, request: Request) -> Response:
        """200 with how many were queued and skipped; 401 without the key, 400 for what is no list of keys."""
        if not self._stores.admin_key:
            return JSONResponse({"error": "ADMIN_API_KEY is not set"}, 500)
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._stores.admin_key}".encode()):
            return JSONResponse({"error": "Unauthorized: Invalid token"}, 401)
        try:
            keys = (await request.json())["keys"]
        except (ValueError, KeyError, TypeError):
            keys = None
        if not isinstance(keys, list) or not 1 <= len(keys) <= _MOST or not all(isinstance(key, str) for key in keys):
            return JSONResponse({"error": "keys: expected 1 to 1000 strings"}, 400)
        errors = [error for key in keys if (error := await self._queue(key))]
        return JSONResponse({"queued": len(keys) - len(errors), "skipped": len(errors), "errors": errors})

    async def _queue(self, key: str) -> str:
        """Queue one; returns why not, empty where it is."""
        if found := _OTEL.fullmatch(key):
            await self._otel.add("otel-ingestion-job", _job(found[1], {"fileKey": key}))
            return ""
        if not (found := _PLAIN.fullmatch(key)):
            return f"Invalid key format: {key}"
        project, entity, entity_id, _ = found.groups()
        if entity not in _ENTITIES:
            return f"Unsupported replay type: {entity}"
        data = {"type": f"{entity}-create", "entity": entity, "eventBodyId": entity_id, "fileKey": self._stores.s3_prefix + key}
        await self._secondary.add("ingestion-job", _job(project, data))
        return ""


def _job(project: str, data: dict[str, Any]) -> dict[str, Any]:
    scope = {"validKey": True, "scope": {"projectId": project}}
    return {"id": str(uuid4()), "timestamp": datetime.now(UTC).isoformat(), "payload": {"data": data, "authCheck": scope}}
