"""Bytes on their way to and from the store: dump -> zstd -> age -> multipart upload, and back.

Everything streams through bounded buffers, nothing touches a disk.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

import zstandard

from blocks.errors import IntegrityError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows.backup.manifest import StoredObject
from flows.backup.pipes import CHUNK, HashingReader, ProcessOutput, pumped

__all__ = [
    "CHUNK",
    "HashingReader",
    "ProcessOutput",
    "open_encrypted",
    "pumped",
    "store_encrypted",
    "verify_stored",
]

ZSTD_LEVEL = 3


def store_encrypted(
    store: BackupStore, prefix: str, key: str, source: IO[bytes], keys: BackupKeys, *, expected_bytes: int = 0
) -> StoredObject:
    """Compress, encrypt and store a stream.

    Args:
        store: where to. prefix: key prefix of the set, with slash. key: key below the set.
        source: raises in `read` when it breaks off.
        keys: the recipients.
        expected_bytes: a guess of the stored size.
    Returns: what was stored, with hashes of both sides.
    Raises: what `source` raised, or StoreError; then nothing is stored under the key.
    """
    plain = HashingReader(source)

    def work(target: IO[bytes]) -> None:
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
        with compressor.stream_reader(cast(IO[bytes], plain), read_size=CHUNK, closefd=False) as compressed:
            keys.encrypt(cast(IO[bytes], compressed), target)

    with pumped(work, f"encrypt {key}") as encrypted:
        stored = HashingReader(cast(IO[bytes], encrypted))
        store.put_stream(prefix + key, cast(IO[bytes], stored), expected_bytes=expected_bytes)
    return StoredObject(key=key, bytes=stored.bytes, sha256=stored.sha256, plain_bytes=plain.bytes, plain_sha256=plain.sha256)


def verify_stored(store: BackupStore, prefix: str, item: StoredObject) -> None:
    """Read a stored object and compare its hash: nothing is fed to an engine before that.

    Raises:
        IntegrityError: the object is not what the manifest says.
    """
    with store.open(prefix + item.key) as reader:
        stored = HashingReader(cast(IO[bytes], reader))
        while stored.read(CHUNK):
            pass
    if (stored.bytes, stored.sha256) != (item.bytes, item.sha256):
        raise IntegrityError(
            f"{item.key}: the stored object is not the one that was backed up "
            f"({stored.bytes} bytes with SHA-256 {stored.sha256[:12]}..., expected {item.bytes} with {item.sha256[:12]}...); "
            "restore from another set"
        )


@contextmanager
def open_encrypted(store: BackupStore, prefix: str, item: StoredObject, keys: BackupKeys) -> Iterator[IO[bytes]]:
    """Open a stored object for reading, decrypted and decompressed, hashes checked at its end.

    Raises (in `read`):
        IntegrityError: the bytes are not those that were backed up, or cannot be decrypted.
    """
    with store.open(prefix + item.key) as reader:
        stored = HashingReader(cast(IO[bytes], reader))
        with pumped(lambda target: keys.decrypt(cast(IO[bytes], stored), target), f"decrypt {item.key}") as decrypted:
            decompressor = zstandard.ZstdDecompressor()
            with decompressor.stream_reader(cast(IO[bytes], decrypted), read_size=CHUNK, closefd=False) as plain:
                yield cast(IO[bytes], _Checked(HashingReader(cast(IO[bytes], plain)), item))


class _Checked(io.RawIOBase):
    """Raises at the end of a stream that was not what the manifest says."""

    def __init__(self, plain: HashingReader, item: StoredObject) -> None:
        super().__init__()
        self._plain, self._item = plain, item

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            count = self._plain.readinto(buffer)
        except zstandard.ZstdError:
            raise self._wrong() from None
        if count == 0 and len(buffer) and not self._whole():
            raise self._wrong()
        return count

    def _whole(self) -> bool:
        return (self._plain.bytes, self._plain.sha256) == (self._item.plain_bytes, self._item.plain_sha256)

    def _wrong(self) -> IntegrityError:
        return IntegrityError(f"{self._item.key}: decrypts to something else than was backed up; restore from another set")
