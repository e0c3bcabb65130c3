"""What a sweep shows to the person who looks at its run: one line in the log, one artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flows.health.episodes import in_words
from flows.health.incidents import Happening, Incident
from flows.health.state import State
from flows.health.verdicts import Verdict, Word
from flows.report import Summary

__all__ = ["artifact", "said", "summary"]

_MARKS = {Word.UP: "🟢", Word.DEGRADED: "🟡", Word.DOWN: "🔴", Word.UNKNOWN: "⚪", Word.MAINTENANCE: "🔧"}


def summary(verdicts: Mapping[str, Verdict], incidents: Sequence[Incident]) -> str:
    """The sweep in one line: who is not up, and how many incidents are open."""
    others = [f"{verdict.service} {verdict.word}" for verdict in verdicts.values() if verdict.word is not Word.UP]
    up = sum(verdict.word is Word.UP for verdict in verdicts.values())
    return f"{up} of {len(verdicts)} up{''.join(f', {other}' for other in others)}; {len(incidents)} open incidents"


def said(happening: Happening) -> str:
    """A happening in one line."""
    incident = happening.incident
    casualties = f" (takes along {', '.join(incident.casualties)})" if incident.casualties else ""
    note = f": {happening.note}" if happening.note else ""
    return f"{happening.kind} {incident.key} {incident.severity}{note}: {incident.sentence}{casualties}"


def artifact(verdicts: Mapping[str, Verdict], state: State) -> Summary:
    """The services in a table, and what is open or was."""
    at = state.swept_at
    shown = Summary(
        f"Health of {state.stack}{f' at {at:%Y-%m-%d %H:%M:%S} UTC' if at else ''}",
        ("Service", "Verdict", "Since", "Latency", "What was seen"),
    )
    for verdict in verdicts.values():
        cause = f" (because of {', '.join(verdict.because_of)})" if verdict.because_of else ""
        latency = f"{verdict.latency_ms:.0f} ms" if verdict.latency_ms is not None else ""
        word = f"{_MARKS[verdict.word]} {verdict.word}"
        shown.row(verdict.service, word, f"{verdict.since:%m-%d %H:%M}", latency, f"{verdict.sentence}{cause}")
    for incident in state.incidents:
        casualties = f"; takes along {', '.join(incident.casualties)}" if incident.casualties else ""
        flapping = "; comes and goes" if incident.flapping else ""
        since = f"since {incident.since:%m-%d %H:%M} UTC"
        at_it = f"; {incident.acknowledged_by} is working on it" if incident.acknowledged_at else ""
        what = f"{incident.sentence}{casualties}{flapping}{at_it}"
        shown.note(f"**{incident.severity}** {incident.service} ({incident.aspect}) {since}: {what}")
    for incident in state.closed[:3]:
        length = in_words(incident.closed_at - incident.since) if incident.closed_at else ""
        shown.note(f"closed: {incident.service} ({incident.aspect}), {incident.severity}, lasted {length}")
    return shown
