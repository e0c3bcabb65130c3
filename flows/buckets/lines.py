"""Lists of a line each in the store, as zstd: the index of a bucket, its list of packs, the plan of a restore."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from blocks.errors import IntegrityError
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.backup.manifest import StoredObject
from flows.backup.pipes import CHUNK, HashingReader
from flows.buckets.listing import read_lines

__all__ = ["BytesReader", "Spooled", "spooled", "store_lines"]

_LEVEL = 3


class BytesReader(io.RawIOBase):
    """A stream of the pieces that an iterator gives; what it raises is raised in `read`, each time."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._rest = memoryview(b"")
        self._error: BaseException | None = None

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Return up to `size` bytes, all there are when it is negative; fewer only at the end."""
        if self._error is not None:  # a generator that has raised looks like one at its end
            raise self._error
        parts, missing = [self._rest], (size if size >= 0 else 1 << 62) - len(self._rest)
        try:
            while missing > 0:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                parts.append(memoryview(piece))
                missing -= len(piece)
        except BaseException as error:
            self._error = error
            raise
        if missing < 0:
            last = parts[-1]
            parts[-1], self._rest = last[:missing], last[len(last) + missing :]
        else:
            self._rest = memoryview(b"")
        return b"".join(parts)

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; 0 at the end."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def store_lines(store: BackupStore, prefix: str, key: str, lines: Iterable[bytes]) -> StoredObject:
    """Store lines, given without their ends, as a zstd stream, in constant memory.

    Args:
        store: where to. prefix: key prefix of the set, with slash. key: key below the set.
    Returns: what was stored, with hashes of both sides.
    """
    plain = HashingReader(cast(IO[bytes], BytesReader(line + b"\n" for line in lines)))
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with compressor.stream_reader(cast(IO[bytes], plain), read_size=CHUNK, closefd=False) as compressed:
        stored = HashingReader(cast(IO[bytes], compressed))
        store.put_stream(prefix + key, cast(IO[bytes], stored))
    return StoredObject(key=key, bytes=stored.bytes, sha256=stored.sha256, plain_bytes=plain.bytes, plain_sha256=plain.sha256)


class Spooled:
    """A stored list in a local file, its hash checked; may be read more than once."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def lines(self) -> Iterator[bytes]:
        """Yield the lines, without their ends.

        Raises:
            IntegrityError: it is not what `store_lines` writes.
        """
        try:
            yield from read_lines(self._path.open("rb"))
        except zstandard.ZstdError:
            raise IntegrityError(f"{self._key}: is not a zstd stream; use another set") from None


@contextmanager
def spooled(store: BackupStore, prefix: str, item: StoredObject | str, folder: Path | None) -> Iterator[Spooled]:
    """Fetch a stored list into a temporary file, so that its hash is known before its first line is believed.

    Args:
        store: where. prefix: key prefix of the set, with slash.
        item: what the manifest says of it, or only its key below the set where nothing is known about it.
        folder: for the temporary file; None for the system's own.
    Raises:
        IntegrityError: the object is not what the manifest says.
        ObjectMissing: there is none.
    """
    key = item if isinstance(item, str) else item.key
    with tempfile.NamedTemporaryFile(prefix="list-", suffix=".zst", dir=folder) as file:
        with retrying(lambda: store.open(prefix + key)) as reader:
            stored = HashingReader(cast(IO[bytes], reader))
            while data := stored.read(CHUNK):
                file.write(data)
        file.flush()
        if isinstance(item, StoredObject) and (stored.bytes, stored.sha256) != (item.bytes, item.sha256):
            raise IntegrityError(
                f"{key}: the stored object is not the one that was backed up ({stored.bytes} bytes with SHA-256 "
                f"{stored.sha256[:12]}..., expected {item.bytes} with {item.sha256[:12]}...); use another set"
            )
        yield Spooled(Path(file.name), key)
