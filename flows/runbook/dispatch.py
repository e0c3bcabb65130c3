"""Answer an incident: decide which runbook, and whether it runs by itself, waits for a person, or is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import GuardRefused, IntegrityError, SettingsError
from blocks.settings import Settings
from flows.health.flow import memory_name
from flows.health.incidents import Incident
from flows.health.maintenance import windows_async
from flows.health.memory import load_text
from flows.health.state import State
from flows.health.windows import muted_services
from flows.lease import utc_now
from flows.report import flow_run_id, line
from flows.runbook import audit
from flows.runbook.catalogue import Entry, entries
from flows.runbook.decide import Decision, Policy, decide
from flows.runbook.history import History, Try, load_history, save_history
from flows.runbook.recording import record
from flows.runbook.runs import PrefectRuns, Runs

__all__ = ["DEPLOYMENT", "DispatchRequest", "carry_out", "dispatch", "entry_of", "runbook"]

DEPLOYMENT = "runbook/dispatch"
AUTOMATION = "automation"
"""Who it was, where no person asked."""
_ACTS = ("start", "propose", "hand over")


class DispatchRequest(BaseModel):
    """Which incident to answer."""

    incident: str = Field(
        default="",
        description="The incident's key, as alerts and the status page show it: <stack>/<service>/<aspect>/<opened at>",
    )
    by: str = Field(
        default="",
        max_length=100,
        description="Who asks for it; it then runs whatever switches, cool-down and ceiling say. Empty: nobody",
    )


@flow(name="runbook", validate_parameters=True, timeout_seconds=300)
async def runbook(request: DispatchRequest = DispatchRequest()) -> str:
    """Answer an incident that has opened or got worse; started by an automation, or by a person.

    The incident is looked up in what the sweeps remember: the event, or the person, only says which.

    Args:
        request: the incident.
    Returns: what was decided, and why.
    Raises:
        GuardRefused: a person must look: the runbook ran too often. This run fails, which is told on every channel.
        SettingsError: no incident was named, or the runbook's deployment does not exist.
        ServiceError: Prefect's API does not answer.
    """
    if not request.incident:
        raise SettingsError("runbook: no incident was named; give its key, as the alert or the status page shows it")
    settings = Settings.load()
    stack = settings.stack_name
    incident = await _open_incident(stack, request.incident)
    if incident is None:
        return _said(Decision("leave", "it is not open, or not any more"), request.incident)
    history, problem = await load_history(stack)
    if problem:
        line(problem)
    now = utc_now()
    muted = await _muted(stack, incident.service, now)
    decision = decide(incident, entries(), history, Policy.from_settings(settings), now, muted=muted, by=request.by)
    said = _said(decision, incident.key)
    try:
        await dispatch(incident, decision, history, PrefectRuns(), now, by=request.by)
    finally:  # last: the store may be the patient, and takes its time to say so
        if decision.verb in _ACTS:
            await asyncio.to_thread(record, stack, entry_of(incident, decision, now, by=request.by, run=flow_run_id()))
    return said


async def dispatch(
    incident: Incident, decision: Decision, history: History, runs: Runs, now: datetime, *, by: str = ""
) -> History:
    """Do what was decided.

    That a run is about to be made is written down before it is made, and which one it is afterwards. Whoever dies in between
    leaves a try without a run; it is made again under the same key, which is the same run.

    Args:
        runs: where runs are made. by: the person who asked; empty: nobody.
    Returns: the history, as it has been saved.
    Raises: see `runbook`.
    """
    if decision.verb == "wait" and decision.until is not None:
        key = f"dispatch/{incident.key}/{decision.until:%Y%m%dT%H%M%SZ}"
        await runs.later(DEPLOYMENT, {"incident": incident.key}, key, decision.until)
    if decision.verb == "hand over":
        history = history.with_handed_over(incident.key)
        await save_history(incident.stack, history)
        raise GuardRefused(f"runbook: {decision.why}")
    if decision.entry is None or decision.verb not in ("start", "propose"):
        return history
    one = Try(incident=incident.key, runbook=decision.entry.name, service=incident.service, at=now, by=by)
    history = history.with_try(one, decision.number)
    await save_history(incident.stack, history)
    run_id = await carry_out(incident, decision, decision.entry, runs, by=by)
    line(f"run {run_id} of {decision.entry.deployment}")
    history = history.with_try(one.model_copy(update={"run_id": run_id}), decision.number)
    await save_history(incident.stack, history)
    return history


async def carry_out(incident: Incident, decision: Decision, entry: Entry, runs: Runs, *, by: str) -> str:
    """Make the run of a runbook; returns its id."""
    key = f"runbook/{incident.key}/{decision.number}"
    known = {
        "incident": incident.key,
        "service": incident.service,
        "aspect": incident.aspect,
        "by": by or AUTOMATION,
        "why": f"{incident.severity}: {incident.sentence}"[:300],
    }
    if decision.verb == "propose":
        asked = f"{entry.name} would run for {incident.service}: {incident.sentence}; resume to approve, cancel to reject"
        return await runs.propose(entry.deployment, known, key, asked)
    return await runs.start(entry.deployment, known, key)


def entry_of(incident: Incident, decision: Decision, now: datetime, *, by: str, run: str = "") -> audit.Entry:
    """What the audit trail keeps of a decision.

    Args:
        run: id of the flow run that decided.
    """
    return audit.Entry(
        at=now,
        kind="decided",
        actor=DEPLOYMENT,
        service=incident.service,
        what=f"{decision.verb} {decision.entry.name if decision.entry else 'nothing'}",
        result=decision.why,
        by=by or AUTOMATION,
        why=f"{incident.severity}: {incident.sentence}",
        incident=incident.key,
        run=run,
    )


def _said(decision: Decision, incident: str) -> str:
    name = f" {decision.entry.name}" if decision.entry else ""
    said = f"{incident}: {decision.verb}{name}: {decision.why}"
    line(said)
    return said


async def _open_incident(stack: str, key: str) -> Incident | None:
    """Look an incident up in what the sweeps remember, which is written before its events are sent.

    A memory that cannot be read is begun anew by the next sweep; what is still wrong then opens again, under another key.
    """
    try:
        state = State.from_text(await load_text(memory_name(stack)), stack)
    except IntegrityError as error:
        line(f"memory of the sweeps: {error}")
        return None
    if state.note:
        line(f"memory of the sweeps: {state.note}")
    return next((one for one in state.incidents if one.key == key), None)


async def _muted(stack: str, service: str, now: datetime) -> Collection[str]:
    windows, problems = await windows_async(stack)
    for problem in problems:
        line(problem)
    return muted_services(windows, [service], now)
