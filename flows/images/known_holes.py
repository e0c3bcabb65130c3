"""Holes that are known in what the stack runs, and the first release of each line without them.

Not a substitute for an advisory feed: it has what an operator of this stack has to know even where nobody reads one. Sources:
docker-library/official-images#20011 (Redis), minio/minio#21647.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from flows.upgrade.rules import Version

__all__ = ["Hole", "hole"]


@dataclass(frozen=True)
class Hole:
    """One hole.

    Attributes:
        name: by which people find it. what: it is, in a few words. mended: by line, the first release without it; lines that
            are not listed have it where they are older than those, and never had it where they are newer.
    """

    name: str
    what: str
    mended: Mapping[tuple[int, ...], tuple[int, ...]]


_HOLES: Mapping[str, Hole] = {
    "redis": Hole(
        "CVE-2025-49844",
        "who may run scripts can run anything on the server",
        {(6, 2): (6, 2, 20), (7, 2): (7, 2, 11), (7, 4): (7, 4, 6), (8, 0): (8, 0, 4), (8, 2): (8, 2, 2)},
    ),
    "minio": Hole("CVE-2025-62506", "an access key can give itself more rights than it has", {}),
}
"""By service. An empty `mended`: no image that anybody serves is without it."""


def hole(service: str, version: Version) -> Hole | None:
    """Return the hole that a version of a service has, None where none is known.

    Args:
        service: by its name on Railway.
    """
    known = _HOLES.get(service)
    if known is None or not version.is_exact:
        return None
    if not known.mended:
        return known
    first = known.mended.get(version.line)
    if first is None:
        return known if version.numbers < max(known.mended.values()) else None
    return known if version.numbers < first else None
