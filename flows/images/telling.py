"""Who is told what about images: an incident for each finding, opened once, said again each week, closed when it is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from flows.health.incidents import Happening, Incident, key_of
from flows.health.ledger import Case, Outbox
from flows.images.judge import Finding, Verdict

__all__ = ["AGAIN", "happenings"]

AGAIN = timedelta(days=7)
"""What lasts is said again after so long."""
_OURS = "image-"


def happenings(outbox: Outbox, verdicts: Sequence[Verdict], stack: str, now: datetime) -> list[Happening]:
    """Compare what was found with what is open.

    Args:
        outbox: of earlier runs: its open cases are what people know about. verdicts: of this run.
    Returns: what happened since, in order. What nobody could look at stays as it was.
    """
    found = {(one.service, one.aspect): one for verdict in verdicts for one in verdict.findings}
    open_cases = {(case.service, case.aspect): case for case in outbox.cases if not case.over and case.aspect.startswith(_OURS)}
    known = {verdict.look.service for verdict in verdicts if verdict.is_known}
    gone = _gone(outbox, {verdict.look.service for verdict in verdicts})
    happened = [
        Happening(kind="closed", incident=_closed(case, now), at=now)
        for key, case in open_cases.items()
        if key not in found and (case.service in known or case.service in gone)
    ]
    for key, finding in found.items():
        case = open_cases.get(key)
        if case is None:
            happened.append(Happening(kind="opened", incident=_incident(finding, stack, now), at=now))
        elif now - case.opened_at >= (case.reminders + 1) * AGAIN:
            weeks = int((now - case.opened_at) / AGAIN)
            incident = _incident(finding, stack, case.opened_at).model_copy(update={"key": case.key, "reminders": weeks})
            happened.append(Happening(kind="reminded", incident=incident, at=now, ordinal=weeks))
    return happened


def _gone(outbox: Outbox, services: Collection[str]) -> set[str]:
    """Services of open cases that the stack does not have any more."""
    return {case.service for case in outbox.cases} - set(services)


def _incident(finding: Finding, stack: str, opened_at: datetime) -> Incident:
    return Incident(
        key=key_of(stack, finding.service, finding.aspect, opened_at),
        stack=stack,
        service=finding.service,
        aspect=finding.aspect,
        severity=finding.severity,
        sentence=finding.sentence,
        since=opened_at,
        opened_at=opened_at,
    )


def _closed(case: Case, now: datetime) -> Incident:
    return Incident(
        key=case.key,
        stack=case.stack,
        service=case.service,
        aspect=case.aspect,
        severity=case.severity,
        sentence=case.sentence,
        since=case.opened_at,
        opened_at=case.opened_at,
        closed_at=now,
        reminders=case.reminders,
    )
