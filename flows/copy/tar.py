"""ClickHouse's files as a tar stream, and back: constant memory, many small objects fetched at once."""

from __future__ import annotations

import hashlib
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, cast

from blocks.errors import IntegrityError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.backup.manifest import StoredObject
from flows.backup.pipes import CHUNK
from flows.backup.stream import open_encrypted
from flows.copy.contents import File
from flows.copy.records import CopiedObject

__all__ = ["tar_of", "unpack"]

SMALL = 1024 * 1024
"""Files up to this size are fetched ahead, whole."""
READERS = 8
AHEAD = 2 * READERS
"""Files that wait at most, so memory is bounded by their number times `SMALL`."""


def tar_of(store: BackupStore, files: Sequence[File]) -> Iterator[bytes]:
    """Yield a POSIX tar of stored files, in their order; the same bytes each time.

    Raises:
        IntegrityError: names a file that is not what was backed up; the tar is not ended then.
    """
    with ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="files") as pool:
        waiting: deque[Future[bytes]] = deque()
        small = iter([file for file in files if file.bytes <= SMALL])
        try:
            for file in files:
                while len(waiting) < AHEAD and (following := next(small, None)) is not None:
                    waiting.append(pool.submit(_get, store, following.key))
                yield _header(file)
                pieces = iter([waiting.popleft().result()]) if file.bytes <= SMALL else _pieces(store, file.key)
                yield from _proven(store, file, pieces)
                yield bytes(-file.bytes % tarfile.BLOCKSIZE)
        finally:
            for one in waiting:
                one.cancel()
    yield bytes(2 * tarfile.BLOCKSIZE)


def _get(store: BackupStore, key: str) -> bytes:
    return retrying(lambda: store.get(key))


def _pieces(store: BackupStore, key: str) -> Iterator[bytes]:
    with retrying(lambda: store.open(key)) as reader:
        while piece := cast(IO[bytes], reader).read(CHUNK):
            yield piece


def _proven(store: BackupStore, file: File, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Pass a file's content on; a wrong size is noticed before the byte that is too many, all else at its end."""
    algorithm, expected = ("sha256", file.sha256) if file.sha256 else ("md5", file.md5)
    digest, count = hashlib.new(algorithm, usedforsecurity=False), 0
    name = file.key.removeprefix(store.root)
    for piece in pieces:
        digest.update(piece)
        count += len(piece)
        if count > file.bytes:
            break
        yield piece
    if count != file.bytes:
        raise IntegrityError(f"{name}: has another size than was recorded ({file.bytes} bytes); use another set")
    if expected and digest.hexdigest() != expected and (algorithm != "md5" or store.etag_is_md5(file.key)):
        raise IntegrityError(f"{name}: is not what was backed up ({algorithm} differs); use another set")


def _header(file: File) -> bytes:
    info = tarfile.TarInfo(file.name)
    info.size, info.mode = file.bytes, 0o600
    return info.tobuf(tarfile.PAX_FORMAT)


def unpack(copy: BackupStore, keys: BackupKeys, item: CopiedObject, take: Callable[[str, int, IO[bytes]], None]) -> int:
    """Read a tar of a copy and hand each file over.

    Args:
        item: of the signed list. take: called with name, size and content of each file, which must not be believed before
            this function has returned: the hash is known when the last byte has been read.
    Returns: how many files there were.
    Raises:
        IntegrityError: the tar is not the one that was written.
    """
    stored = StoredObject(**item.model_dump(include={"key", "bytes", "sha256", "plain_bytes", "plain_sha256"}))
    count = 0
    with open_encrypted(copy, copy.root, stored, keys) as plain:
        try:
            with tarfile.open(fileobj=plain, mode="r|", bufsize=CHUNK, errorlevel=2) as archive:
                for info in archive:
                    content = archive.extractfile(info)
                    if content is None or info.name.startswith("/") or ".." in info.name.split("/"):
                        raise IntegrityError(f"{item.key}: {info.name!r} in it is not a file; use another copy")
                    take(info.name, info.size, content)
                    count += 1
                    cast(Any, archive).members = []  # tarfile would keep them all
        except (tarfile.TarError, EOFError) as error:
            raise IntegrityError(f"{item.key}: is damaged ({type(error).__name__}); use another copy") from None
        while plain.read(CHUNK):
            pass
    if count != item.files:
        raise IntegrityError(f"{item.key}: holds {count} files, expected {item.files}; use another copy")
    return count
