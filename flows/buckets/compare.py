"""A live bucket beside the index of a set: what is missing, what is different, what is extra."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blocks.errors import SettingsError
from blocks.object_bucket import Listed
from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.backup.manifest import BucketContents
from flows.buckets.index import IndexEntry, open_index
from flows.buckets.listing import sorted_objects

__all__ = ["Finding", "Wanted", "compare_bucket"]


@dataclass(frozen=True)
class Wanted:
    """Which objects are meant: the one with this key, those below a prefix, or all where both are empty."""

    key: str = ""
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.key and self.prefix:
            raise SettingsError("give the key of one object, or a prefix, not both")

    def __str__(self) -> str:
        return repr(self.key) if self.key else f"everything below {self.prefix!r}" if self.prefix else "everything"

    def covers(self, key: str) -> bool:
        """Say whether an object is meant."""
        return key == self.key if self.key else key.startswith(self.prefix)


@dataclass(frozen=True, slots=True)
class Finding:
    """One object that is not as it was.

    Attributes:
        kind: missing (only in the set), different (another ETag or size), extra (only in the live bucket).
        entry: as it was; None where it is extra. live: as it is; None where it is missing.
    """

    key: str
    kind: Literal["missing", "different", "extra"]
    entry: IndexEntry | None
    live: Listed | None


def compare_bucket(
    source: SourceBucket,
    store: BackupStore,
    prefix: str,
    component: BucketContents,
    wanted: Wanted,
    folder: Path | None = None,
) -> Generator[Finding, None, None]:
    """Yield what is not as it was, in the order of the keys, in constant memory; reads listings, not objects.

    Args:
        source: the live bucket. store: where the set is. prefix: key prefix of the set, with slash.
        component: as its manifest has it. wanted: which objects. folder: for temporary files; None for the system's own.
    Raises:
        IntegrityError: the index is not what was backed up.
        StoreError: the bucket or the store failed.
    """
    with open_index(store, prefix, component, folder) as index, closing(_live(source, component, wanted, folder)) as live:
        entries = (entry for entry in index.entries() if wanted.covers(entry.key))
        entry, item = next(entries, None), next(live, None)
        while entry is not None or item is not None:
            if item is None or (entry is not None and entry.key < item.key):
                assert entry is not None  # noqa: S101 - one of them is left, or the loop had ended
                yield Finding(entry.key, "missing", entry, None)
                entry = next(entries, None)
            elif entry is None or item.key < entry.key:
                yield Finding(item.key, "extra", None, item)
                item = next(live, None)
            else:
                if (entry.etag, entry.bytes) != (item.etag, item.bytes):
                    yield Finding(entry.key, "different", entry, item)
                entry, item = next(entries, None), next(live, None)


def _live(
    source: SourceBucket, component: BucketContents, wanted: Wanted, folder: Path | None
) -> Generator[Listed, None, None]:
    """List what is there now, of what the set could hold: what was below another prefix then is nobody's extra."""
    then = source.model_copy(update={"prefix": component.prefix})
    if wanted.key:
        found = source.find(wanted.key) if then.covers(wanted.key) else None
        if found is not None:
            yield found
        return
    with closing(sorted_objects(then.objects(wanted.prefix), folder)) as listing:
        yield from listing
