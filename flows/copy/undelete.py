"""Taking deletions back in a versioned bucket: somebody had the second store's keys and deleted everything he could.

A delete there only puts a marker before the object; where object lock protects the versions, nobody can do more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blocks.errors import SettingsError, StoreError
from blocks.object_store import BackupStore
from blocks.retry import retrying
from blocks.s3_errors import S3_ERRORS, translate

__all__ = ["Marker", "markers", "undelete"]

AT_ONCE = 8


@dataclass(frozen=True)
class Marker:
    """One delete marker that hides an object."""

    key: str
    version: str


def markers(copy: BackupStore) -> list[Marker]:
    """List what hides objects below the stack's folder.

    Raises:
        SettingsError: the bucket keeps no versions, so what is deleted there is gone.
    """
    try:
        state = copy.client.get_bucket_versioning(Bucket=copy.name).get("Status")
    except S3_ERRORS as error:
        raise translate(error, f"ask {copy.name} for its versioning") from None
    if state is None:
        raise SettingsError(
            f"second store {copy.name}: the bucket keeps no versions, so nothing can be undeleted; make a bucket with object "
            "lock and set COPY_LOCK_MODE"
        )
    return retrying(lambda: list(_markers(copy)))


def _markers(copy: BackupStore) -> Iterator[Marker]:
    pages = copy.client.get_paginator("list_object_versions").paginate(Bucket=copy.name, Prefix=copy.root)
    try:
        for page in pages:
            for item in page.get("DeleteMarkers", []):
                if item.get("IsLatest"):
                    yield Marker(item["Key"], item["VersionId"])
    except S3_ERRORS as error:
        raise translate(error, f"list versions below {copy.root}") from None


def undelete(copy: BackupStore) -> int:
    """Remove the delete markers below the stack's folder, also where several lie one upon the other.

    What retention deleted comes back too, as long as the bucket keeps it; the next copy run deletes it again.

    Returns: how many objects are visible again.
    """
    removed: set[Marker] = set()
    while found := markers(copy):
        if not removed.isdisjoint(found):
            raise StoreError(f"undelete: {found[0].key} is still hidden after its marker was removed; is somebody deleting?")
        with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="undelete") as pool:
            list(pool.map(lambda marker: retrying(lambda: _remove(copy, marker)), found))
        removed |= set(found)
    return len({marker.key for marker in removed})


def _remove(copy: BackupStore, marker: Marker) -> None:
    try:
        copy.client.delete_object(Bucket=copy.name, Key=marker.key, VersionId=marker.version)
    except S3_ERRORS as error:
        raise translate(error, f"undelete {marker.key}") from None
