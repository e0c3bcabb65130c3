"""Journals in the store: small records that say what a run has done so far, so that another process can go on or take back.

Each is rewritten whole, under the stack's lock. Two objects take turns: a writer that dies between the head and the body of
its request leaves an empty object on some servers (SeaweedFS 4.48), and a successor needs the journal as it was before then.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError

from blocks.errors import IntegrityError, ObjectMissing
from blocks.object_store import BackupStore
from blocks.retry import retrying


class Journal(BaseModel):
    """What every journal has."""

    id: str
    writes: int = Field(default=0, description="How often it was written; of the two objects the higher number holds")


J = TypeVar("J", bound=Journal)


def save(store: BackupStore, folder: str, journal: Journal) -> None:
    """Write a journal; from then on a successor knows about what it says.

    Args:
        folder: of journals of this kind, below the stack's own, without slashes.
    """
    number = journal.writes + 1
    data = journal.model_copy(update={"writes": number}).model_dump_json(indent=1).encode()
    retrying(lambda: store.put(_keys(store, folder, journal.id)[number % 2], data))
    journal.writes = number


def load_all(store: BackupStore, folder: str, kind: type[J]) -> list[J]:
    """Read every journal of a kind, oldest first; folders below are others' business.

    Raises:
        IntegrityError: one cannot be read; says which.
    """
    prefix = f"{store.root}{folder}/"
    names = retrying(lambda: [item.key.removeprefix(prefix) for item in store.list(prefix)])
    ids = sorted({name.partition(".")[0] for name in names if "/" not in name})
    return [journal for journal_id in ids if (journal := _load(store, folder, journal_id, kind)) is not None]


def _load(store: BackupStore, folder: str, journal_id: str, kind: type[J]) -> J | None:
    """Read the newer of the two that can be read; None when the first writing was cut off: nothing had been done then."""
    keys = _keys(store, folder, journal_id)
    found = [data for key in keys if (data := _get(store, key))]
    whole = []
    for data in found:
        with suppress(ValidationError):
            whole.append(kind.model_validate_json(data))
    if found and not whole:
        raise IntegrityError(f"{keys[1]} is not the journal of a restore; look at it, then delete it")
    return max(whole, key=lambda journal: journal.writes, default=None)


def _get(store: BackupStore, key: str) -> bytes:
    try:
        return retrying(lambda: store.get(key))
    except ObjectMissing:
        return b""


def _keys(store: BackupStore, folder: str, journal_id: str) -> tuple[str, str]:
    stem = f"{store.root}{folder}/{journal_id}"
    return f"{stem}.other.json", f"{stem}.json"
