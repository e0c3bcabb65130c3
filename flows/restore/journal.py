"""What a restore has done so far, written to the store before each step. Its phases only go forward."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, Field

from blocks.errors import RestoreRefused
from blocks.object_store import BackupStore
from flows import journals
from flows.journals import Journal

FOLDER = "restores"

Phase = Literal["staging", "swapping", "done", "given up", "undoing", "undone", "forgotten"]
OPEN: tuple[Phase, ...] = ("staging", "swapping", "undoing")
"""Phases in which a process that died has left something to settle."""


class TableSwap(BaseModel):
    """One table or view of a ClickHouse database. Exchanging twice would undo it, so both sides are known beforehand.

    Attributes:
        name: of the table. how: exchange it, refill the hidden table of a materialised view, or define a view anew.
        live, staged: identities of both tables before the swap; live is empty where there was none.
        previous: the live view's definition before the swap; empty where there was none.
        rows: of the live table before the swap. restored: of the restored one.
        saved: refill: the rows that the live one had are put aside. done: has been swapped.
    """

    name: str
    how: Literal["exchange", "refill", "define"]
    live: str = ""
    staged: str = ""
    previous: str = ""
    rows: int = 0
    restored: int = 0
    saved: bool = False
    done: bool = False


class Step(BaseModel):
    """One database of a restore.

    Attributes:
        kind, live: what is restored. staged: name beside it. kept: where the previous one goes.
        swapped: the live name now is the restored data. existed: there was a live database before.
        tables: ClickHouse tables and views in the order they are swapped, each with what tells it from its counterpart.
    """

    kind: Literal["postgres", "clickhouse"]
    live: str
    staged: str
    kept: str
    swapped: bool = False
    existed: bool = True
    tables: list[TableSwap] = Field(default_factory=list)


class RestoreJournal(Journal):
    """One restore.

    Attributes:
        steps: the databases. buckets: names of those in which objects are put back after the databases were swapped.
    """

    set_id: str
    begun_at: datetime
    phase: Phase = "staging"
    steps: list[Step]
    buckets: list[str] = Field(default_factory=list)

    @property
    def parts(self) -> frozenset[str]:
        """What it swaps: postgres, clickhouse, bucket."""
        return frozenset(step.kind for step in self.steps) | ({"bucket"} if self.buckets else frozenset())


def save(store: BackupStore, journal: RestoreJournal) -> None:
    """Write the journal; from then on a successor knows about what it says."""
    journals.save(store, FOLDER, journal)


def load_all(store: BackupStore) -> list[RestoreJournal]:
    """Read every journal of the stack, oldest first.

    Raises:
        IntegrityError: one cannot be read; says which.
    """
    return journals.load_all(store, FOLDER, RestoreJournal)


class Restored(Protocol):
    """A journal of any kind of restore."""

    @property
    def id(self) -> str: ...
    @property
    def phase(self) -> Phase: ...


R = TypeVar("R", bound=Restored)


def pick(journals: Sequence[R], restore_id: str, what: str = "") -> R:
    """Find the restore that a person means.

    Args:
        journals: oldest first. restore_id: `latest` or an id. what: kind of restore, for the message: `of a table `.
    Raises:
        RestoreRefused: there is none, which names the latest; or it is over, or was never swapped in.
    """
    known = ", ".join(journal.id for journal in journals[-3:]) or "none"
    found = [j for j in journals if j.id == restore_id or (restore_id == "latest" and j.phase in ("done", "undone", *OPEN))]
    if not found:
        raise RestoreRefused(f"there is no restore {restore_id!r} {what}to act on; the latest are: {known}")
    if found[-1].phase in ("given up", "forgotten", "staging"):
        raise RestoreRefused(f"restore {found[-1].id} was {found[-1].phase}: there is nothing to undo or to forget")
    return found[-1]
