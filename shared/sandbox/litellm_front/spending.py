"""What requests cost: counted as they pass, written to LiteLLM_SpendLogs in batches, as LiteLLM does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg

from shared.sandbox.litellm_front.store import Store

__all__ = ["Ledger", "Meter", "Price"]

_KEPT = 10_000


@dataclass(frozen=True)
class Price:
    """Dollars a token."""

    prompt: float = 0.0
    completion: float = 0.0


@dataclass
class Meter:
    """One request.

    Attributes:
        call_type: LiteLLM's word for the endpoint. token: hash of the key. group: the model as it was asked for.
        price: of that model; None: not known, then the gateway's own reckoning counts. began: when it came.
    """

    call_type: str
    token: str
    group: str
    price: Price | None
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    request_id: str = ""
    model: str = ""
    model_id: str = ""
    cost: float | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    status: str = "success"

    def read(self, body: bytes) -> None:
        """Take id, model and usage from an answer, or from one event of a stream."""
        try:
            found = json.loads(body)
        except ValueError:
            return
        if isinstance(found, dict):
            self.request_id = str(found.get("id") or self.request_id)
            self.model = str(found.get("model") or self.model)
            self.usage = found.get("usage") or self.usage

    def row(self) -> dict[str, Any]:
        """As it is stored."""
        tokens = {name: int(self.usage.get(name) or 0) for name in ("total_tokens", "prompt_tokens", "completion_tokens")}
        cost = self.cost
        if cost is None and self.price is not None:
            cost = tokens["prompt_tokens"] * self.price.prompt + tokens["completion_tokens"] * self.price.completion
        return {
            "request_id": self.request_id or str(uuid4()),
            "call_type": self.call_type,
            "api_key": self.token,
            "spend": (cost or 0.0) if self.status == "success" else 0.0,
            **tokens,
            "startTime": self.began.replace(tzinfo=None),
            "endTime": datetime.now(UTC).replace(tzinfo=None),
            "model": self.model or self.group,
            "model_id": self.model_id,
            "model_group": self.group,
            "custom_llm_provider": "openai",
            "metadata": {},
            "cache_hit": "False",
            "status": self.status,
        }


class Ledger:
    """Writes what was counted, every so often; keeps it while the database is away.

    Args:
        store: of the spend logs. batch: seconds between two writes.
    """

    def __init__(self, store: Store, batch: float) -> None:
        self._store, self._batch = store, batch
        self._rows: list[dict[str, Any]] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, meter: Meter) -> None:
        """Count a request."""
        self._rows.append(meter.row())

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await self._write()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._batch)
            await self._write()

    async def _write(self) -> None:
        rows, self._rows = self._rows, []
        if not rows:
            return
        try:
            await self._store.add_spend(rows)
        except psycopg.Error as error:
            sys.stderr.write(f"spend is not written, and kept: {type(error).__name__}\n")
            self._rows = [*rows, *self._rows][-_KEPT:]
