"""What is known of an incident, put in order and written down as a postmortem: values in, Markdown out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flows.health.episodes import in_words
from flows.health.incidents import Incident
from flows.health.published import ToldIncident
from flows.runbook.audit import Entry
from flows.runbook.evidence import Deployed, Event, Run

__all__ = ["AFTER", "BEFORE", "Moment", "Story", "moments_of", "unknown", "written"]

BEFORE, AFTER = timedelta(hours=1), timedelta(minutes=30)
"""What happened so long before an incident was first seen, and after it was over, belongs to it."""
_SAME = timedelta(seconds=1)
_LONGEST = 300
_MOST = 400
"""Lines of the timeline."""


@dataclass(frozen=True)
class Moment:
    """One line of the timeline. source: who knows it."""

    at: datetime
    source: str
    text: str


@dataclass(frozen=True)
class Story:
    """What is known.

    Attributes:
        told: the incident with what the sweeps told of it. trail: the audit trail of its time, oldest first.
        moments: in order. gaps: a sentence for what is not known, and why. now: when this is written.
    """

    stack: str
    told: ToldIncident
    trail: Sequence[Entry]
    moments: Sequence[Moment]
    gaps: Sequence[str]
    now: datetime


def moments_of(
    told: ToldIncident,
    *,
    events: Iterable[Event] = (),
    runs: Iterable[Run] = (),
    deployments: Iterable[Deployed] = (),
    trail: Iterable[Entry] = (),
) -> list[Moment]:
    """Put everything that happened around an incident in order; what two sources know of the same happening is said once."""
    incident = told.incident
    found = [Moment(incident.since, "watch", "first seen bad")] if incident.since < incident.opened_at else []
    found += [Moment(entry.at, "watch", f"{entry.kind}: {entry.text}") for entry in told.timeline]
    known = [(entry.at, entry.kind) for entry in told.timeline]
    for event in events:
        kind = event.name.removeprefix("stack.incident.")
        mine = event.payload.get("key") == incident.key
        if mine and any(name == kind and abs(at - event.at) <= _SAME for at, name in known):
            continue
        found.append(Moment(event.at, "event", _event(event, mine=mine)))
    for run in runs:
        if run.begun is not None:
            found.append(Moment(run.begun, "run", f"{run.flow} {run.name} began"))
        if run.ended is not None:
            message = f": {run.message}" if run.message and not run.good else ""
            found.append(Moment(run.ended, "run", f"{run.flow} {run.name} ended as {run.state}{message}"))
    for one in deployments:
        image = f" of {one.deployment.image}" if one.deployment.image else ""
        text = f"deployment of {one.service}{image}, now {one.deployment.status}"
        found.append(Moment(one.deployment.created_at, "Railway", text))
    found += [Moment(entry.at, "audit", _entry(entry)) for entry in trail]
    return sorted((_clipped(one) for one in found), key=lambda one: one.at)


def written(story: Story) -> str:
    """Write the postmortem. Only what is known stands there; what people have to add is asked for."""
    incident = story.told.incident
    lines = [f"# Postmortem: {incident.service}, {incident.aspect}, {_at(incident.opened_at)}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in _facts(story)), ""]
    lines += ["## What was done about it", ""]
    mine = [entry for entry in story.trail if entry.incident == incident.key]
    lines += [_done(entry) for entry in mine] or ["Nothing that stands in the audit trail."]
    lines += ["", "## Timeline", "", "All times are UTC.", "", "| time | source | what |", "|---|---|---|"]
    shown = list(story.moments[:_MOST])
    lines += [f"| {one.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} | {one.source} | {_cell(one.text)} |" for one in shown]
    gaps = [*story.gaps]
    if len(story.moments) > len(shown):
        gaps.append(f"{len(story.moments) - len(shown)} later moments are left out here")
    lines += ["", "## What is not known", "", *(f"- {gap}" for gap in gaps or ["nothing that was looked for is missing"])]
    lines += ["", "## For people to add", ""]
    lines += [f"- {question}" for question in _QUESTIONS]
    return "\n".join(lines) + "\n"


_QUESTIONS = (
    "Who noticed what, and what did users lose? What stands above is only what was measured.",
    "What was the cause, and what made it possible?",
    "What helped, what was in the way?",
    "What is changed so that it does not come again, by whom, until when?",
)


def _facts(story: Story) -> Iterable[tuple[str, str]]:
    incident = story.told.incident
    yield "incident", f"`{incident.key}`"
    yield "what was seen", incident.sentence or "not known"
    yield "severity", f"{incident.severity}{', escalated' if incident.escalated else ''}"
    yield "first seen", f"{_at(incident.since)}"
    yield "opened", f"{_at(incident.opened_at)}, {in_words(incident.opened_at - incident.since)} after it was first seen"
    if incident.acknowledged_at is not None:
        after = in_words(incident.acknowledged_at - incident.opened_at)
        yield "acknowledged", f"{_at(incident.acknowledged_at)}, by {incident.acknowledged_by}, {after} after it was opened"
    if incident.closed_at is None:
        yield "closed", f"not yet, open for {in_words(story.now - incident.opened_at)} when this was written"
    else:
        lasted = in_words(incident.closed_at - incident.since)
        yield "closed", f"{_at(incident.closed_at)}: it lasted {lasted} from when it was first seen"
    yield "taken along", ", ".join(incident.casualties) or "nobody"
    yield "reminders", str(incident.reminders)
    yield "written", _at(story.now)


def _event(event: Event, *, mine: bool) -> str:
    if event.name.startswith("stack.incident."):
        whose = "" if mine else f" (another incident: {event.payload.get('service')}/{event.payload.get('aspect')})"
        words = event.payload.get("note") or event.payload.get("sentence") or event.payload.get("result") or ""
        return f"{event.name}{whose}: {words}"
    known = ", ".join(f"{name} {value}" for name, value in sorted(event.payload.items()) if isinstance(value, str | int))
    return f"{event.name}: {known}" if known else event.name


def _entry(entry: Entry) -> str:
    result = f": {entry.result}" if entry.result else ""
    return f"{entry.actor} {entry.service} {entry.kind}: {entry.what}{result} (by {entry.by or 'nobody who was named'})"


def _done(entry: Entry) -> str:
    why = f", because {entry.why}" if entry.why else ""
    result = f": **{entry.result}**" if entry.result else ""
    return f"- {entry.at.astimezone(UTC):%H:%M:%S} {entry.actor}, {entry.kind}, by {entry.by or '?'}{why}: {entry.what}{result}"


def _clipped(one: Moment) -> Moment:
    text = " ".join(one.text.split())
    return one if text == one.text and len(text) <= _LONGEST else Moment(one.at, one.source, text[:_LONGEST])


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def unknown(key: str, stack: str, service: str, aspect: str, opened: datetime) -> ToldIncident:
    """An incident of which nobody remembers more than its key says."""
    incident = Incident(
        key=key, stack=stack, service=service, aspect=aspect, severity="error", sentence="", since=opened, opened_at=opened
    )
    return ToldIncident(incident=incident)
