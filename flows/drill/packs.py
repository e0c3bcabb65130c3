"""When each pack of bucket objects was last read whole: a drill reads those whose turn it is and trusts this for the rest."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from pydantic import BaseModel, Field, ValidationError

from blocks.errors import ObjectMissing
from blocks.object_store import BackupStore
from blocks.retry import retrying


class PacksRead(BaseModel):
    """The packs of a stack that were read whole and found as they were written."""

    last_read: dict[str, date] = Field(default_factory=dict, description="Pack id -> the last night")


def load_packs_read(store: BackupStore) -> PacksRead:
    """Read the record; an empty one where there is none, so that every pack is read again."""
    try:
        return PacksRead.model_validate_json(retrying(lambda: store.get(_key(store))))
    except (ObjectMissing, ValidationError):
        return PacksRead()


def note_packs_read(store: BackupStore, packs: Collection[str], today: date, present: Collection[str]) -> None:
    """Write down that packs were read today.

    Args:
        packs: ids. present: every pack there still is; the others are forgotten.
    """
    last_read = load_packs_read(store).last_read | dict.fromkeys(packs, today)
    kept = PacksRead(last_read={pack: day for pack, day in last_read.items() if pack in present})
    retrying(lambda: store.put(_key(store), kept.model_dump_json().encode()))


def _key(store: BackupStore) -> str:
    return f"{store.root}packs-read.json"
