"""Tell people of a flow run that ended badly or is late. Run by an automation (`python -m flows.automations`), or by hand."""

from __future__ import annotations

import asyncio
from uuid import UUID

from prefect import flow
from pydantic import BaseModel, Field, ValidationError

from blocks.alerts import channels
from blocks.alerts.base import reaches
from blocks.errors import DeliveryFailed, IntegrityError, SettingsError
from blocks.settings import Settings
from flows.alert.run import case_of, read_run, reason_to_be_silent
from flows.health.ledger import Outbox
from flows.health.links import links_of
from flows.health.memory import load_text, save_text
from flows.health.outbox import deliver_async
from flows.health.owing import owe_run
from flows.lease import utc_now
from flows.report import line


class AlertRequest(BaseModel):
    """Which run to tell of."""

    flow_run_id: UUID | None = Field(default=None, description="The flow run, by its id; it must be given")
    state: str = Field(default="", description="Name of the state to tell of, as it was then; empty: the one it is in now")


WAITS_S = (15.0, 60.0, 240.0)
"""Pauses between tries of a channel that does not answer; a channel that asks for a longer one is left to the next alert."""


@flow(name="alert", validate_parameters=True, timeout_seconds=600)
async def alert(request: AlertRequest = AlertRequest()) -> str:
    """Tell people of a flow run that ended badly or is late: once for a run and a state, on every channel of its severity.

    Args:
        request: which run, and which of its states.
    Returns: what was told, or why nothing was.
    Raises:
        DeliveryFailed: a channel did not take it, several times. The Prefect server tells that; the next alert brings it along.
        SettingsError: no run was named, there is no such run, or a channel is half configured.
    """
    if request.flow_run_id is None:
        raise SettingsError("alert: no flow run was named; give its id as flow_run_id")
    settings = Settings.load()
    run = await read_run(request.flow_run_id, request.state)
    if reason := reason_to_be_silent(run, alert_flow=alert.name):
        line(f"run {run.name} of {run.deployment}, {run.state}: not told, {reason}")
        return reason
    ways, case, name = channels(settings), case_of(run, settings.stack_name), f"health_{settings.stack_name}_runs"

    async def save(outbox: Outbox) -> None:
        await save_text(name, outbox.model_dump_json(exclude_defaults=True))

    outbox = owe_run(await _remembered(name), case, utc_now(), ways)
    for wait in (*WAITS_S, None):
        outbox = await deliver_async(outbox, [], ways, links_of(settings), utc_now(), save)
        waiting = outbox.case(case.key)
        if waiting is None:
            break
        if wait is None:
            slow = sorted(channel for channel, owed in waiting.lines.items() if owed.owed)
            raise DeliveryFailed(f"alert: {', '.join(slow)} did not take it; the log says why, the next alert brings it along")
        await asyncio.sleep(wait)
    said = f"{case.service} {case.aspect}: {case.sentence}"
    told = [way.name for way in ways if reaches(case.severity, way.min_severity)]
    line(f"told {', '.join(told) or f'nobody, as no channel hears of what is only {case.severity}'}: {said}")
    return said


async def _remembered(name: str) -> Outbox:
    """What earlier alerts left; a memory that cannot be read is begun anew, which may tell a run twice and loses none."""
    try:
        text = await load_text(name)
        return Outbox() if text is None else Outbox.model_validate_json(text)
    except (IntegrityError, ValidationError) as error:
        line(f"what earlier alerts left cannot be read ({type(error).__name__}): begun anew")
        return Outbox()
