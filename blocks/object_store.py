"""Where backups live: one S3 bucket and prefix."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NoReturn

from botocore.exceptions import ClientError
from pydantic import Field

from blocks.errors import ConditionFailed, SettingsError, StoreError
from blocks.object_bucket import Listed, ObjectBucket, Upload, s3_bucket
from blocks.object_fetch import ObjectFetcher
from blocks.object_reader import ObjectReader
from blocks.s3_errors import S3_ERRORS, translate

__all__ = ["BackupStore", "ConditionFailed", "Listed", "ObjectReader", "Upload", "s3_bucket"]

_SMALL = 64 << 20
"""Bytes that no manifest and no record comes near."""
_NO_OBJECT_LOCK = {"ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration", "NotImplemented", "InvalidRequest"}


class BackupStore(ObjectBucket):
    """The S3 bucket and prefix that hold one stack's backups.

    Attributes:
        prefix: folder in the bucket.
        stack: name of the stack; sets are below `<prefix>/<stack>/sets/`.
        lock_mode, lock_days: object lock of everything that is written, where the bucket has it; empty mode: none.

    Example:
        ```python
        store = BackupStore.load("mystack")
        store.check()
        ```
    """

    _block_type_name = "Backup Store"
    _block_type_slug = "backup-store"
    _description = "An S3 bucket and prefix that hold the backups of one stack."

    prefix: str = Field(default="backups", description="Folder in the bucket")
    stack: str = Field(description="Name of the stack")
    lock_mode: Literal["", "governance", "compliance"] = Field(default="", description="Object lock of what is written")
    lock_days: int = Field(default=30, ge=1, description="Days after which the object lock ends")

    @property
    def root(self) -> str:
        """Key prefix of this stack, with a slash at its end."""
        return "/".join(part for part in (self.prefix.strip("/"), self.stack) if part) + "/"

    @contextmanager
    def small_objects(self) -> Iterator[Callable[[str], bytes]]:
        """Give a function that reads small objects whole: thousands of them, from several threads, as often as it takes.

        The function raises ObjectMissing, or StoreError.
        """
        with ObjectFetcher(self) as fetcher:

            def get(key: str) -> bytes:
                found = fetcher.get(key, limit=_SMALL)
                if found.data is None:
                    raise StoreError(f"{key}: {found.bytes} bytes, expected at most {_SMALL}; who wrote it?", permanent=True)
                return found.data

            yield get

    def check(self) -> None:
        """Write, read, compare and delete a probe, list unfinished uploads, and see that conditional writes are honoured.

        Raises:
            SettingsError: the store ignores `If-None-Match` or `If-Match`, so the stack's lock would be worthless; or object
                lock is asked for and the bucket has none.
            StoreError: what does not work, and what to do.
        """
        if self.lock_mode:
            self._check_object_lock()
            self.model_copy(update={"lock_mode": ""}).check()  # a probe is not to be kept for a month
            return
        key = f"{self.root}probe-{secrets.token_hex(8)}"  # several workers may check at once
        etag = self.put(key, b"probe")
        try:
            if self.get(key) != b"probe":
                raise StoreError(f"store {self.bucket.bucket_name}: a probe object read back differently", permanent=True)
            if not self._refuses(key, if_absent=True):
                self._unfit("If-None-Match")
            changed = self.put(key, b"changed", if_etag=etag)
            if not self._refuses(key, if_etag=etag) or self.get_with_etag(key)[1] != changed:
                self._unfit("If-Match")
            next(self.uploads(self.root), None)
        finally:
            self.remove([key])

    def write_options(self) -> dict[str, Any]:
        """Return the object lock that everything is written with, empty where none is asked for.

        S3 refuses a lock on a request that carries no checksum, and botocore would send none.
        """
        if not self.lock_mode:
            return {}
        until = datetime.now(UTC) + timedelta(days=self.lock_days)
        return {
            "ObjectLockMode": self.lock_mode.upper(),
            "ObjectLockRetainUntilDate": until,
            "ChecksumAlgorithm": "CRC32",
        }

    def _check_object_lock(self) -> None:
        try:
            answer = self.client.get_object_lock_configuration(Bucket=self.name)
            enabled = answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled"
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in _NO_OBJECT_LOCK:
                raise translate(error, "ask for the object lock") from None
            enabled = False
        except S3_ERRORS as error:
            raise translate(error, "ask for the object lock") from None
        if not enabled:
            raise SettingsError(
                f"store {self.name}: {self.lock_mode} object lock is asked for, but the bucket has none; make a bucket with "
                "object lock (most providers allow that only when it is made), or leave COPY_LOCK_MODE empty"
            )

    def _refuses(self, key: str, *, if_absent: bool = False, if_etag: str | None = None) -> bool:
        try:
            self.put(key, b"other", if_absent=if_absent, if_etag=if_etag)
        except ConditionFailed:
            return True
        return False

    def _unfit(self, header: str) -> NoReturn:
        raise SettingsError(
            f"store {self.bucket.bucket_name}: ignores {header} when writing, so the stack's lock would be worthless; use a "
            "server that honours conditional writes (AWS, MinIO >= 2024-11, SeaweedFS >= 3.99, Railway buckets)"
        )

    def remove_below(self, prefix: str) -> int:
        """Delete every object below a folder of this stack; returns how many.

        Raises:
            SettingsError: `prefix` is not a folder (with slash) inside the stack's own.
        """
        if not prefix.startswith(self.root) or prefix == self.root or not prefix.endswith("/"):
            raise SettingsError(f"store: refusing to delete below {prefix!r}: it is not a folder inside {self.root}")
        return self.remove([item.key for item in self.list(prefix)])
