"""A bucket into a set: what is new or changed goes into packs, what is as it was is only referred to."""

from __future__ import annotations

import heapq
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from blocks.errors import IntegrityError, ObjectMissing
from blocks.keys import BackupKeys
from blocks.object_bucket import Listed
from blocks.object_fetch import ObjectFetcher
from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.backup.manifest import BucketContents
from flows.buckets.index import IndexEntry, index_key, open_index, packs_list_key
from flows.buckets.lines import store_lines
from flows.buckets.listing import SpillFile, sorted_objects
from flows.buckets.pack_ids import make_id, short
from flows.buckets.packs import PACK_BYTES, PackEntry, discard_packs, read_packs_list, stored_packs
from flows.buckets.writing import Written, padded, write_pack
from flows.lease import utc_now

__all__ = ["Previous", "backup_bucket", "discard_packs"]

PACKS_AT_ONCE = 2
"""While one is finished in the store, the next is filled."""
_PART_MIB = 5
_LISTED_AT_ONCE = 20_000
"""Sorted in memory: 8 MB, and twice that at the beginning."""
_MOST_MEMBERS = 32_000
"""A pack of tiny objects ends here: what is remembered of each takes memory too."""


@dataclass(frozen=True)
class Previous:
    """The last good set that holds the same bucket.

    Attributes:
        prefix: key prefix of that set, with slash. component: what its manifest says of the bucket.
    """

    prefix: str
    component: BucketContents


@dataclass
class _Known:
    """What the previous set has: its index in order of the keys, and those of its packs that are still in the store."""

    lines: Iterator[tuple[IndexEntry, bytes]] = field(default_factory=lambda: iter(()))
    packs: dict[str, PackEntry] = field(default_factory=dict)


def backup_bucket(
    source: SourceBucket,
    store: BackupStore,
    keys: BackupKeys,
    prefix: str,
    set_id: str,
    *,
    previous: Previous | None,
    numbers: Iterator[int],
    folder: Path | None,
    progress: Callable[[str], None],
) -> BucketContents:
    """Take a bucket into a set, in constant memory.

    Objects of which the previous set has the same key, ETag and size are not read, as long as their pack is still in the
    store. One that changes after it was listed is taken as it is when it is read; one that vanishes is left out, and said so.

    Args:
        source: the bucket. store, keys: where to, and encrypted to whom. prefix: key prefix of the set, with slash.
        set_id: of the set; its packs are called after it. previous: the last good set's, None to read everything.
        numbers: of the packs, counted up over all buckets of the set. folder: for temporary files; None for the system's own.
        progress: told about each pack in a line.
    Returns: the component for the manifest; index and list of packs are stored.
    Raises:
        StoreError: the bucket or the store failed. The packs of this set are the caller's to remove: `discard_packs`.
    """
    started = utc_now()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bucket-", dir=folder)))
        fetcher = stack.enter_context(ObjectFetcher(source))
        join = _Join(_look_back(stack, source, store, previous, scratch, progress), scratch)
        listing = stack.enter_context(closing(sorted_objects(source.objects(), scratch, _LISTED_AT_ONCE)))
        taken = _Taken(scratch)
        with _Packing(fetcher, store, keys, set_id, numbers) as packing:
            for written in packing.run(join.changed(listing)):
                taken.add(written)
                if written.pack:
                    progress(f"bucket {source.name}: pack {written.pack.id}: {len(written.lines)} objects")
        packs = sorted([*taken.packs, *(join.known.packs[pack] for pack in join.used)], key=lambda pack: pack.id)
        lines = _merged(join.same.lines(), taken.file.lines())
        return BucketContents(
            name=source.name,
            prefix=source.prefix,
            index=store_lines(store, prefix, index_key(source.name), lines),
            packs=store_lines(store, prefix, packs_list_key(source.name), (pack.line() for pack in packs)),
            pack_ids=short(pack.id for pack in packs),
            objects=join.same.count + taken.file.count,
            bytes=join.bytes + taken.bytes,
            new_objects=taken.file.count,
            new_bytes=sum(pack.bytes for pack in taken.packs),
            not_taken=taken.not_taken(),
            started_at=started,
            finished_at=utc_now(),
        )


