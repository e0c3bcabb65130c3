"""Where people say that they work on an incident: by a command, a button in Slack, PagerDuty's acknowledgement."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from blocks.errors import SettingsError
from flows.health import acknowledging
from flows.runbook import audit
from flows.runbook.frame import Patient

__all__ = ["Desk", "Working"]


class Working(Protocol):
    """Something that takes people's word. Both raise GuardRefused where no such incident is open, ServiceError where Prefect's
    API does not answer, IntegrityError where what the sweeps remember is damaged.
    """

    async def acknowledge(self, incident: str, by: str) -> str:
        """Somebody works on it; returns a sentence about what came of it."""

    async def withdraw(self, incident: str, by: str) -> str:
        """Nobody works on it any more; as `acknowledge`."""


class Desk:
    """Keeps it where the sweeps look, and has it written into the audit trail.

    Args:
        stack: its name. record: writes into the audit trail; it raises nothing.
    """

    def __init__(self, stack: str, record: Callable[[audit.Entry], None]) -> None:
        self._stack, self._record = stack, record

    async def acknowledge(self, incident: str, by: str) -> str:
        """See `Working`."""
        return await self._written(await acknowledging.acknowledge(self._stack, incident, by), "acknowledge", by)

    async def withdraw(self, incident: str, by: str) -> str:
        """See `Working`."""
        outcome = await acknowledging.withdraw(self._stack, incident)
        return await self._written(outcome, "withdraw the acknowledgement", by)

    async def _written(self, outcome: acknowledging.Outcome, what: str, by: str) -> str:
        if not outcome.changed:
            return outcome.said
        try:
            service = Patient.of(outcome.incident).service
        except SettingsError:  # of a stack whose keys are written otherwise
            service = ""
        entry = audit.Entry(
            at=datetime.now(UTC),
            kind="decided",
            actor="acknowledge",
            service=service,
            what=what,
            result=outcome.said,
            by=by,
            incident=outcome.incident,
        )
        await asyncio.to_thread(self._record, entry)
        return outcome.said
