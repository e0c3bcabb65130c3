"""Answering a flow run that waits for a person, through Prefect's API; the audit trail says who it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Cancelled

from blocks.errors import ServiceError
from flows.report import flow_run_id
from flows.runbook.audit import Entry

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

__all__ = ["ELSEWHERE", "Answers", "PrefectAnswers", "Waiting", "approved_elsewhere"]

TIMEOUT = 30.0
"""Seconds that Prefect may take."""
LABEL = "stack.decided-by"
"""The label of a run that waited before it began: who let it begin, where it was this code that did."""
ELSEWHERE = "in Prefect's pages, which do not say who"
_MOST = 50


class Answers(Protocol):
    """Something that answers flow runs."""

    async def answer(self, run_id: UUID, *, approve: bool, by: str) -> str:
        """Approve or reject, if the run still waits; returns a sentence about what came of it.

        Raises:
            ServiceError: Prefect cannot be asked now.
        """


@dataclass(frozen=True)
class Waiting:
    """A run that waits. why: what it waits for, as far as it says."""

    run_id: UUID
    name: str
    why: str


class PrefectAnswers:
    """Prefect's API, where PREFECT_API_URL says.

    A run that paused in the middle has a form (`flows/approval.py`), which is filled in, with the name; the run writes down
    what it was told. One that has not begun yet has none: to resume it is to approve it, to cancel it is to reject it, and that
    is written down here. It is the same as in Prefect's own pages.

    Args:
        stack: what the form wants to have typed. record: writes into the audit trail; it raises nothing.
    """

    def __init__(self, stack: str, record: Callable[[Entry], None] = lambda _: None) -> None:
        self._stack, self._record = stack, record

    async def answer(self, run_id: UUID, *, approve: bool, by: str) -> str:
        """See `Answers`."""
        try:
            async with asyncio.timeout(TIMEOUT), get_client() as client:
                said, entry = await self._answer(client, run_id, approve=approve, by=by)
        except ObjectNotFound:
            return "there is no such run any more"
        except (TimeoutError, httpx.HTTPError, PrefectException, OSError) as error:
            raise ServiceError(f"run {run_id}: Prefect's API failed ({type(error).__name__}); press again") from None
        if entry is not None:
            await asyncio.to_thread(self._record, entry)
        return said

    async def waiting(self) -> list[Waiting]:
        """The runs that wait for a person, the newest first.

        Raises:
            ServiceError: Prefect cannot be asked now.
        """
        paused = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PAUSED])))
        try:
            async with asyncio.timeout(TIMEOUT), get_client() as client:
                runs = await client.read_flow_runs(flow_run_filter=paused, limit=_MOST)
        except (TimeoutError, httpx.HTTPError, PrefectException, OSError) as error:
            raise ServiceError(f"runs: Prefect's API failed ({type(error).__name__}); is the Prefect server up?") from None
        runs.sort(key=lambda run: run.created or datetime.min.replace(tzinfo=UTC), reverse=True)
        return [Waiting(run.id, run.name, (run.state and run.state.message) or "see its page") for run in runs]

    async def _answer(self, client: PrefectClient, run_id: UUID, *, approve: bool, by: str) -> tuple[str, Entry | None]:
        """Returns: a sentence, and what is to be written down; None where the run does it, or nothing was decided."""
        run = await client.read_flow_run(run_id)
        if run.state is None or not run.state.is_paused():
            return f"{run.name} does not wait any more: it is {run.state_name or 'nowhere'}", None
        asks = bool(run.state.state_details.run_input_keyset)
        word = "approved" if approve else "rejected"
        entry = Entry(
            at=datetime.now(UTC),
            kind="decided",
            actor="approval",
            what=f"the run {run.name}: {run.state.message or 'it waited to begin'}",
            result=word,
            by=by,
            incident=_incident_of(run.parameters),
            run=str(run_id),
        )
        if not approve and not asks:
            await client.set_flow_run_state(run_id, Cancelled(message=f"rejected by {by}"), force=True)
            return f"{run.name} is rejected", entry
        if not asks:
            await client.update_flow_run_labels(run_id, {LABEL: by})
        filled = {"decision": "approve", "confirm": self._stack} if approve else {"decision": "reject"}
        done = await client.resume_flow_run(run_id, run_input={**filled, "by": by} if asks else None)
        if done.status.value != "ACCEPT":
            reason = getattr(done.details, "reason", None) or "it gives no reason"
            return f"Prefect did not take it for {run.name}: {reason}; answer it on the run's page", None
        return f"{run.name} is {word}", None if asks else entry


def approved_elsewhere() -> bool:
    """Say whether this flow run waited for a person before it began, and was let begin in Prefect's own pages.

    Then nobody but the run itself can write it down. False also where Prefect does not answer: it is only for the record.
    """
    run_id = flow_run_id()
    if not run_id:
        return False
    try:
        with get_client(sync_client=True) as client:
            waited = any(state.name == "Suspended" for state in client.read_flow_run_states(UUID(run_id)))
            return waited and LABEL not in client.read_flow_run(UUID(run_id)).labels
    except (httpx.HTTPError, PrefectException):
        return False


def _incident_of(parameters: object) -> str:
    """The incident that a runbook's run was proposed for."""
    request = parameters.get("request") if isinstance(parameters, dict) else None
    incident = request.get("incident") if isinstance(request, dict) else None
    return incident if isinstance(incident, str) else ""
