"""Who needs whom, for the judgement: the services of the stack, and the backups, which are watched like one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flows.health.incidents import BACKUPS
from railway.stack import SERVICES, depends_on

__all__ = ["ORDER", "in_order", "needs_of"]

_NEEDS: Mapping[str, frozenset[str]] = {
    **{name: depends_on(name) for name in SERVICES},
    BACKUPS: frozenset({"postgres", "clickhouse", "minio"}),
}

ORDER: tuple[str, ...] = tuple(_NEEDS)
"""Every service that is judged, each after those that it needs."""

_PLACES = {name: place for place, name in enumerate(ORDER)}


def needs_of(service: str) -> frozenset[str]:
    """Name all that a service does not work without, also through others; nothing for a service that nobody described."""
    return _NEEDS.get(service, frozenset())


def in_order(services: Iterable[str]) -> tuple[str, ...]:
    """Sort services so that each comes after those that it needs; those that nobody described come last, by name."""
    return tuple(sorted(services, key=lambda name: (_PLACES.get(name, len(_PLACES)), name)))
