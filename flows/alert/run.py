"""A flow run that people are told about: read from Prefect, and put into one line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.alerts.base import clip
from blocks.alerts.slack_message import WAITING
from blocks.errors import SettingsError
from blocks.settings import Severity
from flows.health.ledger import Case
from flows.health.links import run_url

__all__ = ["RunFacts", "case_of", "one_line", "read_run", "reason_to_be_silent", "severity_of"]

_LINE = 400
_PREAMBLE = re.compile(r"^(?:Flow run encountered an exception:|Task run encountered an exception:?)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class RunFacts:
    """A flow run.

    Attributes:
        name: of the run, `clever-otter`. deployment: `flow/deployment`, the flow's name for a run without one.
        tags: of the run and its deployment. state: the name of the state that is told. present: of the one it is in now.
        message: of the state that is told. at: when it came about.
    """

    id: UUID
    name: str
    flow: str
    deployment: str
    tags: frozenset[str]
    state: str
    present: str
    message: str
    at: datetime


async def read_run(run_id: UUID, state: str) -> RunFacts:
    """Read a flow run through Prefect's API.

    Args:
        state: name of the state to tell; empty: the one it is in.
    Raises:
        SettingsError: there is no such run.
    """
    async with get_client() as client:
        try:
            run = await client.read_flow_run(run_id)
        except ObjectNotFound:
            raise SettingsError(f"flow run {run_id} does not exist; give the id of one that does") from None
        flow = await client.read_flow(run.flow_id)
        deployment, tags = flow.name, set(run.tags)
        if run.deployment_id is not None:
            try:
                found = await client.read_deployment(run.deployment_id)
                deployment, tags = f"{flow.name}/{found.name}", tags | set(found.tags)
            except ObjectNotFound:
                pass  # deleted since; the flow's name will do
        states = [one for one in await client.read_flow_run_states(run_id) if not state or one.name == state]
    present = run.state_name or ""
    told = max(states, key=lambda one: one.timestamp) if state and states else run.state
    if told is None:
        raise SettingsError(f"flow run {run_id} has no state yet; there is nothing to tell")
    return RunFacts(
        id=run_id,
        name=run.name,
        flow=flow.name,
        deployment=deployment,
        tags=frozenset(tags),
        state=state or present,
        present=present,
        message=told.message or "",
        at=told.timestamp,
    )


def reason_to_be_silent(run: RunFacts, alert_flow: str) -> str:
    """Why nobody is told of this run; empty when they are."""
    if run.flow == alert_flow:
        return "alerts about the alert flow would never end; the Prefect server tells of its failures"
    if run.state == "Late" and run.present != "Late":
        return f"it is not late any more: {run.present}"
    if run.state in WAITING and run.present not in WAITING:
        return f"it does not wait for a person any more: {run.present}"
    return ""


def severity_of(run: RunFacts) -> Severity:
    """critical where live data may be half changed; warning for what is only late or waits for a person; error otherwise."""
    if run.state in ("Late", *WAITING):
        return "warning"
    return "critical" if "destructive" in run.tags else "error"


def one_line(run: RunFacts) -> str:
    """The error's one line, or what a state without a message means."""
    lines = [line.strip() for line in run.message.splitlines() if line.strip()]
    said = _PREAMBLE.sub("", lines[0]) if lines else ""
    if not said:
        said = {
            "Late": "it should have started and has not; is a worker online, and is there room for another run?",
            "Crashed": "its process ended without a word; see the worker's log",
            "TimedOut": "it took longer than it may",
            **dict.fromkeys(WAITING, "it waits for a person: read what it wants to do, then approve or reject it"),
        }.get(run.state, "no message; see the run's log")
    return clip(f"{run.name}: {said}", _LINE)


def _kind_of(run: RunFacts) -> str:
    """A run that waits a second time is told a second time."""
    return f"run-{run.at:%Y%m%dT%H%M%SZ}" if run.state in WAITING else "run"


def case_of(run: RunFacts, stack: str) -> Case:
    """What the outbox keeps: over from the start, and one for each run and state."""
    return Case(
        key=f"{stack}/{_kind_of(run)}/{run.id}/{run.state}",
        stack=stack,
        service=run.deployment,
        aspect=run.state,
        severity=severity_of(run),
        sentence=one_line(run),
        opened_at=run.at,
        run=run_url(run.id),
        over=True,
    )
