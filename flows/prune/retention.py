"""Which sets are kept, and why. Pure: values in, values out, no clock, no network.

A set is kept when any rule wants it. Periods count only those that have a set, so a stack whose backups stopped loses
nothing by the passing of time (a retention by age alone deletes the last good set after a week of failures).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import BaseModel, Field


class RetentionPolicy(BaseModel):
    """How many sets are kept of each kind."""

    keep_last: int = Field(default=3, ge=1, description="Newest sets, whatever their age")
    keep_hourly: int = Field(default=0, ge=0, description="Hours, of each the newest set")
    keep_daily: int = Field(default=14, ge=0, description="Days, of each the newest set")
    keep_weekly: int = Field(default=8, ge=0, description="ISO weeks, of each the newest set")
    keep_monthly: int = Field(default=12, ge=0, description="Months, of each the newest set")
    keep_yearly: int = Field(default=3, ge=0, description="Years, of each the newest set")


@dataclass(frozen=True)
class SetFacts:
    """What retention needs to know of a set.

    Attributes:
        id: the set's id. created_at: when it was taken, UTC.
        good: its manifest is signed and readable, its bases are too, and no drill found it wanting.
        readable: False when its manifest could not be read or its signature did not hold. Nobody can say then whether the set
            is protected or a newer version wrote it, and after a change of keys that may be all of them: it is kept.
        drilled_at: when a full drill last proved it, None when never.
        protected: kept until somebody says otherwise.
        bases: ids of the sets it cannot be restored without.
    """

    id: str
    created_at: datetime
    good: bool = True
    readable: bool = True
    drilled_at: datetime | None = None
    protected: bool = False
    bases: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RetentionPlan:
    """What to keep and what to delete.

    Attributes:
        keep: id -> reasons, in words.
        delete: ids in the order of deletion: what depends on a base goes before it.
    """

    keep: dict[str, list[str]] = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)


_PERIODS: list[tuple[str, str, Callable[[datetime], object]]] = [
    ("keep_hourly", "hourly", lambda t: (t.year, t.month, t.day, t.hour)),
    ("keep_daily", "daily", lambda t: (t.year, t.month, t.day)),
    ("keep_weekly", "weekly", lambda t: t.isocalendar()[:2]),
    ("keep_monthly", "monthly", lambda t: (t.year, t.month)),
    ("keep_yearly", "yearly", lambda t: t.year),
]


def plan(sets: Iterable[SetFacts], policy: RetentionPolicy) -> RetentionPlan:
    """Decide what to keep.

    Args:
        sets: every committed set of a stack, in any order.
        policy: how many of each kind.
    Returns: reasons for each set that is kept, and the rest in the order of deletion.
    """
    newest_first = sorted(sets, key=lambda s: (s.created_at, s.id), reverse=True)
    good = [s for s in newest_first if s.good]
    unreadable = {s.id for s in newest_first if not s.readable}
    keep: dict[str, list[str]] = {}

    def want(item: SetFacts, reason: str) -> None:
        keep.setdefault(item.id, []).append(reason)

    for item in good[:1]:
        want(item, "newest good")
    drilled = [s for s in good if s.drilled_at is not None]
    for item in drilled[:1]:
        want(item, "newest drilled")
    for item in newest_first:
        if item.protected:
            want(item, "protected")
        if not item.readable:
            want(item, "cannot be read, so only a person may delete it")
        elif item.bases & unreadable:
            want(item, f"difference to {min(item.bases & unreadable)}, which cannot be read")
        elif not item.good and (not good or item.created_at > good[0].created_at):
            want(item, "not good, but newer than every good one")  # evidence, and maybe it is the judge that is wrong
    for item in good[: policy.keep_last]:
        want(item, "last")
    for setting, word, period in _PERIODS:
        for item in _newest_of_each(good, period)[: getattr(policy, setting)]:
            want(item, word)
    _keep_bases(newest_first, keep)
    return RetentionPlan(keep=keep, delete=_dependants_first([s for s in newest_first if s.id not in keep]))


def _newest_of_each(newest_first: list[SetFacts], period: Callable[[datetime], object]) -> list[SetFacts]:
    seen: dict[object, SetFacts] = {}
    for item in newest_first:
        seen.setdefault(period(item.created_at), item)
    return list(seen.values())


def _dependants_first(doomed: list[SetFacts]) -> list[str]:
    """Order sets so that none loses its base before it goes itself, wherever a crash stops the deletion.

    By age alone would do if all workers' clocks agreed.
    """
    ordered: dict[str, None] = {}
    waiting = list(doomed)
    while waiting:
        needed = {base for item in waiting for base in item.bases if base != item.id}
        free = [item for item in waiting if item.id not in needed] or waiting[:1]  # a circle has no right order
        ordered.update(dict.fromkeys(item.id for item in free))
        waiting = [item for item in waiting if item.id not in ordered]
    return list(ordered)


def _keep_bases(sets: list[SetFacts], keep: dict[str, list[str]]) -> None:
    by_id = {s.id: s for s in sets}
    waiting = [by_id[i] for i in keep]
    while waiting:
        item = waiting.pop()
        for base in item.bases:
            if base in by_id:
                reason = f"base of {item.id}"
                if base not in keep:
                    waiting.append(by_id[base])
                if reason not in keep.setdefault(base, []):
                    keep[base].append(reason)
