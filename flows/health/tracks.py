"""Counting: how often an aspect was bad in a row, and whether it comes and goes. Nobody is blamed for what another one did."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from flows.health.dependencies import is_aside, needs_of
from flows.health.observation import Observation, Status
from flows.health.policy import Policy
from flows.health.state import BAD, GOOD, Track
from flows.health.sweep import Sweep, is_failing

__all__ = ["WHOLE", "follow", "is_ready", "track_of"]

WHOLE = ""
"""In place of an aspect: the service being down, by whichever aspect."""

_NONE = Track()
_ECHO = 3
"""Results."""


def track_of(tracks: Mapping[str, Track], service: str, aspect: str = WHOLE) -> Track:
    """The track of an aspect, or of the whole service."""
    return tracks.get(f"{service}/{aspect}", _NONE)


def is_ready(tracks: Mapping[str, Track], service: str, aspect: str, policy: Policy) -> bool:
    """Say whether what was counted is an incident.

    One that comes and goes is not while something that it needs has just failed: then this one may be the echo of that.
    """
    track = track_of(tracks, service, aspect)
    if track.bad >= policy.failure_threshold:
        return True
    return track.flapping and not any(BAD in track_of(tracks, need).results[-_ECHO:] for need in needs_of(service))


def follow(tracks: Mapping[str, Track], sweep: Sweep, policy: Policy) -> dict[str, Track]:
    """Count one more sweep.

    Returns: the tracks, without those that have nothing to tell.
    """
    known: dict[str, set[str]] = {}
    for name in tracks:
        service, _, aspect = name.partition("/")
        known.setdefault(service, set()).add(aspect)
    after: dict[str, Track] = {}
    for service, seen in sweep.seen.items():
        bad = {aspect for aspect, one in seen.items() if one.status in (Status.DEGRADED, Status.DOWN)}
        aspects = bad | known.get(service, set())
        if not aspects:
            continue
        for aspect in sorted(aspects | {WHOLE}):
            before = track_of(tracks, service, aspect)
            result, down = _result(seen, aspect, before)
            track = _step(before, result, down, sweep.now, policy, *_excuse(sweep, service, aspect))
            if track.bad or track.flapping or track.since or BAD in track.results:
                after[f"{service}/{aspect}"] = track
    return after


def _result(seen: Mapping[str, Observation], aspect: str, before: Track) -> tuple[str | None, tuple[str, ...]]:
    """A track's result in this sweep: good, bad, or None where nothing is known; and what is down."""
    if aspect != WHOLE:
        status = seen[aspect].status if aspect in seen else Status.UNKNOWN
        return {Status.OK: GOOD, Status.UNKNOWN: None}.get(status, BAD), ()
    telling = {name: one for name, one in seen.items() if not is_aside(one.service, name)}
    down = tuple(sorted(name for name, one in telling.items() if one.status is Status.DOWN))
    if down:
        return BAD, down
    unknown = {name for name, one in telling.items() if one.status is Status.UNKNOWN}
    if len(unknown) == len(telling) or unknown.intersection(before.down):
        return None, before.down
    return GOOD, ()


def _excuse(sweep: Sweep, service: str, aspect: str) -> tuple[bool, bool]:
    """Whether somebody else may be to blame, and whether that is certain."""
    certain = service in sweep.muted or bool(sweep.blamed(service))
    maybe = bool(sweep.suspected(service))
    if aspect != WHOLE:
        certain = certain or service in sweep.held_down
        seen = sweep.seen[service].get(aspect)
        maybe = maybe or (service in sweep.down and not (seen and is_failing(seen)))
    return maybe, certain


def _step(
    before: Track, result: str | None, down: tuple[str, ...], now: datetime, policy: Policy, maybe: bool, certain: bool
) -> Track:
    """One more result.

    A cause that is certain begins the count anew, so that a casualty has the whole threshold to recover after it. One that is
    only suspected takes one from the count: enough for a casualty that was seen first, too little for a need that fails now and
    then to hide for ever a service that fails on its own.
    """
    if result == BAD:
        since = before.since or now
        if certain:
            return Track(since=since, down=down)
        if maybe:
            return before.model_copy(update={"bad": max(before.bad - 1, 0), "since": since, "down": down})
    elif certain:
        return Track(since=before.since if result is None else None, down=down)
    elif result is None:
        return before
    else:
        since = None
    results = f"{before.results or GOOD}{result}"[-policy.flap_window :]  # what nobody remembers was well
    share = policy.change_share(results)
    flapping = share >= policy.flap_high or (before.flapping and share >= policy.flap_low)
    return Track(results=results, bad=before.bad + 1 if result == BAD else 0, since=since, flapping=flapping, down=down)
