"""Tell people of a flow run that ended badly, is late or waits for a person. Run by an automation, or by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import deployment
from prefect.states import Scheduled
from pydantic import BaseModel, Field, ValidationError

from blocks.alerts import Channel, channels
from blocks.alerts.base import reaches
from blocks.errors import DeliveryFailed, IntegrityError, SettingsError
from blocks.settings import Settings
from flows.alert.run import case_of, read_run, reason_to_be_silent
from flows.health.ledger import Case, Outbox
from flows.health.links import links_of
from flows.health.memory import load_text, save_text
from flows.health.outbox import deliver_async
from flows.health.owing import owe_run
from flows.lease import utc_now
from flows.report import line


class AlertRequest(BaseModel):
    """Which run to tell of."""

    flow_run_id: UUID | None = Field(default=None, description="The flow run, by its id; needed unless rest is set")
    state: str = Field(default="", description="Name of the state to tell of, as it was then; empty: the one it is in now")
    rest: bool = Field(default=False, description="Tell of no new run; send what channels did not take from earlier alerts")


WAITS_S = (15.0,)
"""Pauses between tries of a channel that did well until now; meanwhile no other alert is sent, so they are short."""
AGAIN_S = 180
"""What a channel did not take is sent by a run of its own within so many seconds, and then again, for a day."""
_EARLY_S = 30
"""A worker may begin a run so much before its time."""


@flow(name="alert", validate_parameters=True, timeout_seconds=600)
async def alert(request: AlertRequest = AlertRequest()) -> str:
    """Tell people of a flow run that ended badly, is late or waits for a person.

    Once for a run and a state, for each time that it waits, on every channel of its severity.
    What a channel does not take is remembered, and a later run of this deployment is scheduled that sends it.

    Args:
        request: which run, and which of its states.
    Returns: what was told, or why nothing was.
    Raises:
        DeliveryFailed: a channel did not take it. The Prefect server tells that; it is sent again.
        SettingsError: no run was named, or there is no such run.
    """
    if request.flow_run_id is None and not request.rest:
        raise SettingsError("alert: no flow run was named; give its id as flow_run_id")
    settings = Settings.load()
    case: Case | None = None
    if request.flow_run_id is not None:
        run = await read_run(request.flow_run_id, request.state)
        if reason := reason_to_be_silent(run, alert_flow=alert.name):
            line(f"run {run.name} of {run.deployment}, {run.state}: not told, {reason}")
            return reason
        case = case_of(run, settings.stack_name)
    ways, name = channels(settings), f"health_{settings.stack_name}_runs"
    earlier = await _remembered(name)
    outbox = await _delivered(earlier if case is None else owe_run(earlier, case, utc_now(), ways), settings, ways, name)
    slow = outbox.waiting([way.name for way in ways])
    scheduled = await _again(name) if slow.difference(way.name for way in ways if way.problem) else False
    when = f"it is sent again within {AGAIN_S} s" if scheduled else "the next alert brings it along"
    unsaid = slow if case is None else (outbox.case(case.key) or case).waiting
    if unsaid and not (case is None and scheduled):
        raise DeliveryFailed(f"alert: {', '.join(sorted(unsaid))} did not take it; the log says why, {when}")
    if case is not None and (unheard := outbox.unheard()):
        raise DeliveryFailed(f"alert: {'; '.join(unheard)}; no other channel could be told")
    if case is None:
        said = f"{', '.join(sorted(slow))} did not take everything; {when}" if slow else "everything is told"
        line(said)
        return said
    said = f"{case.service} {case.aspect}: {case.sentence}"
    told = [way.name for way in ways if reaches(case.severity, way.min_severity)]
    line(f"told {', '.join(told) or f'nobody, as no channel hears of what is only {case.severity}'}: {said}")
    return said


async def _delivered(outbox: Outbox, settings: Settings, ways: Sequence[Channel], name: str) -> Outbox:
    """Send what is owed; a channel that was in trouble before is not waited for."""

    async def save(present: Outbox) -> None:
        await save_text(name, present.model_dump_json(exclude_defaults=True))

    ill = {*outbox.channels, *(way.name for way in ways if way.problem)}
    for wait in (*WAITS_S, None):
        outbox = await deliver_async(outbox, [], ways, links_of(settings), utc_now(), save)
        if wait is None or not outbox.waiting([way.name for way in ways]) - ill:
            break
        await asyncio.sleep(wait)
    return outbox


async def _again(name: str) -> bool:
    """Schedule a run that sends the rest: one for all alerts of a span of time, and a later one than this.

    Args:
        name: of the memory.
    Returns: whether there is one; there is none for a run without a deployment.
    """
    deployment_id = deployment.id
    if not deployment_id:
        return False
    number = int(utc_now().timestamp() + _EARLY_S) // AGAIN_S + 1
    try:
        async with get_client() as client:
            await client.create_flow_run_from_deployment(
                UUID(str(deployment_id)),
                parameters={"request": {"rest": True}},
                state=Scheduled(scheduled_time=datetime.fromtimestamp(number * AGAIN_S, UTC)),
                idempotency_key=f"{name}-{AGAIN_S}-{number}",
            )
    except httpx.HTTPError as error:
        line(f"no run was scheduled that sends the rest: Prefect's API failed ({type(error).__name__})")
        return False
    return True


async def _remembered(name: str) -> Outbox:
    """What earlier alerts left; a memory that cannot be read is begun anew, which may tell a run twice and loses none."""
    try:
        text = await load_text(name)
        return Outbox() if text is None else Outbox.model_validate_json(text)
    except (IntegrityError, ValidationError) as error:
        line(f"what earlier alerts left cannot be read ({type(error).__name__}): begun anew")
        return Outbox()
