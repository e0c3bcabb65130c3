"""What runs that died have left in the store, and how old it must be before it is removed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from blocks.object_store import BackupStore, Upload
from flows.catalogue import Catalogue, set_prefix


@dataclass(frozen=True)
class Leftovers:
    """What can go.

    Attributes:
        halves: ids of folders without a manifest, untouched for the grace period.
        young: ids of folders without a manifest that may still be written to.
        uploads: multipart uploads begun before the grace period.
    """

    halves: list[str]
    young: list[str]
    uploads: list[Upload]


def find(store: BackupStore, catalogue: Catalogue, now: datetime, grace: timedelta) -> Leftovers:
    """Look for half sets and stale uploads.

    Args:
        store: where. catalogue: as just read. now: the store's time. grace: what is younger is left alone.
    """
    begun = list(store.uploads(store.root))
    halves: list[str] = []
    young: list[str] = []
    for set_id in catalogue.halves:
        prefix = set_prefix(store, set_id)
        touched = _last_touched(
            [*(item.modified for item in store.list(prefix)), *(u.begun for u in begun if u.key.startswith(prefix))]
        )
        (halves if touched is None or now - touched >= grace else young).append(set_id)
    return Leftovers(halves=halves, young=young, uploads=[upload for upload in begun if now - upload.begun >= grace])


def _last_touched(times: Iterable[datetime]) -> datetime | None:
    return max(times, default=None)
