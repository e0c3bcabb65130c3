"""Asking the checks of a sweep, now, about one service: what opened an incident is also what says that it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from flows.health.checks import platform
from flows.health.dependencies import is_aside, needs_of
from flows.health.observation import Observation, Status
from flows.health.observe import carry_out, checks
from flows.health.targets import Targets

__all__ = ["down_needs", "observe_services", "wrong_with"]


def observe_services(targets: Targets, services: Collection[str]) -> list[Observation]:
    """Look at services as a sweep does, and at nothing else.

    Returns: what was seen of them. Postgres' check also says what is wrong with applications, and the platform's of all.
    """
    asked = {*services, platform.SERVICE, *({"postgres"} if "langfuse-worker" in services else ())}
    found = asyncio.run(carry_out([one for one in checks(targets) if one.service in asked], targets.timeout))
    return [one for one in found if one.service in services]


def wrong_with(observations: Sequence[Observation], service: str, aspects: Collection[str] = ()) -> list[str]:
    """Say what is not well.

    Args:
        aspects: that have to be ok; whatever else is down counts, too.
    Returns: a sentence each; one for the service where nobody saw anything of it: that is no proof of health.
    """
    seen = {one.aspect: one for one in observations if one.service == service}
    if not seen:
        return [f"nothing could be seen of {service}: is it configured for the watch?"]
    bad = [one.sentence for name, one in seen.items() if _is_bad(one, name in aspects)]
    if not any(one.status is Status.OK for one in seen.values()):
        bad = bad or [one.sentence for one in seen.values()]
    if bad:
        return bad
    return [f"{service}: {aspect} was not looked at" for aspect in aspects if aspect not in seen]


def down_needs(observations: Sequence[Observation], service: str) -> list[str]:
    """Name the services that one needs and that are down."""
    down = {one.service for one in observations if one.status is Status.DOWN and not is_aside(one.service, one.aspect)}
    return sorted(down & needs_of(service))


def _is_bad(one: Observation, named: bool) -> bool:
    if named:
        return one.status is not Status.OK
    return one.status is Status.DOWN and not is_aside(one.service, one.aspect)
