"""The backups as the status page lists them: read from the manifests and side files of the newest sets, with few requests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field, ValidationError

from blocks.errors import ObjectMissing
from flows.health.history_store import Store
from flows.side_file import SideFile

__all__ = ["SHOWN", "BackupRow", "read_rows"]

SHOWN = 14
"""Newest sets that are listed."""


class BackupRow(BaseModel):
    """One committed set.

    Attributes:
        taken_at: when its run began. bytes: that it has put into the store. fault: why it is not to be relied on, or empty.
        drilled_at: of its last drill; proven: that drill was full and found no difference.
        drill_seconds: that the restore of that drill took, and its comparison.
    """

    id: str
    taken_at: datetime
    bytes: int
    label: str = ""
    protected: bool = False
    fault: str = ""
    drilled_at: datetime | None = None
    proven: bool = False
    drill_seconds: int | None = None
    compare_seconds: int | None = None
    components: list[str] = Field(default_factory=list)


def read_rows(store: Store, known: Sequence[BackupRow] = ()) -> list[BackupRow]:
    """List the newest sets, newest first.

    Manifests never change, so those of sets that are known are not read again; side files do, and are small.

    Args:
        store: where. known: what the last call returned.
    Raises:
        StoreError: the store did not answer.
    """
    before = {row.id: row for row in known}
    rows: list[BackupRow] = []
    for set_id in sorted(store.folders(f"{store.root}sets/"), reverse=True):
        checks = _checks(store, set_id)
        # No side file: none yet, or the set went, which some stores (SeaweedFS) still list as a folder for a while.
        row = before.get(set_id) if checks else None
        row = row or _from_manifest(store, set_id)
        if row is not None:
            rows.append(_with_checks(row, checks or SideFile()))
        if len(rows) == SHOWN:
            break
    return rows


def _from_manifest(store: Store, set_id: str) -> BackupRow | None:
    """Read what does not change; None for a folder that is no set: its run is under way, or died."""
    from flows.backup.manifest import Manifest  # here: a tenth of a second, needed once a set

    try:
        data, _ = store.get_with_etag(f"{store.root}sets/{set_id}/manifest.json")
        manifest = Manifest.from_json(data)
    except (ObjectMissing, ValueError):
        return None
    return BackupRow(
        id=set_id,
        taken_at=manifest.created_at,
        bytes=manifest.stored_bytes,
        label=manifest.label,
        protected=manifest.protected,
        components=sorted({component.kind for component in manifest.components}),
    )


def _checks(store: Store, set_id: str) -> SideFile | None:
    try:
        return SideFile.model_validate_json(store.get_with_etag(f"{store.root}sets/{set_id}/checks.json")[0])
    except (ObjectMissing, ValidationError):
        return None  # none, or damaged: the next check writes it anew


def _with_checks(row: BackupRow, checks: SideFile) -> BackupRow:
    drill = checks.drill
    return row.model_copy(
        update={
            "fault": checks.fault,
            "drilled_at": drill.at if drill else None,
            "proven": bool(drill and drill.ok and drill.full),
            "drill_seconds": drill.recovery_seconds if drill else None,
            "compare_seconds": drill.compare_seconds if drill else None,
        }
    )
