"""postmortem: what happened in an incident, in order, from everything that keeps a record."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from blocks.errors import SettingsError
from blocks.railway import RailwayEnvironment
from flows.health.incidents import Incident
from flows.health.memory import load_text
from flows.health.published import ToldIncident, read_published
from flows.health.state import State, memory_name
from flows.report import line
from flows.runbook import audit, evidence
from flows.runbook.bundle import secrets_of
from flows.runbook.environment import environment_if_any
from flows.runbook.evidence import Deployed, Event, Evidence
from flows.runbook.frame import Patient, RunbookRequest
from flows.runbook.timeline import AFTER, BEFORE, Story, moments_of, unknown, written
from flows.stack import Stack

__all__ = ["PostmortemRequest", "chosen", "key_of", "postmortem", "story_of"]


class PostmortemRequest(RunbookRequest):
    """Which incident: `incident`; empty: the one that closed last, or else the newest that is open."""


@flow(name="postmortem", validate_parameters=True, timeout_seconds=1800)
def postmortem(request: PostmortemRequest = PostmortemRequest()) -> str:
    """Write down what happened in an incident, in order.

    Symptom: an incident is over, or drags on, and people ask what happened, when it was noticed and what was done about it.

    Diagnosis: what the sweeps told, Prefect's events and flow runs, deployments on Railway and the audit trail, from an hour
    before the incident was first seen until half an hour after its end.

    Remedy: none; nothing is changed but that the text is put into the store, below `postmortems/`, in place of an earlier one
    of the same incident, and shown as the run's artifact. What is not known is named; the cause is for people to add.

    When not to: wait not too long: Prefect keeps events for two days and runs for fourteen, the sweeps remember the last ten
    incidents that closed. The audit trail stays.

    Args:
        request: which incident.
    Returns: the key of the text in the store; empty for a dry run.
    Raises:
        SettingsError: no incident is known, or what was given is none's key.
        StoreError: it could not be kept; it is in the run's artifact all the same.
    """
    stack, now, had = Stack.load(), datetime.now(UTC), Evidence()
    told = chosen(stack.name, request.incident, had)
    environment = environment_if_any(stack.settings)
    story = story_of(stack, told, environment, had, now)
    hidden = secrets_of([stack.store, stack.keys, stack.postgres, stack.clickhouse, stack.redis, stack.settings, environment])
    text = hidden.scrub(written(story))
    incident = told.incident
    name = re.sub(r"[^a-z0-9]+", "-", f"postmortem-{stack.name}-{incident.service}-{incident.aspect}".lower())
    create_markdown_artifact(key=name, markdown=text, description=f"Postmortem of {incident.key}")
    if request.dry_run:
        line(f"{len(story.moments)} moments of {incident.key}; not kept: a dry run")
        return ""
    key = key_of(stack.store.root, incident)
    stack.store.put(key, text.encode())
    line(f"{len(story.moments)} moments of {incident.key}, {len(story.gaps)} gaps: {key}")
    return key


def key_of(root: str, incident: Incident) -> str:
    """Where an incident's postmortem is kept."""
    name = re.sub(r"[^a-zA-Z0-9._-]+", "-", f"{incident.service}-{incident.aspect}")
    return f"{root}postmortems/{incident.opened_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{name}.md"


def chosen(stack: str, key: str, had: Evidence) -> ToldIncident:
    """Find an incident in what is published and remembered.

    Args:
        key: its key; empty: the one that closed last, or else the newest open one. had: takes what is missing.
    Raises:
        SettingsError: there is none, or it is no key.
    """
    published = had.of("what the sweeps published", lambda: asyncio.run(read_published(stack)), None)
    known = [*published.closed, *published.open] if published else []
    if not key:
        if not known:
            raise SettingsError("postmortem: no incident is known; give its key, as the alert or the audit trail shows it")
        return known[0]
    patient = Patient.of(key)
    if found := next((one for one in known if one.incident.key == key), None):
        return found
    had.gaps.append("the timeline of the sweeps: they remember the last ten incidents that closed, and this is none of them")
    state = had.of("the sweeps' memory", lambda: State.from_text(asyncio.run(load_text(memory_name(stack))), stack), None)
    for one in (*state.incidents, *state.closed) if state else ():
        if one.key == key:
            return ToldIncident(incident=one)
    return unknown(key, stack, patient.service, patient.aspect, _opened_at(key))


def story_of(stack: Stack, told: ToldIncident, environment: RailwayEnvironment | None, had: Evidence, now: datetime) -> Story:
    """Collect everything about an incident. Changes nothing.

    Args:
        environment: on Railway, None where there is none. had: takes what is missing.
    """
    begin = told.incident.since - BEFORE
    events = had.all_of("Prefect's events", lambda: evidence.events(stack.name, begin, now))
    told = _completed(told, events)
    end = min(now, (told.incident.closed_at or now) + AFTER)
    events = [one for one in events if one.at <= end]
    runs = had.all_of("Prefect's flow runs", lambda: evidence.runs_between(begin, end))
    if environment is None:
        had.gaps.append("Railway: there is no token of its API, so no deployment is known")
        deployments: list[Deployed] = []
    else:
        deployments = had.all_of("Railway", lambda: evidence.deployed(environment, begin, end))
    trail = had.all_of("the audit trail", lambda: audit.read(stack.store, begin, end))
    if not any(one.payload.get("key") == told.incident.key for one in events):
        had.gaps.append("Prefect's events of this incident: there are none any more; they are kept for two days")
    moments = moments_of(told, events=events, runs=runs, deployments=deployments, trail=trail)
    return Story(stack.name, told, trail, moments, had.gaps, now)


def _completed(told: ToldIncident, events: Sequence[Event]) -> ToldIncident:
    """An incident that the sweeps have forgotten, as its last event describes it."""
    if told.timeline or told.incident.sentence:
        return told
    mine = [one for one in events if one.payload.get("key") == told.incident.key and "since" in one.payload]
    if not mine:
        return told
    known = {name: value for name, value in mine[-1].payload.items() if name in Incident.model_fields}
    try:
        return ToldIncident(incident=Incident.model_validate(known))
    except ValueError:
        return told


def _opened_at(key: str) -> datetime:
    try:
        return datetime.strptime(key.rpartition("/")[2], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise SettingsError(
            f"postmortem: {key!r} is no key of an incident; expected <stack>/<service>/<aspect>/<time>"
        ) from None
