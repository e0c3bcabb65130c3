"""Langfuse's administration API, as far as a runbook needs it: events from the bucket are put into the queue again.

`POST /api/admin/ingestion-replay` of langfuse-web, with ADMIN_API_KEY: at most 1,000 keys a call, relative to the event prefix
(facts: apps.md 2.4). Langfuse makes the jobs itself, so their shape stays its own business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import SecretStr

from blocks.errors import AccessDenied, ServiceError

__all__ = ["MOST_KEYS", "LangfuseAdmin", "Replayed"]

MOST_KEYS = 1000
"""Keys in one call."""
_PATH = "/api/admin/ingestion-replay"


@dataclass(frozen=True)
class Replayed:
    """What Langfuse says it did: events that are in the queue again, and those that it did not understand."""

    queued: int
    skipped: int


@dataclass(frozen=True)
class LangfuseAdmin:
    """The API of one langfuse-web.

    Attributes:
        url: http(s)://host[:port], as the worker reaches it. key: its ADMIN_API_KEY.
        timeout: seconds; a thousand jobs take a moment.
    """

    url: str
    key: SecretStr
    timeout: float = 60.0

    def replay(self, keys: Sequence[str]) -> Replayed:
        """Put events into the queue again. Not tried again here: where the answer is lost they may be in the queue.

        Args:
            keys: of objects, relative to the event prefix; at most `MOST_KEYS`.
        Raises:
            AccessDenied: the key is refused. ServiceError: no answer, or another one than expected.
        """
        headers = {"Authorization": f"Bearer {self.key.get_secret_value()}"}
        client = httpx.Client(
            base_url=self.url, timeout=self.timeout, headers=headers, trust_env=False, verify=self.url.startswith("https://")
        )
        with client:
            try:
                answer = client.post(_PATH, json={"keys": list(keys)})
            except httpx.HTTPError as error:
                raise ServiceError(
                    f"langfuse-web: no answer to a replay ({type(error).__name__}); is it up, is LANGFUSE_WEB_URL right?"
                ) from None
        if answer.status_code in (401, 403):
            raise AccessDenied(
                "langfuse-web: the administration key is refused; set LANGFUSE_ADMIN_API_KEY to the service's ADMIN_API_KEY"
            )
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise ServiceError(
                f"langfuse-web: it has no {_PATH}: this release is too old for a replay; upgrade it", permanent=True
            )
        found = _json(answer)
        if answer.status_code != httpx.codes.OK or not isinstance(found.get("queued"), int):
            raise ServiceError(f"langfuse-web: HTTP {answer.status_code} to a replay, expected 200; what does its log say?")
        return Replayed(int(found["queued"]), int(found.get("skipped") or 0))


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
