"""What was found out about a set after it was committed, kept beside its manifest as `checks.json`.

The manifest itself never changes. Sanity: is the set as large as those before it. Level 0: is every object there, with its
size. Level 1: does a share of the objects, read back, have the hashes that were recorded. Level 2: the drill.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, ValidationError

from blocks.errors import ConditionFailed, ObjectMissing, StoreError
from blocks.retry import retrying

if TYPE_CHECKING:  # a sweep reads these files too, and the block takes a second of processor time to import
    from blocks.object_store import BackupStore

TRIES = 10
"""Writers that may come between reading and writing the file: a drill and a check at the same time are two."""


class Check(BaseModel):
    """One finding."""

    at: datetime
    ok: bool
    what: str = Field(description="One sentence for people")


class DrillRecord(BaseModel):
    """The outcome of the last drill of a set."""

    set_id: str
    at: datetime
    ok: bool
    full: bool = Field(description="Every component was restored and every table compared; only then is the set proven")
    recovery_seconds: int = Field(description="From the first byte read to the last table restored")
    compare_seconds: int
    components: list[str]
    scratch: str = Field(description="Where it was restored to")
    differences: list[str] = Field(default_factory=list)
    unproven: list[str] = Field(default_factory=list, description="What was not compared, so that the drill is not full")


class SideFile(BaseModel):
    """Everything that is known about a set besides its manifest."""

    size: Check | None = Field(default=None, description="Against the median of the sets before it")
    presence: Check | None = Field(default=None, description="Level 0: every object there, with its size")
    hashes: Check | None = Field(default=None, description="Level 1: a share of the objects read back")
    drill: DrillRecord | None = Field(default=None, description="Level 2")

    @property
    def fault(self) -> str:
        """Why the set is not to be relied on, empty when nothing speaks against it. An odd size alone does not."""
        for check in (self.presence, self.hashes):
            if check is not None and not check.ok:
                return check.what
        if self.drill is not None and not self.drill.ok:
            return self.drill.differences[0] if self.drill.differences else "its drill failed"
        return ""


def side_file_key(store: BackupStore, set_id: str) -> str:
    """Return the key of a set's side file."""
    return f"{store.root}sets/{set_id}/checks.json"


def record(store: BackupStore, set_id: str, **findings: Check | DrillRecord) -> SideFile:
    """Write findings down beside a set, by the names of the side file's fields; the others stay as they are."""
    return update_side_file(store, set_id, lambda known: known.model_copy(update=findings))


def update_side_file(store: BackupStore, set_id: str, change: Callable[[SideFile], SideFile]) -> SideFile:
    """Change the side file of a set, whoever else does so at the same time.

    Args:
        change: makes the new content from the present one; may be called more than once.
    Returns: what was written.
    Raises:
        StoreError: the store failed, or others kept writing.
    """
    for _ in range(TRIES):
        present, etag = _read(store, set_id)
        wanted = change(present)
        data = wanted.model_dump_json(indent=1, exclude_none=True).encode()
        try:
            retrying(lambda: store.put(side_file_key(store, set_id), data, if_absent=etag is None, if_etag=etag))  # noqa: B023
        except ConditionFailed:
            if _read(store, set_id)[0] == wanted:
                return wanted  # our own write, whose answer got lost
        else:
            return wanted
    raise StoreError(f"set {set_id}: checks.json was changed by others {TRIES} times in a row; try again")


def _read(store: BackupStore, set_id: str) -> tuple[SideFile, str | None]:
    try:
        data, etag = retrying(lambda: store.get_with_etag(side_file_key(store, set_id)))
    except ObjectMissing:
        return SideFile(), None
    return parse_side_file(data), etag


def parse_side_file(data: bytes) -> SideFile:
    """Read what is known about a set from the bytes of its side file; nothing where they are damaged."""
    try:
        return SideFile.model_validate_json(data)
    except ValidationError:
        return SideFile()
