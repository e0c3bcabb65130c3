"""A service that nobody can see: unknown excuses nobody and is no incident, but unknown for long is one, of the watch itself.

As an aspect BLIND is degraded, never down, so it has the threshold, the causes and the windows of any other: a worker of which
nothing is known because its server is down is a casualty. It says nothing about whether the service can be used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from flows.health.dependencies import BLIND
from flows.health.observation import Observation, Status
from flows.health.policy import Policy
from flows.health.state import State

__all__ = ["blindness"]


def blindness(
    previous: State, observations: Sequence[Observation], policy: Policy, now: datetime
) -> tuple[list[Observation], dict[str, datetime]]:
    """Say who is not seen, and for how long.

    Args:
        previous: what the sweep before remembered. observations: of this sweep.
    Returns: an observation of BLIND for each service that has not been seen for long, or that is seen again; and, to remember,
        since when nothing is known, by service.
    """
    seen: dict[str, list[Observation]] = {}
    for one in observations:
        seen.setdefault(one.service, []).append(one)
    unseen = {
        service: previous.blind.get(service, now)
        for service, found in seen.items()
        if all(one.status is Status.UNKNOWN for one in found)
    }
    open_ones = {one.incident.service for one in previous.episodes if one.incident.aspect == BLIND}
    counted = {name.partition("/")[0] for name in previous.tracks if name.endswith(f"/{BLIND}")}
    found = [
        Observation(service=service, aspect=BLIND, status=Status.DEGRADED, sentence=_sentence(seen[service], since))
        for service, since in unseen.items()
        if now - since >= policy.blind_after
    ]
    again = [
        Observation(service=service, aspect=BLIND, status=Status.OK, sentence="seen again")
        for service in seen
        if service not in unseen and service in open_ones | counted
    ]
    return [*found, *again], _of_those_looked_at(previous.blind, unseen, seen)


def _of_those_looked_at(
    before: Mapping[str, datetime], unseen: Mapping[str, datetime], seen: Mapping[str, object]
) -> dict[str, datetime]:
    """A service that nobody looked at in this sweep is as blind as it was."""
    return {**{service: since for service, since in before.items() if service not in seen}, **unseen}


def _sentence(found: Sequence[Observation], since: datetime) -> str:
    when = f"{since:%Y-%m-%d %H:%M} UTC"
    return f"nobody has been able to see since {when} how it is, so it may be down unnoticed: {found[0].sentence}"
