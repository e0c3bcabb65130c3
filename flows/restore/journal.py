"""What a restore has done so far, written to the store before each step, so that another process can go on or take back.

The journal is small and rewritten whole under the stack's lock. Its phases only go forward.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from blocks.errors import IntegrityError, ObjectMissing
from blocks.object_store import BackupStore
from blocks.retry import retrying

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


class RestoreJournal(BaseModel):
    """One restore.

    Attributes:
        steps: the databases. buckets: names of those in which objects are put back after the databases were swapped.
    """

    id: str
    set_id: str
    begun_at: datetime
    phase: Phase = "staging"
    steps: list[Step]
    buckets: list[str] = Field(default_factory=list)


def save(store: BackupStore, journal: RestoreJournal) -> None:
    """Write the journal; from then on a successor knows about what it says."""
    data = journal.model_dump_json(indent=1).encode()
    retrying(lambda: store.put(_key(store, journal.id), data))


def load_all(store: BackupStore) -> list[RestoreJournal]:
    """Read every journal of the stack, oldest first.

    Raises:
        IntegrityError: one cannot be read; says which.
    """
    folder = f"{store.root}restores/"  # folders in it are of restores of objects
    keys = sorted(item.key for item in store.list(folder) if "/" not in item.key.removeprefix(folder))
    return [_load(store, key) for key in keys]


def _load(store: BackupStore, key: str) -> RestoreJournal:
    try:
        return RestoreJournal.model_validate_json(retrying(lambda: store.get(key)))
    except ValidationError:
        raise IntegrityError(f"{key} is not the journal of a restore; look at it, then delete it") from None
    except ObjectMissing:
        raise IntegrityError(f"{key} vanished while it was read; is somebody deleting in the store?") from None


def _key(store: BackupStore, restore_id: str) -> str:
    return f"{store.root}restores/{restore_id}.json"
