"""What of a set has been sent already, kept in the stack's own store: the second one holds nothing that could be read."""

from __future__ import annotations

from pydantic import Field, ValidationError

from blocks.errors import ObjectMissing
from blocks.object_store import BackupStore, Listed
from blocks.retry import retrying
from flows.backup.manifest import Record
from flows.copy.contents import Item
from flows.copy.records import CopiedObject

__all__ = ["Sent", "forget_others"]


class _Sending(Record):
    format: int = 1
    objects: dict[str, CopiedObject] = Field(default_factory=dict)


class Sent:
    """The progress record of one set's copy.

    Args:
        store: the stack's own. set_id: of the set.
    """

    def __init__(self, store: BackupStore, set_id: str) -> None:
        self._store, self._key = store, f"{folder(store)}{set_id}.json"
        try:
            self._objects = _Sending.model_validate_json(retrying(lambda: store.get(self._key))).objects
        except (ObjectMissing, ValidationError):  # a damaged record only costs time
            self._objects = {}

    def find(self, item: Item, listed: Listed | None) -> CopiedObject | None:
        """Return an object that need not be sent again: it is in the second store and known to be right.

        Args:
            item: what is to be sent. listed: what the second store has under its key.
        """
        if listed is None:
            return None
        known = self._objects.get(item.key)
        if known is not None and (known.bytes, known.etag) == (listed.bytes, listed.etag):
            same = (known.kind, known.stands_for, known.files) == (item.kind, item.stands_for, len(item.files) or 1)
            if same and (item.kind == "files" or known.plain_sha256 == item.sha256):
                return known
        if item.kind == "same" and listed.bytes == item.bytes:  # its bytes were proven before it could appear there
            return CopiedObject(
                key=item.key,
                kind="same",
                stands_for=item.stands_for,
                bytes=item.bytes,
                sha256=item.sha256,
                plain_bytes=item.bytes,
                plain_sha256=item.sha256,
                etag=listed.etag,
            )
        return None

    def add(self, sent: CopiedObject) -> None:
        """Write down that an object was sent; what needs no record is not written."""
        if sent.kind == "same":
            return
        self._objects[sent.key] = sent
        data = _Sending(objects=self._objects).model_dump_json().encode()
        retrying(lambda: self._store.put(self._key, data))

    def forget(self) -> None:
        """Remove the record: the copy is there, with its own list."""
        retrying(lambda: self._store.remove([self._key]))


def folder(store: BackupStore) -> str:
    """Return the key prefix of the progress records."""
    return f"{store.root}copying/"


def forget_others(store: BackupStore, ids: set[str]) -> None:
    """Remove the records of sets that are gone.

    Args:
        ids: of the sets there are.
    """
    prefix = folder(store)
    gone = [item.key for item in store.list(prefix) if item.key.removeprefix(prefix).removesuffix(".json") not in ids]
    store.remove(gone)
