"""Reading one object of the store from its start to its end, across broken connections."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from blocks.errors import StoreError
from blocks.retry import retrying
from blocks.s3_errors import S3_ERRORS, translate

if TYPE_CHECKING:
    from blocks.object_bucket import ObjectBucket


MIB = 1024 * 1024


class ObjectReader(io.RawIOBase):
    """Reads one object from the store, start to end, going on where it was after a broken connection.

    Args:
        store: where the object is.
        key: full key in the bucket.
    Raises (on read):
        StoreError: the object was replaced while it was read, or the store is gone for good.
    """

    TRIES = 5

    def __init__(self, store: ObjectBucket, key: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._offset = 0
        self._etag: str | None = None
        self._body: Any = None
        self.length = 0
        self._open()

    def _open(self) -> None:
        arguments: dict[str, Any] = {"Bucket": self._store.bucket.bucket_name, "Key": self._key}
        if self._etag is not None:
            arguments |= {"Range": f"bytes={self._offset}-", "IfMatch": self._etag}
        try:
            answer = self._store.client.get_object(**arguments)
        except S3_ERRORS as error:
            raise translate(error, f"read {self._key}") from None
        if self._etag is None:
            self._etag, self.length = answer["ETag"], answer["ContentLength"]
        elif not answer.get("ContentRange", "").startswith(f"bytes {self._offset}-"):
            answer["Body"].close()
            raise StoreError(f"store: read {self._key}: the server ignores Range, so reading cannot go on", permanent=True)
        self._body = answer["Body"]

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; 0 only at the true end of the object."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, all there are when it is negative; none only at the true end of the object.

        RawIOBase would copy every byte twice on its way through `readinto`.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(MIB), b""))
        if self._offset >= self.length or not size:
            return b""
        data = retrying(lambda: self._next(size), attempts=self.TRIES)
        self._offset += len(data)
        return data

    def _next(self, size: int) -> bytes:
        try:
            if self._body is None:
                self._open()
            data: bytes = self._body.read(size)
        except (*S3_ERRORS, OSError) as error:
            self._drop()
            raise translate(error, f"read {self._key} at byte {self._offset}") from None
        if not data:
            self._drop()
            raise StoreError(f"store: read {self._key}: ended at byte {self._offset} of {self.length}")
        return data

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def close(self) -> None:
        """Give the connection up."""
        self._drop()
        super().close()
