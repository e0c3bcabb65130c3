"""Who needs whom, for the judgement: the services of the stack, and the backups, which are watched like one.

And which aspects say nothing about that: a public bucket or an old certificate is bad, and still everybody who needs the
service has it. Such an aspect has an incident of its own, excuses nobody, and hides nothing else that happens to its service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.health.incidents import BACKUPS
from railway.stack import SERVICES, depends_on

__all__ = ["BLIND", "ORDER", "in_order", "is_aside", "needs_of"]

BLIND = "blind"
"""The aspect of a service of which nothing has been known for long; see `blindness.py`."""

_NEEDS: Mapping[str, frozenset[str]] = {
    **{name: depends_on(name) for name in SERVICES},
    BACKUPS: frozenset({"postgres", "clickhouse", "minio"}),
}

ORDER: tuple[str, ...] = tuple(_NEEDS)
"""Every service that is judged, each after those that it needs."""

_PLACES = {name: place for place, name in enumerate(ORDER)}


_ASIDE = frozenset({("litellm", "authentication"), ("litellm", "version"), ("postgres", "wraparound")})
_ASIDE_PREFIXES = ("certificate-", "private-", "url-")


def is_aside(service: str, aspect: str) -> bool:
    """Say whether an aspect may be down while those that need the service have it: its safety, its way to the public.

    What is watched outside the stack (`public`) consists of such aspects.
    """
    return aspect == BLIND or aspect.startswith(_ASIDE_PREFIXES) or (service, aspect) in _ASIDE


def needs_of(service: str) -> frozenset[str]:
    """Name all that a service does not work without, also through others; nothing for a service that nobody described."""
    return _NEEDS.get(service, frozenset())


def in_order(services: Iterable[str]) -> tuple[str, ...]:
    """Sort services so that each comes after those that it needs; those that nobody described come last, by name."""
    return tuple(sorted(services, key=lambda name: (_PLACES.get(name, len(_PLACES)), name)))
