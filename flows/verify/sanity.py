"""Whether a set is as large as those before it. Pure: manifests in, a finding out.

A database that was emptied backs up well, and its small backup then pushes the good ones out by retention.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from datetime import datetime

from flows.backup.manifest import ClickHouseDatabase, Component, Manifest, PostgresDatabase, PostgresGlobals
from flows.side_file import Check

EARLIER = 7
"""Sets before it that the median is taken of."""
ENOUGH = 3
"""With fewer sets before it, nothing is odd."""
FACTOR = 2.0
"""A component this many times larger or smaller than the median is odd."""
SMALL = 1_000_000
"""Bytes: changes of less are of no interest."""


def judge_size(manifest: Manifest, earlier: Iterable[Manifest], now: datetime) -> Check:
    """Compare each component's data with the median of the same component in the sets before.

    Args:
        manifest: the set in question. earlier: the others, in any order; those that are younger do not count.
        now: for the record.
    Returns: ok unless a component's data is far from the median.
    """
    before = sorted((m for m in earlier if m.created_at < manifest.created_at), key=lambda m: m.created_at, reverse=True)
    odd = []
    for component in manifest.components:
        sizes = _sizes_of(component, before)
        if len(sizes) >= ENOUGH and (said := _odd(data_bytes(component), statistics.median(sizes))):
            odd.append(f"{component.kind} {component.name} {said}")
    if odd:
        return Check(at=now, ok=False, what=f"odd size: {'; '.join(odd)}")
    compared = min(len(before), EARLIER)
    return Check(at=now, ok=True, what=f"as large as the sets before it ({compared})" if compared else "the first set")


def data_bytes(component: Component) -> int:
    """Return how much data a component stands for, whether it was stored in full or as a difference."""
    if isinstance(component, PostgresDatabase | PostgresGlobals):
        return component.object.plain_bytes
    return component.plain_bytes if isinstance(component, ClickHouseDatabase) else component.bytes


def _sizes_of(component: Component, before: Sequence[Manifest]) -> list[int]:
    same = [c for m in before for c in m.components if (c.kind, c.name) == (component.kind, component.name)]
    return [data_bytes(c) for c in same[:EARLIER]]


def _odd(now: int, median: float) -> str:
    if abs(now - median) < SMALL or median / FACTOR <= now <= median * FACTOR:
        return ""
    if not now:
        return "is empty, where it was not"
    times = now / median if now > median else median / now
    return f"is {times:.0f} times {'larger' if now > median else 'smaller'} than the median of the last sets"
