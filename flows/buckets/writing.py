"""One pack on its way into the store: objects fetched side by side, in bounded memory, and written one behind the other."""

from __future__ import annotations

import hashlib
import tarfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, cast

from blocks.errors import ConditionFailed, ObjectMissing, StackError, StoreError
from blocks.keys import BackupKeys
from blocks.object_bucket import Listed
from blocks.object_fetch import Fetched, ObjectFetcher
from blocks.object_store import BackupStore
from blocks.retry import is_transient
from flows.backup.pipes import CHUNK
from flows.backup.stream import store_encrypted
from flows.buckets.index import IndexEntry
from flows.buckets.lines import BytesReader
from flows.buckets.packs import PackEntry, member_name, pack_key
from flows.buckets.streams import ObjectStream

__all__ = ["FETCHERS", "Written", "padded", "write_pack"]

LARGE = 8 * 1024 * 1024
"""Bytes from which an object is passed through instead of being held."""
FETCHERS = 6
"""Requests at once for a pack."""
_RUN_BYTES, _RUN_OBJECTS = 128 * 1024, 16
"""Small objects are fetched a few at a time by one thread: handing each over on its own costs as much as the request."""
_AHEAD_BYTES = 16 * 1024 * 1024
_AHEAD_RUNS = 4 * FETCHERS
_BLOCK = tarfile.BLOCKSIZE
_TRIES = 3


@dataclass
class Written:
    """What became of the objects that were meant for a pack.

    Attributes:
        lines: of the index, in the order of the keys; not parsed entries, which take thrice the memory.
        bytes: of the objects together. pack: None where all of them had vanished.
        vanished: keys that were listed and are there no more.
    """

    lines: list[bytes] = field(default_factory=list)
    bytes: int = 0
    pack: PackEntry | None = None
    vanished: list[str] = field(default_factory=list)


def padded(size: int) -> int:
    """Return how many bytes an object takes in a tar, its header included."""
    return _BLOCK + -(-size // _BLOCK) * _BLOCK


def write_pack(
    fetcher: ObjectFetcher,
    store: BackupStore,
    keys: BackupKeys,
    pack_id: str,
    items: Sequence[Listed],
    *,
    stop: threading.Event,
) -> Written:
    """Fetch objects and store them as one pack; whatever goes wrong, there is no half of one.

    Args:
        fetcher: of the bucket they are in. store, keys: where to, encrypted to whom. pack_id: of the new pack.
        items: sorted by key. stop: set when the run has failed elsewhere: the pack is given up.
    Raises:
        StoreError: the bucket or the store failed.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            return _write(fetcher, store, keys, pack_id, items, stop)
        except StackError as error:  # a large object that was replaced while it was read; the uploading has its own retries
            again = is_transient(error) or isinstance(error, ConditionFailed)
            if attempt == _TRIES or not again or stop.is_set():
                raise
    raise AssertionError("either returned or raised")


def _write(
    fetcher: ObjectFetcher, store: BackupStore, keys: BackupKeys, pack_id: str, items: Sequence[Listed], stop: threading.Event
) -> Written:
    written = Written()
    expected = sum(padded(item.bytes) for item in items)
    key = pack_key(store, pack_id)
    with ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch") as pool:
        window = _Window(fetcher, pool, items, stop)
        try:
            source = cast(IO[bytes], BytesReader(_tar(window, pack_id, written)))
            stored = store_encrypted(store, "", key, source, keys, expected_bytes=expected)
        finally:
            window.close()
    if written.lines:
        written.pack = PackEntry(pack_id, stored.bytes, stored.sha256, stored.plain_bytes, len(written.lines))
    else:
        store.remove([key])
    return written


@dataclass(frozen=True)
class _Got:
    item: Listed
    object: Fetched | None


class _Window:
    """Objects fetched ahead of where they are needed, in their order, as far as memory allows."""

    def __init__(
        self, fetcher: ObjectFetcher, pool: ThreadPoolExecutor, items: Sequence[Listed], stop: threading.Event
    ) -> None:
        self.fetcher = fetcher
        self._pool, self._stop = pool, stop
        self._runs = _runs(items)
        self._ahead: deque[tuple[int, Future[list[_Got]]]] = deque()
        self._bytes = 0
        self._next = next(self._runs, None)

    def __iter__(self) -> Iterator[_Got]:
        self._fill()
        while self._ahead:
            size, future = self._ahead.popleft()
            got = future.result()
            self._bytes -= size
            self._fill()
            yield from got

    def close(self) -> None:
        for _, future in self._ahead:
            future.cancel()

    def _fill(self) -> None:
        while self._next is not None and len(self._ahead) < _AHEAD_RUNS:
            run = self._next
            size = sum(item.bytes for item in run if item.bytes < LARGE)
            if self._ahead and self._bytes + size > _AHEAD_BYTES:
                return
            self._ahead.append((size, self._pool.submit(self._fetch, run)))
            self._bytes += size
            self._next = next(self._runs, None)

    def _fetch(self, run: list[Listed]) -> list[_Got]:
        return [self._one(item) for item in run]

    def _one(self, item: Listed) -> _Got:
        if self._stop.is_set():
            raise StoreError("store: given up, as another pack of the bucket failed", permanent=True)
        if item.bytes >= LARGE:
            return _Got(item, Fetched("", item.bytes, "", {}))
        try:
            return _Got(item, self.fetcher.get(item.key, limit=LARGE))
        except ObjectMissing:
            return _Got(item, None)


def _runs(items: Sequence[Listed]) -> Iterator[list[Listed]]:
    run: list[Listed] = []
    size = 0
    for item in items:
        if run and (len(run) == _RUN_OBJECTS or size + item.bytes > _RUN_BYTES):
            yield run
            run, size = [], 0
        run.append(item)
        size += item.bytes
    if run:
        yield run


def _tar(window: _Window, pack_id: str, written: Written) -> Iterator[bytes]:
    """Yield a POSIX tar of what is fetched, and write down what was in it."""
    for got in window:
        if got.object is None:
            written.vanished.append(got.item.key)
        elif got.object.data is not None:
            name = member_name(got.item.key)
            yield _header(name, got.object.bytes) + got.object.data + _fill_up(got.object.bytes)
            digest = hashlib.sha256(got.object.data).hexdigest()
            _note(written, got.item.key, got.object, digest, pack_id, name)
        else:
            yield from _passed_through(window.fetcher, got.item.key, pack_id, written)
    yield b"\0" * (2 * _BLOCK)


def _passed_through(fetcher: ObjectFetcher, key: str, pack_id: str, written: Written) -> Iterator[bytes]:
    try:
        stream = ObjectStream(fetcher, key)
    except ObjectMissing:
        written.vanished.append(key)
        return
    name, digest = member_name(key), hashlib.sha256()
    with stream:
        yield _header(name, stream.about.bytes)
        while data := stream.read(CHUNK):
            digest.update(data)
            yield data
    yield _fill_up(stream.about.bytes)
    _note(written, key, stream.about, digest.hexdigest(), pack_id, name)


def _note(written: Written, key: str, found: Fetched, sha256: str, pack_id: str, name: str) -> None:
    entry = IndexEntry(key, found.bytes, found.etag, sha256, pack_id, name, found.type, found.meta)
    written.lines.append(entry.line())
    written.bytes += found.bytes


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _fill_up(size: int) -> bytes:
    return b"\0" * (-size % _BLOCK)
