"""The index of a bucket: a JSON line for each object that existed, sorted by key, and where its bytes are.

A dataclass with slots and no validation model: there can be millions of lines.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blocks.errors import IntegrityError
from blocks.object_store import BackupStore
from flows.backup.manifest import BucketContents
from flows.buckets.lines import Spooled, spooled

__all__ = ["Index", "IndexEntry", "index_key", "open_index", "packs_list_key"]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One object of a bucket, as it was.

    Attributes:
        key: of the object. bytes: its size. etag: as the server gave it, with its quotes. sha256: of its bytes, hex.
        pack: id of the pack that holds it. member: its name in there.
        type: its content type where it is not the default. meta: its user metadata.
    """

    key: str
    bytes: int
    etag: str
    sha256: str
    pack: str
    member: str
    type: str = ""
    meta: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> builtins.bytes:
        """Return the entry as a line, without its end."""
        body: dict[str, object] = {
            "key": self.key,
            "bytes": self.bytes,
            "etag": self.etag,
            "sha256": self.sha256,
            "pack": self.pack,
            "member": self.member,
        }
        if self.type:
            body["type"] = self.type
        if self.meta:
            body["meta"] = dict(self.meta)
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, line: builtins.bytes) -> IndexEntry:
        """Read a line; fields of later versions are passed over.

        Raises:
            IntegrityError: it is not a line of an index.
        """
        try:
            body = json.loads(line)
            return cls(
                body["key"],
                body["bytes"],
                body["etag"],
                body["sha256"],
                body["pack"],
                body["member"],
                body.get("type", ""),
                body.get("meta", {}),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise IntegrityError("a line of the index of a bucket is not what this version writes; use another set") from None


def index_key(bucket: str) -> str:
    """Return the key of a bucket's index below its set."""
    return f"buckets/{bucket}.index.zst"


def packs_list_key(bucket: str) -> str:
    """Return the key of a bucket's list of packs below its set."""
    return f"buckets/{bucket}.packs.zst"


class Index:
    """An index that was fetched and whose hash was checked; may be read more than once."""

    def __init__(self, source: Spooled, bucket: str) -> None:
        self._source, self._bucket = source, bucket

    def entries(self) -> Iterator[IndexEntry]:
        """Yield the entries, sorted by key; errors as in `lines`."""
        return (entry for entry, _ in self.lines())

    def lines(self) -> Iterator[tuple[IndexEntry, bytes]]:
        """Yield the entries with the lines they were read from.

        Raises:
            IntegrityError: a line cannot be read, or they are not in order.
        """
        return in_order(self._source.lines(), self._bucket)


def in_order(lines: Iterable[bytes], bucket: str) -> Iterator[tuple[IndexEntry, bytes]]:
    """Parse lines, and see that their keys ascend: whoever joins an index with a listing relies on it."""
    last = ""
    for number, line in enumerate(lines):
        entry = IndexEntry.parse(line)
        if number and entry.key <= last:
            raise IntegrityError(f"bucket {bucket}: its index is not sorted by key (line {number + 1}); use another set")
        last = entry.key
        yield entry, line


@contextmanager
def open_index(store: BackupStore, prefix: str, component: BucketContents, folder: Path | None) -> Iterator[Index]:
    """Fetch the index of a bucket.

    Args:
        store: where. prefix: key prefix of its set, with slash. component: as its manifest has it.
        folder: for temporary files; None for the system's own.
    Raises:
        IntegrityError: it is not the index that was backed up.
        ObjectMissing: it is gone.
    """
    with spooled(store, prefix, component.index, folder) as source:
        yield Index(source, component.name)
