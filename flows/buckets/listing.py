"""Putting what does not fit into memory into order: sorted runs in compressed files, merged while they are read.

No server's order is trusted: S3 lists by the bytes of the key, SeaweedFS walks a directory tree (`a/b` before `a-b`), and MinIO
has had modes of its own. What comes in order already costs one pass over the disk and no merge.
"""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, cast

import zstandard

from blocks.object_bucket import Listed

__all__ = ["SpillFile", "external_sort", "sorted_objects"]

T = TypeVar("T")

CHUNK = 50_000
"""Items sorted in memory at once: about 25 MB of listing."""
FAN_IN = 64
"""Files merged at once; more are merged in several rounds."""
_WINDOW_LOG = 17
"""128 KiB: what each open file costs while it is read."""


class SpillFile:
    """Lines of JSON in a compressed file that is written once and then read.

    Args:
        path: of the file, which is made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=_WINDOW_LOG)
        self._file = path.open("wb")
        self._writer = zstandard.ZstdCompressor(compression_params=parameters).stream_writer(self._file)
        self.count = 0

    def write(self, line: bytes) -> None:
        """Append a line, given without its end."""
        self._writer.write(line + b"\n")
        self.count += 1

    def close(self) -> None:
        """End writing; closing twice is no error."""
        cast(IO[bytes], self._writer).close()  # closes the file too

    def lines(self) -> Iterator[bytes]:
        """Yield the lines, without their ends."""
        self.close()
        return read_lines(self._path.open("rb"))


def read_lines(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a zstd stream without their ends, and close it."""
    with source, zstandard.ZstdDecompressor().stream_reader(source, read_size=1 << 16) as plain:
        rest = b""
        while data := plain.read(1 << 16):
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            yield from lines
        if rest:
            yield rest


@dataclass
class _Run(Generic[T]):
    """Sorted items in a file; `last` is the greatest key in it."""

    file: SpillFile
    last: Any = field(default=None)


def external_sort(
    items: Iterable[T],
    folder: Path | None,
    *,
    key: Callable[[T], Any],
    dump: Callable[[T], bytes],
    load: Callable[[bytes], T],
    chunk: int = CHUNK,
) -> Iterator[T]:
    """Yield items in the order of their keys, in constant memory; a single chunk never touches the disk.

    Args:
        items: in any order. folder: for temporary files, None for the system's own; they are gone when the iterator ends or
            is closed.
        key: what to sort by. dump, load: an item as a line without line ends, and back.
        chunk: items in memory at once.
    """
    source = iter(items)
    first = sorted(islice(source, chunk), key=key)
    following = list(islice(source, chunk))
    if not following:
        yield from first
        return
    with tempfile.TemporaryDirectory(prefix="sort-", dir=folder) as name:
        sorter = _Sorter(Path(name), key, dump, load)
        sorter.add(first)
        del first
        while following:
            following.sort(key=key)
            sorter.add(following)
            following = list(islice(source, chunk))
        yield from sorter.merged()


class _Sorter(Generic[T]):
    def __init__(self, folder: Path, key: Callable[[T], Any], dump: Callable[[T], bytes], load: Callable[[bytes], T]) -> None:
        self._folder, self._key, self._dump, self._load = folder, key, dump, load
        self._runs: list[_Run[T]] = []
        self._files = 0

    def add(self, chunk: list[T]) -> None:
        """Append a sorted chunk to a run that ends before it, else begin a new run: a listing in order is one run."""
        smallest = self._key(chunk[0])
        fitting = [run for run in self._runs if run.last <= smallest]
        run = max(fitting, key=lambda one: one.last) if fitting else self._new()
        for item in chunk:
            run.file.write(self._dump(item))
        run.last = self._key(chunk[-1])
        if not fitting and len(self._runs) > FAN_IN:
            self._reduce()

    def _new(self) -> _Run[T]:
        self._files += 1
        run: _Run[T] = _Run(SpillFile(self._folder / f"{self._files:06}.zst"))
        self._runs.append(run)
        return run

    def _reduce(self) -> None:
        """Make one run of all but the youngest."""
        old, self._runs = self._runs[:-1], self._runs[-1:]
        run = self._new()
        for item in self._merge(old):
            run.file.write(self._dump(item))
            run.last = self._key(item)

    def merged(self) -> Iterator[T]:
        return self._merge(self._runs)

    def _merge(self, runs: list[_Run[T]]) -> Iterator[T]:
        with ExitStack() as stack:
            sources: list[Iterator[T]] = []
            for run in runs:
                lines = run.file.lines()
                stack.callback(cast(Any, lines).close)
                sources.append(map(self._load, lines))
            yield from sources[0] if len(sources) == 1 else heapq.merge(*sources, key=self._key)


def sorted_objects(items: Iterable[Listed], folder: Path | None, chunk: int = CHUNK) -> Generator[Listed, None, None]:
    """Yield a listing in the order of the keys' UTF-8 bytes, each key once, in constant memory.

    Args:
        items: in whatever order the server gives them. folder: for temporary files, None for the system's own.
        chunk: objects in memory at once.
    """
    last = None
    for item in external_sort(items, folder, key=_key_of, dump=_dump, load=_load, chunk=chunk):
        if item.key != last:  # an object that was replaced while it was listed may be on two pages
            last = item.key
            yield item


def _key_of(item: Listed) -> str:
    return item.key  # Python compares by code points, which is the order of UTF-8 bytes


def _dump(item: Listed) -> bytes:
    return json.dumps([item.key, item.bytes, item.etag, item.modified.isoformat()]).encode()


def _load(line: bytes) -> Listed:
    key, size, etag, modified = json.loads(line)
    return Listed(key, size, etag, datetime.fromisoformat(modified))
