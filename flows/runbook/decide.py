"""Which runbook answers an incident, and whether it runs by itself: decided on values, without a clock and without Prefect.

- Of the catalogue's entries that answer an incident the first is its runbook; what people start by hand is never started here.
- Once an incident: what has been tried for it is not tried again. Twice the same incident, it is a person's turn.
- A runbook rests between two runs for the same service (the cool-down); an incident of that time is looked at again after it.
- So many runs of a runbook for one service within an hour, then a person is told to look.
- What deletes or moves data asks, whatever the switches say: the runbook itself does, once it knows what it would do.
- A person who asks for the runbook by name gets it: no switch, no cool-down and no ceiling stands in the way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, get_args

from blocks.settings import Settings, Severity
from flows.health.incidents import Incident
from flows.runbook.catalogue import Entry
from flows.runbook.history import History

__all__ = ["Decision", "Policy", "Switch", "Verb", "decide"]

HOUR = timedelta(hours=1)
ALL = "all"
"""In place of a service: every one that has no switch of its own."""

Switch = Literal["automatic", "ask", "never"]
Verb = Literal["start", "propose", "wait", "leave", "hand over"]


@dataclass(frozen=True)
class Policy:
    """How much runs by itself.

    Attributes:
        switches: by `<service>`, `<service>/<severity>`, `all` or `all/<severity>`.
        cooldown: between two runs of a runbook for a service. tries: of those within an hour.
    """

    switches: Mapping[str, Switch] = field(default_factory=dict)
    cooldown: timedelta = timedelta(seconds=300)
    tries: int = 3

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """Read it from the settings, which have been checked."""
        pairs = (written.partition("=") for written in settings.runbook_switches)
        known: dict[str, Switch] = {switch: switch for switch in get_args(Switch)}
        return cls(
            switches={place: known[switch] for place, _, switch in pairs},
            cooldown=timedelta(seconds=settings.runbook_cooldown),
            tries=settings.runbook_tries,
        )

    def switch(self, service: str, severity: Severity) -> Switch:
        """The switch of a service's incident: of what is written the most exact."""
        places = (f"{service}/{severity}", service, f"{ALL}/{severity}", ALL)
        return next((self.switches[place] for place in places if place in self.switches), "automatic")


@dataclass(frozen=True)
class Decision:
    """What is done about an incident.

    Attributes:
        verb: start: the runbook runs now. propose: a run of it waits for a person. wait: look again at `until`.
            leave: nothing. hand over: nothing, and a person is told to look.
        why: a sentence for the log and the audit trail. entry: the runbook, where there is one.
        number: which run of a runbook this is for the incident, from 1: the same for a run that may have been made already.
    """

    verb: Verb
    why: str
    entry: Entry | None = None
    number: int = 0
    until: datetime | None = None


def decide(
    incident: Incident,
    entries: Sequence[Entry],
    history: History,
    policy: Policy,
    now: datetime,
    *,
    muted: Collection[str] = (),
    by: str = "",
) -> Decision:
    """Decide about an open incident.

    Args:
        entries: the catalogue. history: of what was started before.
        muted: services in a maintenance window: whoever works on them wants no help.
        by: the person who asks for the runbook; empty: an incident opened or got worse, and nobody did.
    """
    answers = (one for one in entries if one.answers(incident.service, incident.aspect))
    entry = next((one for one in answers if by or one.kind != "manual"), None)
    if entry is None:
        return Decision("leave", f"no runbook answers {incident.service}/{incident.aspect}: it is for people")
    tries = history.of(incident.key)
    if by:
        return Decision("start", f"{by} asked for it", entry, len(tries) + 1)
    unfinished = next((number for number, one in enumerate(tries, 1) if not one.run_id and one.runbook == entry.name), 0)
    if tries and not unfinished:
        last = tries[-1]
        return Decision("leave", f"{last.runbook} was started for it at {last.at:%H:%M} UTC: once an incident", entry)
    if incident.key in history.handed_over:
        return Decision("leave", "it has been handed over to people", entry)
    switch = policy.switch(incident.service, incident.severity)
    if incident.service in muted:
        return Decision("leave", f"{incident.service} is in a maintenance window", entry)
    if switch == "never":
        return Decision("leave", f"{incident.service} is switched to never for what is {incident.severity}", entry)
    if not unfinished and (halt := _halt(incident, entry, history, policy, now)):
        return halt
    number = unfinished or len(tries) + 1
    if entry.kind == "asks":
        return Decision("start", "it shows what it would do, and asks", entry, number)
    if switch == "ask":
        return Decision("propose", f"{incident.service} is switched to ask for what is {incident.severity}", entry, number)
    return Decision("start", "it is safe to run by itself", entry, number)


def _halt(incident: Incident, entry: Entry, history: History, policy: Policy, now: datetime) -> Decision | None:
    """Whether a runbook has run too often, or too lately, for a service. Runs that people asked for count as well."""
    before = sorted(one.at for one in history.tries if (one.runbook, one.service) == (entry.name, incident.service))
    recent = [at for at in before if at > now - HOUR]
    if len(recent) >= policy.tries:
        times = "once" if len(recent) == 1 else f"{len(recent)} times"
        why = (
            f"{entry.name} was started {times} for {incident.service} within an hour, at most {policy.tries}, and it is in "
            f"trouble again ({incident.aspect}); look at those runs and at {incident.service} yourself"
        )
        return Decision("hand over", why, entry)
    if before and now < before[-1] + policy.cooldown:
        until = before[-1] + policy.cooldown
        return Decision("wait", f"{entry.name} rests until {until:%H:%M:%S} UTC after its last run", entry, until=until)
    return None
