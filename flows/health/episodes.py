"""Open incidents, sweep by sweep: how one goes on, when it is said again, when it is over. Nothing here opens one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from flows.health.dependencies import BLIND, in_order, is_aside, needs_of
from flows.health.incidents import Happening, Incident, rank, severity_of
from flows.health.observation import Status
from flows.health.policy import Policy
from flows.health.state import Episode, Track
from flows.health.sweep import Sweep, is_failing
from flows.health.tracks import WHOLE, is_ready, track_of

__all__ = ["BADLY", "casualties_of", "ending", "go_on", "in_words", "sentence_of", "speak"]

BADLY = (Status.DEGRADED, Status.DOWN)
_LONGEST_SENTENCE = 300


def go_on(
    episode: Episode, sweep: Sweep, tracks: Mapping[str, Track], policy: Policy, *, may_fall: bool
) -> tuple[Episode, list[Happening]]:
    """Take in what one more sweep saw of an open incident.

    Args:
        tracks: as they are after the sweep. may_fall: the service has no other incident for being down.
    Returns: the episode; and a happening where its severity rose.
    """
    incident = episode.incident
    service, aspect = incident.service, incident.aspect
    whole, own = track_of(tracks, service), track_of(tracks, service, aspect)
    status = sweep.status(service, aspect)
    is_down = service in sweep.down
    # the service is not down: nothing of it is, and nothing that was down has become unknown
    is_calm = service in sweep.seen and not is_down and not whole.down and _is_known(sweep, service)
    down, calm = episode.down, 0 if is_down else episode.calm + is_calm
    if down and calm >= policy.recovery_threshold:
        down = False  # those that need it have no excuse any more, even if it is still degraded
    said: list[Happening] = []
    if status is Status.DOWN and not down and not sweep.suspected(service):
        aside = is_aside(service, aspect)
        if is_ready(tracks, service, aspect, policy) if aside else may_fall and is_ready(tracks, service, WHOLE, policy):
            down, calm = not aside, 0
            incident, said = _raised(incident, sweep.now)
    is_bad = status in BADLY or (down and is_down)
    is_good = status is Status.OK and not is_bad and (not down or is_calm)
    flapping = whole.flapping or own.flapping
    update: dict[str, object] = {"flapping": flapping}
    if is_bad:
        update["sentence"] = sentence_of(sweep, service, aspect, down=down)
        update["casualties"] = casualties_of(sweep, service) if down else ()
    return episode.model_copy(
        update={
            "incident": incident.model_copy(update=update),
            "down": down,
            "calm": calm,
            "good": 0 if is_bad else episode.good + is_good,
            "missing": _missing(episode, sweep),
            "said_at": sweep.now if said else episode.said_at,
        }
    ), said


def ending(episode: Episode, policy: Policy, now: datetime) -> Happening | None:
    """Say that an incident is over, if it is. Neither a cause elsewhere nor a maintenance window keeps it open."""
    incident = episode.incident
    if episode.good >= policy.recovery_threshold and not incident.flapping:
        note = f"recovered after {in_words(now - incident.opened_at)}"
    elif episode.missing >= policy.missing_sweeps:
        note = f"{incident.aspect} has not been looked at for {policy.missing_sweeps} sweeps: no longer watched"
    else:
        return None
    return Happening(kind="closed", incident=incident.model_copy(update={"closed_at": now}), at=now, note=note)


def speak(episode: Episode, sweep: Sweep, policy: Policy) -> tuple[Episode, Happening | None]:
    """Escalate or remind where it is due: not while it recovers or somebody works on it, not in a maintenance window, not while
    others are to blame.
    """
    incident, now = episode.incident, sweep.now
    if episode.good or episode.said_at == now or incident.service in sweep.muted or sweep.suspected(incident.service):
        return episode, None
    if incident.acknowledged_at is not None:
        return episode, None  # somebody is at it
    if not episode.down and incident.service in sweep.down | sweep.held_down:
        return episode, None  # the service has an incident for being down
    open_for = now - incident.opened_at
    if not incident.escalated and open_for >= policy.escalate_after:
        incident = incident.model_copy(update={"escalated": True})
        said = Happening(
            kind="escalated", incident=incident, at=now, ordinal=1 + incident.raised, note=f"open for {in_words(open_for)}"
        )
    elif now - episode.said_at >= policy.pause(incident.reminders):
        incident = incident.model_copy(update={"reminders": incident.reminders + 1})
        said = Happening(
            kind="reminded", incident=incident, at=now, ordinal=incident.reminders, note=f"open for {in_words(open_for)}"
        )
    else:
        return episode, None
    return episode.model_copy(update={"incident": incident, "said_at": now}), said


def sentence_of(sweep: Sweep, service: str, aspect: str, *, down: bool) -> str:
    """What was bad: of the aspect itself; of a service that is down by others, of the first of those."""
    seen = sweep.seen[service]
    own = seen.get(aspect)
    shown = own if own and own.status in BADLY else None
    if down and (shown is None or shown.status is not Status.DOWN):
        shown = next(filter(is_failing, seen.values()), shown)
    return " ".join(shown.sentence.split())[:_LONGEST_SENTENCE] if shown else ""


def casualties_of(sweep: Sweep, service: str) -> tuple[str, ...]:
    """Those that need a service, are not well, and have no maintenance window."""
    return in_order(
        name
        for name, seen in sweep.seen.items()
        if service in needs_of(name) and name not in sweep.muted and any(one.status in BADLY for one in seen.values())
    )


def in_words(length: timedelta) -> str:
    """A length of time for people: `45 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3600
    if hours < 2:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _raised(incident: Incident, now: datetime) -> tuple[Incident, list[Happening]]:
    """An aspect that was degraded is down by now."""
    severity = severity_of(incident.service, Status.DOWN)
    if rank(severity) <= rank(incident.severity):
        return incident, []
    note = f"was {incident.severity}, is {severity}"
    incident = incident.model_copy(update={"severity": severity, "raised": incident.raised + 1})
    ordinal = incident.raised + incident.escalated
    return incident, [Happening(kind="escalated", incident=incident, at=now, ordinal=ordinal, note=note)]


def _is_known(sweep: Sweep, service: str) -> bool:
    return any(one.status is not Status.UNKNOWN for one in sweep.seen[service].values() if one.aspect != BLIND)


def _missing(episode: Episode, sweep: Sweep) -> int:
    """Count on where others were looked at but this aspect was not; a service that is down has hidden aspects."""
    incident = episode.incident
    if sweep.status(incident.service, incident.aspect) is not None:
        return 0
    hidden = incident.service in sweep.seen and (incident.service in sweep.down or not _is_known(sweep, incident.service))
    return episode.missing if hidden or not sweep.seen else episode.missing + 1
