"""The judgement: from what was seen, and what is remembered, to verdicts and incidents. Values in, values out.

- An incident opens when something was bad for `failure_threshold` sweeps in a row, or comes and goes too often.
- Nothing is judged before the whole sweep is there. A service whose need is down is a casualty: it opens no incident, the
  cause lists it, and it has the whole threshold to recover after its cause did. Only opening and reminding are held back,
  never the end of an incident.
- A service that is down has one incident, whatever else is bad about it meanwhile; an aspect that is only degraded,
  or that says nothing about whether the service can be used (`dependencies.is_aside`), has its own.
- Unknown is neither good nor bad: it opens nothing, excuses nobody, and ends nothing. A service of which nothing is known for
  long is an incident of its own (`blindness.py`); its verdict stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.health.acknowledged import Acknowledgement, take
from flows.health.blindness import blindness
from flows.health.dependencies import BLIND, in_order
from flows.health.episodes import BADLY, casualties_of, ending, go_on, sentence_of, speak
from flows.health.incidents import Happening, Incident, key_of, severity_of
from flows.health.observation import Observation, Status
from flows.health.policy import Policy
from flows.health.state import Episode, State, Track
from flows.health.sweep import Sweep, is_failing
from flows.health.tracks import WHOLE, follow, is_ready, track_of
from flows.health.verdicts import Verdict, conclude
from flows.health.windows import Window

__all__ = ["MOST_UNEMITTED", "Judgement", "judge"]

MOST_UNEMITTED = 50
"""Happenings that wait for a Prefect event, while those cannot be emitted; the alerts know no such limit."""


@dataclass(frozen=True)
class Judgement:
    """What a sweep concludes.

    Attributes:
        state: to remember; its `unemitted` holds the happenings, too, until there is a Prefect event of each.
        verdicts: by service, those that others need first. happenings: of this sweep; ends first, then openings.
    """

    state: State
    verdicts: Mapping[str, Verdict]
    happenings: list[Happening]


def judge(
    previous: State,
    observations: Sequence[Observation],
    policy: Policy,
    now: datetime,
    maintenance: Sequence[Window] = (),
    acknowledged: Mapping[str, Acknowledgement] | None = None,
) -> Judgement:
    """Judge one sweep.

    Args:
        previous: what the sweep before this one left.
        observations: everything that was seen, in any order.
        now: when, in UTC; parts of a second are dropped.
        maintenance: all windows; those that are not open do nothing.
        acknowledged: who works on which incident, by its key; None: nobody knows, and it stays as it was.
    """
    now = now.replace(microsecond=0)
    not_seen, blind = blindness(previous, observations, policy, now)
    sweep = Sweep.of([*observations, *not_seen], previous.episodes, maintenance, now)
    tracks = follow(previous.tracks, sweep, policy)
    ended: list[Happening] = []
    said: list[Happening] = []
    episodes: list[Episode] = []
    fallen = set(sweep.held_down)
    for before in previous.episodes:
        service = before.incident.service
        taken, word = take(before, acknowledged, now)
        episode, raised = go_on(taken, sweep, tracks, policy, may_fall=service not in fallen)
        fallen |= {service} if episode.down else set()
        end = ending(episode, policy, now)
        if end is not None:
            said += raised
            ended.append(end)
            continue
        said += [word, *raised] if word else raised
        episode, spoken = speak(episode, sweep, policy)
        said += [spoken] if spoken else []
        episodes.append(episode)
    opened = list(_opened(previous.stack, episodes, sweep, tracks, policy))
    happenings = [*ended, *(_opening(episode.incident) for episode in opened), *said]
    verdicts = {
        service: conclude(
            service,
            [one for one in seen.values() if one.aspect != BLIND],
            previous.services.get(service),
            now,
            muted=service in sweep.muted,
            because_of=in_order(sweep.suspected(service)),
        )
        for service, seen in sweep.seen.items()
    }
    state = previous.model_copy(
        update={
            "swept_at": now,
            "services": {service: verdict.remembered() for service, verdict in verdicts.items()},
            "tracks": tracks,
            "blind": blind,
            "episodes": (*episodes, *opened),
            "closed": (*(end.incident for end in reversed(ended)), *previous.closed)[: policy.closed_kept],
            "unemitted": (*previous.unemitted, *happenings)[-MOST_UNEMITTED:],
        }
    )
    return Judgement(state, verdicts, happenings)


def _opened(
    stack: str, still_open: Sequence[Episode], sweep: Sweep, tracks: Mapping[str, Track], policy: Policy
) -> Iterator[Episode]:
    """Open what is due: one incident for a service that is down, one for each aspect of another that is degraded."""
    for service, seen in sweep.seen.items():
        if service in sweep.muted or sweep.suspected(service):
            continue
        mine = [episode for episode in still_open if episode.incident.service == service]
        if service in sweep.held_down or any(episode.down for episode in mine):
            continue
        aspects = {episode.incident.aspect for episode in mine}
        down = [aspect for aspect, one in seen.items() if is_failing(one)]
        if down:
            ready = any(is_ready(tracks, service, aspect, policy) for aspect in (WHOLE, *down))
            if ready and not aspects.intersection(down):
                aspect = min(down, key=lambda name: (track_of(tracks, service, name).since or sweep.now, name))
                yield _open(stack, service, aspect, Status.DOWN, sweep, tracks)
            continue
        for aspect, one in seen.items():
            if one.status in BADLY and aspect not in aspects and is_ready(tracks, service, aspect, policy):
                yield _open(stack, service, aspect, one.status, sweep, tracks)


def _opening(incident: Incident) -> Happening:
    return Happening(
        kind="opened", incident=incident, at=incident.opened_at, note="comes and goes" if incident.flapping else ""
    )


def _open(stack: str, service: str, aspect: str, status: Status, sweep: Sweep, tracks: Mapping[str, Track]) -> Episode:
    own, whole = track_of(tracks, service, aspect), track_of(tracks, service)
    is_down = is_failing(sweep.seen[service][aspect])
    incident = Incident(
        key=key_of(stack, service, aspect, sweep.now),
        stack=stack,
        service=service,
        aspect=aspect,
        severity=severity_of(service, status, blind=aspect == BLIND),
        sentence=sentence_of(sweep, service, aspect, down=is_down),
        since=(whole.since if is_down else own.since) or sweep.now,
        opened_at=sweep.now,
        casualties=casualties_of(sweep, service) if is_down else (),
        flapping=own.flapping or (is_down and whole.flapping),
    )
    return Episode(incident=incident, down=is_down, said_at=sweep.now)
