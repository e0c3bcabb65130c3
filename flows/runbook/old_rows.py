"""Rows that are older than they need be: what is known of them, what must be proven before they go, and how they go.

What is deleted here cannot be taken back but from a backup set, so there has to be a fresh one that was restored and compared
(`lacking_set`). The stack's lock is held meanwhile: no backup reads what is half deleted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows import catalogue
from flows.lease import Lease, utc_now
from flows.runbook.frame import Action, Diagnosis, Verdict
from flows.stack import Stack

__all__ = ["Delete", "Old", "decide", "facts_of", "lacking_set", "left"]


@dataclass(frozen=True)
class Old:
    """What is old in one table, or partition of one.

    Attributes:
        table: for people, with its database. rows: older than the moment asked. total: all of its rows. bytes: of all of it.
        whole: nothing in it can be younger, so that it may go as a whole. id: of the partition, as the server calls it.
    """

    table: str
    rows: int
    total: int
    bytes: int = 0
    whole: bool = False
    id: str = ""

    @property
    def words(self) -> str:
        """For people."""
        part = f" partition {self.id}" if self.id else ""
        way = ", as a whole" if self.whole else ""
        return f"{self.table}{part}: {self.rows} of {self.total} rows{way}"


def facts_of(found: Sequence[Old]) -> Mapping[str, str]:
    """Add up by table."""
    told = {}
    for table in dict.fromkeys(one.table for one in found):
        mine = [one for one in found if one.table == table]
        rows, total, size = (sum(getattr(one, name) for one in mine) for name in ("rows", "total", "bytes"))
        told[table] = f"{rows} of {total} rows are older ({size / 1e6:.1f} MB in all)"
    return told


def left(found: Sequence[Old], before: datetime) -> list[str]:
    """Say what is still there; none where nothing is old."""
    rows = sum(one.rows for one in found)
    return [f"{rows} rows are older than {before:%Y-%m-%d %H:%M} UTC"] if rows else []


def lacking_set(stack: Stack, kind: str, databases: Sequence[str], hours: int) -> str:
    """Say which proven backup set is lacking, empty where there is one that holds these databases.

    Args:
        kind: postgres or clickhouse. hours: that the set may be old.
    """
    since = utc_now() - timedelta(hours=hours)
    for entry in catalogue.read(stack.store, stack.keys).entries:
        if not entry.good or entry.manifest is None or entry.created_at < since or entry.facts().drilled_at is None:
            continue
        parts = entry.manifest.postgres if kind == "postgres" else entry.manifest.clickhouse
        if {one.name for one in parts} >= set(databases):
            return ""
    names = ", ".join(databases)
    return (
        f"there is no backup set of the last {hours} h that holds {kind} {names} and was proven by a drill; run "
        "backup/on-demand, then drill/on-demand, then this again"
    )


def decide(
    found: Sequence[Old], before: datetime, *, lacking: str, at_work: str, delete: Callable[[tuple[Old, ...]], Action]
) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        before: what is older goes. lacking: the proven set that is missing, as `lacking_set` says. at_work: the flow that holds
            the stack's lock. delete: makes the action.
    """
    facts = facts_of(found) or {"tables": "none that this runbook knows"}
    if not (wrong := left(found, before)):
        return Diagnosis(Verdict.NOTHING, f"no row is older than {before:%Y-%m-%d %H:%M} UTC", facts)
    if lacking:
        return Diagnosis(Verdict.PERSON, f"{wrong[0]}; {lacking}", facts)
    if at_work:
        return Diagnosis(Verdict.PERSON, f"{wrong[0]}, and {at_work} is at work; run this again when it has ended", facts)
    return Diagnosis(Verdict.HEALS, wrong[0], facts, (delete(tuple(one for one in found if one.rows)),))


@dataclass(frozen=True)
class Delete(Action):
    """Deletes old rows, table by table, with the stack's lock.

    Attributes:
        found: what is old. before: what is older goes.
    """

    stack: Stack
    found: tuple[Old, ...]
    before: datetime

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "deleted rows come back from a backup set only"

    def describe(self) -> str:
        """As in `Action`."""
        rows = sum(one.rows for one in self.found)
        return (
            f"delete {rows} rows older than {self.before:%Y-%m-%d %H:%M} UTC: {'; '.join(one.words for one in self.found[:12])}"
            + (f"; and {len(self.found) - 12} more partitions" if len(self.found) > 12 else "")
        )

    def do(self) -> str:
        """As in `Action`. What was deleted before it broke off stays deleted, and the next run goes on with the rest."""
        with self.stack.exclusive("retention") as lease:
            return self.delete(lease)

    @abstractmethod
    def delete(self, lease: Lease) -> str:
        """Delete them; the lock is checked before each statement."""
