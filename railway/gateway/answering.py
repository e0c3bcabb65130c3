"""Answering a flow run that waits for a person, through Prefect's API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelled

from blocks.errors import ServiceError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

__all__ = ["Answers", "PrefectAnswers"]

TIMEOUT = 30.0
"""Seconds that Prefect may take."""


class Answers(Protocol):
    """Something that answers flow runs."""

    async def answer(self, run_id: UUID, *, approve: bool, by: str) -> str:
        """Approve or reject, if the run still waits; returns a sentence about what came of it.

        Raises:
            ServiceError: Prefect cannot be asked now.
        """


class PrefectAnswers:
    """Prefect's API, where PREFECT_API_URL says.

    A run that paused in the middle has a form (`flows/approval.py`), which is filled in. One that has not begun yet has none:
    to resume it is to approve it, to cancel it is to reject it. It is the same as in Prefect's own pages.

    Args:
        stack: what the form wants to have typed.
    """

    def __init__(self, stack: str) -> None:
        self._stack = stack

    async def answer(self, run_id: UUID, *, approve: bool, by: str) -> str:
        """See `Answers`."""
        try:
            async with asyncio.timeout(TIMEOUT), get_client() as client:
                return await self._answer(client, run_id, approve=approve, by=by)
        except ObjectNotFound:
            return "there is no such run any more"
        except (TimeoutError, httpx.HTTPError, PrefectException, OSError) as error:
            raise ServiceError(f"run {run_id}: Prefect's API failed ({type(error).__name__}); press again") from None

    async def _answer(self, client: PrefectClient, run_id: UUID, *, approve: bool, by: str) -> str:
        run = await client.read_flow_run(run_id)
        if run.state is None or not run.state.is_paused():
            return f"{run.name} does not wait any more: it is {run.state_name or 'nowhere'}"
        asks = bool(run.state.state_details.run_input_keyset)
        if not approve and not asks:
            await client.set_flow_run_state(run_id, Cancelled(message=f"rejected by {by}"), force=True)
            return f"{run.name} is rejected"
        filled = {"decision": "approve", "confirm": self._stack} if approve else {"decision": "reject"}
        done = await client.resume_flow_run(run_id, run_input=filled if asks else None)
        if done.status.value != "ACCEPT":
            reason = getattr(done.details, "reason", None) or "it gives no reason"
            return f"Prefect did not take it for {run.name}: {reason}; answer it on the run's page"
        return f"{run.name} is {'approved' if approve else 'rejected'}"
