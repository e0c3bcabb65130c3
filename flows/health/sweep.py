"""One sweep's observations, seen as a whole: what is down, who is muted, who may be blamed for whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.health.dependencies import in_order, is_aside, needs_of
from flows.health.observation import Observation, Status
from flows.health.state import Episode
from flows.health.windows import Window, muted_services

__all__ = ["Sweep", "is_failing"]

_BADNESS = {Status.UNKNOWN: 0, Status.OK: 1, Status.DEGRADED: 2, Status.DOWN: 3}


def is_failing(one: Observation) -> bool:
    """Say whether its service is down for those that need it."""
    return one.status is Status.DOWN and not is_aside(one.service, one.aspect)


@dataclass(frozen=True)
class Sweep:
    """All that was seen in one sweep; nothing is judged before all of it is there.

    Attributes:
        seen: by service, those that others need first, and then by aspect, in the order in which it was observed.
        muted: services with an open maintenance window. down: services of which an aspect is down, those set aside apart.
        held_down: services with an open incident for being down, whether or not they are so in this very sweep.
    """

    now: datetime
    seen: Mapping[str, Mapping[str, Observation]]
    muted: frozenset[str]
    down: frozenset[str]
    held_down: frozenset[str]

    @classmethod
    def of(
        cls, observations: Sequence[Observation], episodes: Iterable[Episode], windows: Iterable[Window], now: datetime
    ) -> Sweep:
        """Put the observations together; where one aspect was observed twice, the worse counts."""
        found: dict[str, dict[str, Observation]] = {}
        for one in observations:
            aspects = found.setdefault(one.service, {})
            other = aspects.get(one.aspect)
            if other is None or _BADNESS[one.status] > _BADNESS[other.status]:
                aspects[one.aspect] = one
        seen = {service: found[service] for service in in_order(found)}
        open_episodes = list(episodes)
        names = {*seen, *(episode.incident.service for episode in open_episodes)}
        return cls(
            now=now,
            seen=seen,
            muted=muted_services(windows, names, now),
            down=frozenset(service for service, aspects in seen.items() if any(map(is_failing, aspects.values()))),
            held_down=frozenset(episode.incident.service for episode in open_episodes if episode.down),
        )

    def status(self, service: str, aspect: str) -> Status | None:
        """What was seen of an aspect, None where nobody looked."""
        one = self.seen.get(service, {}).get(aspect)
        return one.status if one else None

    def blamed(self, service: str) -> frozenset[str]:
        """Those to blame for what is bad about a service: it needs them, and they have an incident or are down as planned."""
        return needs_of(service) & (self.held_down | (self.down & self.muted))

    def suspected(self, service: str) -> frozenset[str]:
        """Those that may be to blame as well: it needs them, and they are down now. Unknown is not down."""
        return needs_of(service) & (self.down | self.held_down)
