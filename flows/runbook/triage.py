"""Triage of an outage: who is down by itself, who only because of what is below it, and in which order they are healed.

Decides on values alone: no network, no clock, no Prefect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blocks.railway import PROTECTED
from flows.health.dependencies import in_order, is_aside, needs_of
from flows.health.observation import Observation, Status
from flows.runbook.frame import Action, Diagnosis, Verdict
from flows.runbook.restarting import CHANGING
from railway.stack import SERVICES

__all__ = ["OUTAGE", "Known", "Triage", "decide", "triage"]

OUTAGE = "stack"
"""In place of a service's name: whom this runbook heals."""


@dataclass(frozen=True)
class Triage:
    """What is down, and why.

    Attributes:
        levels: services that are down, from the bottom of the graph up: each needs, of those that are down, only ones of the
            levels before it. Those of the first level are down by themselves.
        sentences: what the checks say of each of them.
        dark: services that a check could not look at at all: unknown is not down.
        left: those that are down and that no run may restart.
    """

    levels: tuple[tuple[str, ...], ...] = ()
    sentences: tuple[tuple[str, str], ...] = ()
    dark: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def down(self) -> tuple[str, ...]:
        """All that may be healed, in the order in which they are."""
        return tuple(name for level in self.levels for name in level)

    @property
    def roots(self) -> tuple[str, ...]:
        """Those that are down by themselves."""
        return self.levels[0] if self.levels else ()

    @property
    def casualties(self) -> tuple[str, ...]:
        """Those that need something that is down."""
        return self.down[len(self.roots) :]


def triage(observations: Sequence[Observation]) -> Triage:
    """Sort what a look at the services has shown; what is not a service of the stack is left out."""
    mine = [one for one in observations if one.service in SERVICES]
    bad: dict[str, str] = {}
    for one in mine:
        if one.status is Status.DOWN and not is_aside(one.service, one.aspect):
            bad.setdefault(one.service, one.sentence)
    seen = {one.service for one in mine if one.status is not Status.UNKNOWN}
    dark = in_order({one.service for one in mine} - seen - bad.keys())
    waiting, levels = [name for name in in_order(bad) if name not in PROTECTED], []
    while waiting:
        level = tuple(name for name in waiting if not needs_of(name) & set(waiting))
        levels.append(level)
        waiting = [name for name in waiting if name not in level]
    left = tuple(name for name in in_order(bad) if name in PROTECTED)
    return Triage(tuple(levels), tuple((name, bad[name]) for name in in_order(bad)), dark, left)


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        found: the triage. at_work: the flow that holds the stack's lock, or empty. looked: the services that were looked at.
    """

    found: Triage
    at_work: str = ""
    looked: Sequence[str] = ()


def decide(known: Known, ladder: Sequence[Action]) -> Diagnosis:
    """Conclude from what is known.

    Args:
        ladder: an action for each level, from the bottom up.
    """
    found = known.found
    facts = {name: sentence for name, sentence in found.sentences if name not in found.casualties}
    facts |= {name: f"down with what it needs: {text}" for name, text in found.sentences if name in found.casualties}
    facts["not to be seen"] = ", ".join(found.dark) or "none"
    facts["looked at"] = ", ".join(known.looked) or "nothing"
    facts["at work on the stack"] = known.at_work or "nobody"
    if not found.down and not found.left:
        if not known.looked or found.dark:
            dark = ", ".join(found.dark) or "any service"
            return Diagnosis(Verdict.PERSON, f"nobody could look at {dark}, and unknown is not down: see the last sweep", facts)
        return Diagnosis(Verdict.NOTHING, f"none of {', '.join(known.looked)} is down", facts)
    if not found.down:
        names = ", ".join(found.left)
        why = f"{names} operate the stack, and a run must not end itself: restart them in Railway's dashboard"
        return Diagnosis(Verdict.PERSON, why, facts)
    if known.at_work in CHANGING:
        why = f"{known.at_work} is under way, and starts what it stops by itself: wait for its end"
        return Diagnosis(Verdict.PERSON, why, facts)
    sentence = f"{', '.join(found.roots)} down by themselves" if len(found.roots) > 1 else f"{found.roots[0]} is down by itself"
    if found.casualties:
        sentence += f"; {', '.join(found.casualties)} with what they need"
    if found.left:
        sentence += f"; {', '.join(found.left)} are left to people"
    return Diagnosis(Verdict.HEALS, sentence, facts, tuple(ladder))
