"""In which order services are deployed: each after those that it needs or refers to, the operations layer last."""

from __future__ import annotations

from railway.stack import Stack

__all__ = ["OPERATIONS", "wave"]

OPERATIONS = ("prefect-server", "prefect-worker")
"""Changed last: they may be what carries out the change."""
LATE = 100


def wave(stack: Stack, name: str, above: frozenset[str] = frozenset()) -> int:
    """Number the wave in which a service is deployed; those of a wave are started together and waited for.

    Args:
        stack: whose service it is. name: of the service.
        above: services on the way here; a circle, which `railway/rules.py` refuses, ends at them.
    """
    service = stack.services[name]
    before = ({*service.needs, *service.references()} & stack.services.keys()) - above - {name}
    number = 1 + max((wave(stack, one, above | {name}) for one in before), default=-1)
    return max(number, LATE + OPERATIONS.index(name)) if name in OPERATIONS else number