def _look_back(
    stack: ExitStack,
    source: SourceBucket,
    store: BackupStore,
    previous: Previous | None,
    folder: Path,
    progress: Callable[[str], None],
) -> _Known:
    """Open what the previous set has; where that is damaged or gone, everything is read again."""
    if previous is None:
        return _Known()
    try:
        listed = read_packs_list(store, previous.prefix, previous.component, folder)
        index = stack.enter_context(open_index(store, previous.prefix, previous.component, folder))
    except (IntegrityError, ObjectMissing) as error:
        progress(f"bucket {source.name}: everything is read again, as the previous set cannot be built on: {error}")
        return _Known()
    there = stored_packs(store)
    packs = {pack.id: pack for pack in listed.values() if there.get(pack.id) == pack.bytes}
    if len(packs) < len(listed):
        gone = ", ".join(sorted(listed.keys() - packs.keys())[:3])
        progress(f"bucket {source.name}: {len(listed) - len(packs)} packs are gone or cut short ({gone}): read again")
    return _Known(index.lines(), packs)


class _Join:
    """The listing beside the previous index, both in the order of the keys.

    Attributes:
        known: the previous set's. same: lines of the index that hold on. used: packs they are in. bytes: of their objects.
    """

    def __init__(self, known: _Known, folder: Path) -> None:
        self.known = known
        self.same = SpillFile(folder / "same.zst")
        self.used: set[str] = set()
        self.bytes = 0

    def changed(self, listing: Iterator[Listed]) -> Iterator[Listed]:
        """Yield what has to be read, and note down what has not."""
        entry, line = next(self.known.lines, (None, b""))
        for item in listing:
            while entry is not None and entry.key < item.key:
                entry, line = next(self.known.lines, (None, b""))
            if entry is None or entry.key != item.key or not self._holds(entry, item):
                yield item
                continue
            self.same.write(line)
            self.used.add(entry.pack)
            self.bytes += entry.bytes

    def _holds(self, entry: IndexEntry, item: Listed) -> bool:
        return (entry.etag, entry.bytes) == (item.etag, item.bytes) and entry.pack in self.known.packs


class _Taken:
    """What was read, pack after pack."""

    def __init__(self, folder: Path) -> None:
        self.file = SpillFile(folder / "new.zst")
        self.packs: list[PackEntry] = []
        self.bytes = 0
        self._vanished = 0
        self._examples: list[str] = []

    def add(self, written: Written) -> None:
        for line in written.lines:
            self.file.write(line)
        self.bytes += written.bytes
        self.packs += [written.pack] if written.pack else []
        self._vanished += len(written.vanished)
        self._examples += written.vanished[: 3 - len(self._examples)]

    def not_taken(self) -> list[str]:
        if not self._vanished:
            return []
        what = "object" if self._vanished == 1 else "objects"
        return [f"{self._vanished} {what} vanished between listing and reading: {', '.join(map(repr, self._examples))}"]


class _Packing:
    """Packs being written, a few at once; left early, those under way are given up and leave nothing."""

    def __init__(
        self, fetcher: ObjectFetcher, store: BackupStore, keys: BackupKeys, set_id: str, numbers: Iterator[int]
    ) -> None:
        self._fetcher, self._keys = fetcher, keys
        # small parts, few in flight: several packs are on their way at once
        self._store = store.model_copy(update={"concurrency": min(store.concurrency, 2), "part_size_mib": _PART_MIB})
        self._set_id, self._numbers = set_id, numbers
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(PACKS_AT_ONCE, thread_name_prefix="pack")

    def __enter__(self) -> _Packing:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, items: Iterator[Listed]) -> Iterator[Written]:
        """Yield what became of each pack, in the order of the keys."""
        pending: deque[Future[Written]] = deque()
        for batch in _batches(items):
            if len(pending) == PACKS_AT_ONCE:
                yield pending.popleft().result()
            pending.append(self._pool.submit(self._write, make_id(self._set_id, next(self._numbers)), batch))
            del batch
        while pending:
            yield pending.popleft().result()

    def _write(self, pack_id: str, batch: list[Listed]) -> Written:
        return write_pack(self._fetcher, self._store, self._keys, pack_id, batch, stop=self._stop)


def _batches(items: Iterator[Listed]) -> Iterator[list[Listed]]:
    batch: list[Listed] = []
    size = 0
    for item in items:
        if batch and (size + padded(item.bytes) > PACK_BYTES or len(batch) == _MOST_MEMBERS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += padded(item.bytes)
    if batch:
        yield batch


def _merged(same: Iterator[bytes], new: Iterator[bytes]) -> Iterator[bytes]:
    """Merge two lists of lines by key; they are parsed only where both have some."""
    first_same, first_new = next(same, None), next(new, None)
    if first_same is None or first_new is None:
        first, rest = (first_new, new) if first_same is None else (first_same, same)
        if first is not None:
            yield first
            yield from rest
        return
    keyed = (((IndexEntry.parse(line).key, line) for line in _chain(*part)) for part in ((first_same, same), (first_new, new)))
    for _, line in heapq.merge(*keyed):
        yield line


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
