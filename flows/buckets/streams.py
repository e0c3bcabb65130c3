"""One object of any size read as a stream, across broken connections."""

from __future__ import annotations

import io
from typing import Any

from blocks.errors import ConditionFailed, StoreError
from blocks.object_fetch import Answer, ObjectFetcher, fetched, patiently
from blocks.s3_errors import translate

__all__ = ["ObjectStream"]


class ObjectStream(io.RawIOBase):
    """Reads one object from start to end, going on where it was after a broken connection.

    Attributes:
        about: its ETag, size, content type and metadata.
    Raises (in `read`):
        ConditionFailed: the object was replaced meanwhile; reading it anew can help.
        StoreError: the server is gone for good.
    """

    def __init__(self, fetcher: ObjectFetcher, key: str) -> None:
        super().__init__()
        self._fetcher, self._key, self._offset = fetcher, key, 0
        self._answer: Answer | None = patiently(lambda: fetcher.begin(key))
        self.about = fetched(self._answer)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; 0 only at the true end of the object."""
        if self._offset >= self.about.bytes or not len(buffer):
            return 0
        data = patiently(lambda: self._next(len(buffer)))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def _next(self, size: int) -> bytes:
        doing = f"read {self._key} at byte {self._offset}"
        answer = self._answer = self._answer or self._again(doing)
        try:
            data = answer.read(size)
        except OSError as error:
            self.drop()
            raise translate(error, doing) from None
        if not data:
            self.drop()
            raise StoreError(f"store: {doing}: ended before byte {self.about.bytes}")
        if self._offset + len(data) == self.about.bytes:
            self._answer = None
            self._fetcher.give_back(answer)
        return data

    def _again(self, doing: str) -> Answer:
        try:
            answer = self._fetcher.begin(self._key, self._offset, self.about.etag)
        except ConditionFailed:
            raise ConditionFailed(f"store: {doing}: the object was replaced while it was read") from None
        if not answer.headers.get("content-range", "").startswith(f"bytes {self._offset}-"):
            answer.connection.close()
            raise StoreError(f"store: {doing}: the server ignores Range, so reading cannot go on", permanent=True)
        return answer

    def drop(self) -> None:
        """Give the connection up; the next read makes another."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.connection.close()

    def close(self) -> None:
        """Give the connection up."""
        self.drop()
        super().close()
