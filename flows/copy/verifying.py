"""Copies read back: every object's hash compared with what was written down when it was sent."""

from __future__ import annotations

from typing import IO, cast

from blocks.errors import ObjectMissing
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.backup.pipes import CHUNK, HashingReader
from flows.copy.records import CopiedObject, CopyList

__all__ = ["Reader"]


class Reader:
    """Reads copies back; an object that several copies share is read once.

    Args:
        copy: the second store.
    """

    def __init__(self, copy: BackupStore) -> None:
        self._copy = copy
        self._read: dict[str, str] = {}
        self.bytes = 0

    def problems(self, listed: CopyList) -> list[str]:
        """Name every object of a copy that is not what was written: a phrase each."""
        return [problem for problem in map(self._problem, listed.objects) if problem]

    def _problem(self, item: CopiedObject) -> str:
        if item.key not in self._read:
            self._read[item.key] = retrying(lambda: self._hash(item.key))
        found = self._read[item.key]
        if found == item.sha256:
            return ""
        return f"{item.key} is {'not what was written (sha256 differs)' if found else 'missing'}"

    def _hash(self, key: str) -> str:
        try:
            with self._copy.open(self._copy.root + key) as reader:
                stored = HashingReader(cast(IO[bytes], reader))
                while stored.read(CHUNK):
                    pass
        except ObjectMissing:
            return ""
        self.bytes += stored.bytes
        return stored.sha256
