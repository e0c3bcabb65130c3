"""Object lock of what a copy needs and was sent long ago: shared packs, and the set that it is a difference to.

They were locked when they were written; a copy that refers to them is only protected as long as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from blocks.object_store import BackupStore
from blocks.retry import retrying
from blocks.s3_errors import S3_ERRORS, translate
from flows.backup.manifest import Manifest
from flows.catalogue import set_prefix

__all__ = ["keep_locked", "lock_bases"]

AT_ONCE = 8


def keep_locked(copy: BackupStore, keys: Iterable[str]) -> int:
    """Let the lock of objects end as late as that of one that is written now; nothing where the store locks nothing.

    Args:
        keys: full, of objects that are there.
    Returns: how many there were.
    Raises:
        StoreError: the store refused; a lock that ends later already may not be shortened (COPY_LOCK_DAYS was lowered).
    """
    options = copy.write_options()
    if not options:
        return 0

    def extend(key: str) -> None:
        try:
            copy.client.put_object_retention(
                Bucket=copy.name,
                Key=key,
                Retention={"Mode": options["ObjectLockMode"], "RetainUntilDate": options["ObjectLockRetainUntilDate"]},
                ChecksumAlgorithm=options["ChecksumAlgorithm"],
            )
        except S3_ERRORS as error:
            if not _ends_later(copy, key, options):
                raise translate(error, f"extend the lock of {key}") from None

    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="lock") as pool:
        return sum(1 for _ in pool.map(lambda key: retrying(lambda: extend(key)), keys))


def lock_bases(copy: BackupStore, manifest: Manifest) -> int:
    """Keep the copies locked that a set is a difference to; their packs are the set's own or no longer needed by it."""
    if not copy.lock_mode:
        return 0
    keys = [item.key for base in sorted(manifest.bases) for item in retrying(lambda: list(copy.list(set_prefix(copy, base))))]  # noqa: B023
    return keep_locked(copy, keys)


def _ends_later(copy: BackupStore, key: str, options: dict[str, object]) -> bool:
    try:
        until = copy.client.head_object(Bucket=copy.name, Key=key).get("ObjectLockRetainUntilDate")
    except S3_ERRORS as error:
        raise translate(error, f"look at {key}") from None
    wanted = options["ObjectLockRetainUntilDate"]
    return until is not None and until >= wanted  # type: ignore[operator]  # a datetime, as `write_options` made it
