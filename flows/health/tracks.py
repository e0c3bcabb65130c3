"""Counting: how often an aspect was bad in a row, and whether it comes and goes. Nobody is blamed for what another one did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from flows.health.observation import Observation, Status
from flows.health.policy import Policy
from flows.health.state import BAD, GOOD, Track
from flows.health.sweep import Sweep

__all__ = ["WHOLE", "follow", "is_ready", "track_of"]

WHOLE = ""
"""In place of an aspect: the service being down, by whichever aspect."""

_NONE = Track()


def track_of(tracks: Mapping[str, Track], service: str, aspect: str = WHOLE) -> Track:
    """The track of an aspect, or of the whole service."""
    return tracks.get(f"{service}/{aspect}", _NONE)


def is_ready(track: Track, policy: Policy) -> bool:
    """Say whether what was counted is an incident."""
    return track.bad >= policy.failure_threshold or track.flapping


def follow(tracks: Mapping[str, Track], sweep: Sweep, policy: Policy) -> dict[str, Track]:
    """Count one more sweep.

    Returns: the tracks, without those that have nothing to tell.
    """
    after: dict[str, Track] = {}
    for service, seen in sweep.seen.items():
        for aspect, result, down in _results(service, seen, tracks):
            before = track_of(tracks, service, aspect)
            if result is None and before is _NONE:
                continue
            track = _step(before, result, down, sweep.now, policy, *_excuse(sweep, service, aspect))
            if track.bad or track.flapping or track.since or BAD in track.results:
                after[f"{service}/{aspect}"] = track
    return after


def _results(
    service: str, seen: Mapping[str, Observation], tracks: Mapping[str, Track]
) -> Iterator[tuple[str, str | None, tuple[str, ...]]]:
    """Each track's result in this sweep: good, bad, or None where nothing is known; and what is down."""
    down = tuple(aspect for aspect, observation in seen.items() if observation.status is Status.DOWN)
    remembered = track_of(tracks, service).down
    if down:
        yield WHOLE, BAD, down
    elif all(one.status is Status.UNKNOWN for one in seen.values()) or any(
        aspect in seen and seen[aspect].status is Status.UNKNOWN for aspect in remembered
    ):
        yield WHOLE, None, remembered
    else:
        yield WHOLE, GOOD, ()
    known = {one.rpartition("/")[2] for one in tracks if one.startswith(f"{service}/")}
    for aspect in {*known, *seen} - {WHOLE}:
        status = seen[aspect].status if aspect in seen else Status.UNKNOWN
        yield aspect, {Status.OK: GOOD, Status.UNKNOWN: None}.get(status, BAD), ()


def _excuse(sweep: Sweep, service: str, aspect: str) -> tuple[bool, bool]:
    """Whether somebody else may be to blame, and whether that is certain."""
    certain = service in sweep.muted or bool(sweep.blamed(service))
    maybe = bool(sweep.suspected(service))
    if aspect != WHOLE:
        certain = certain or service in sweep.held_down
        seen = sweep.seen[service].get(aspect)
        maybe = maybe or (service in sweep.down and (seen is None or seen.status is not Status.DOWN))
    return maybe, certain


def _step(
    before: Track, result: str | None, down: tuple[str, ...], now: datetime, policy: Policy, maybe: bool, certain: bool
) -> Track:
    """One more result. `certain` begins anew, so that a casualty has the whole threshold to recover after its cause did."""
    if result == BAD:
        since = before.since or now
        if certain:
            return Track(since=since, down=down)
        if maybe:
            return before.model_copy(update={"since": since, "down": down})
    elif certain:
        return Track(since=before.since if result is None else None, down=down)
    elif result is None:
        return before
    else:
        since = None
    results = f"{before.results}{result}"[-policy.flap_window :]
    share = policy.change_share(results)
    flapping = share >= policy.flap_high or (before.flapping and share >= policy.flap_low)
    return Track(results=results, bad=before.bad + 1 if result == BAD else 0, since=since, flapping=flapping, down=down)
