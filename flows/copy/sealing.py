"""Bytes on their way between the two stores: proven while they pass, sealed (encrypted whole) and opened again."""

from __future__ import annotations

import hashlib
import io
from contextlib import ExitStack
from typing import IO, Any, cast

import zstandard

from blocks.errors import IntegrityError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.backup.pipes import CHUNK, HashingReader, pumped

__all__ = ["Proven", "Unsealed", "get_compressed", "matches", "put_compressed", "seal"]


class Proven(io.RawIOBase):
    """Passes an object through, and raises at its end unless it is the one that was recorded: then S3 stores nothing.

    Args:
        source: its bytes. name: for messages. size, sha256: what was recorded, bytes and hex.
    """

    def __init__(self, source: IO[bytes], name: str, size: int, sha256: str) -> None:
        super().__init__()
        self._source, self._name, self._size, self._sha256 = source, name, size, sha256
        self._hash = hashlib.sha256()
        self._count = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes.

        Raises:
            IntegrityError: the object is at its end, or longer than it should be, and not the one that was recorded.
        """
        data = self._source.read(size if size >= 0 else CHUNK)
        self._hash.update(data)
        self._count += len(data)
        if self._count > self._size or (not data and size != 0 and not self._whole()):
            raise IntegrityError(
                f"{self._name}: the stored object is not the one that was recorded ({self._count} bytes with SHA-256 "
                f"{self._hash.hexdigest()[:12]}..., expected {self._size} with {self._sha256[:12]}...); use another set"
            )
        return data

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer`; 0 at the end."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _whole(self) -> bool:
        return (self._count, self._hash.hexdigest()) == (self._size, self._sha256)


class Unsealed(io.RawIOBase):
    """Reads a sealed object, decrypted, from start to end.

    Args:
        store, key: where it is. keys: whose identity opens it.
    Raises:
        ObjectMissing: there is none.
        IntegrityError (on read): it was damaged, or encrypted to somebody else.
        SettingsError (on read): there is no age identity here.
    """

    def __init__(self, store: BackupStore, key: str, keys: BackupKeys) -> None:
        super().__init__()
        self._ending = ExitStack()
        sealed = self._ending.enter_context(retrying(lambda: store.open(key)))
        opening = pumped(lambda target: keys.decrypt(cast(IO[bytes], sealed), target), f"decrypt {key}")
        self._plain = self._ending.enter_context(opening)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; 0 at the end."""
        data = self._plain.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Give the connection up."""
        self._ending.close()
        super().close()


def seal(store: BackupStore, key: str, source: IO[bytes], keys: BackupKeys, *, expected_bytes: int = 0) -> HashingReader:
    """Encrypt a stream and store it.

    Args:
        store, key: where to. source: raises when it is not what it should be; nothing is stored then.
    Returns: with count and hash of what was stored.
    """
    with pumped(lambda target: keys.encrypt(source, target), f"encrypt {key}") as encrypted:
        stored = HashingReader(cast(IO[bytes], encrypted))
        store.put_stream(key, cast(IO[bytes], stored), expected_bytes=expected_bytes)
    return stored


def put_compressed(store: BackupStore, key: str, data: bytes, keys: BackupKeys) -> None:
    """Store something that fits into memory, compressed and encrypted."""
    sealed = keys.encrypt_bytes(zstandard.ZstdCompressor(level=3, write_checksum=True).compress(data))
    retrying(lambda: store.put(key, sealed))


def get_compressed(store: BackupStore, key: str, keys: BackupKeys, *, most: int) -> bytes:
    """Read what `put_compressed` wrote.

    Args:
        most: bytes that it cannot have: a small object can be made to unpack to any size.
    Raises:
        ObjectMissing: there is none.
        IntegrityError: it is damaged, or encrypted to somebody else.
    """
    packed = keys.decrypt_bytes(retrying(lambda: store.get(key)))
    try:
        with zstandard.ZstdDecompressor().stream_reader(packed) as plain:
            data = plain.read(most + 1)
    except zstandard.ZstdError:
        raise IntegrityError(f"{key}: is not what was written (zstd); use another copy") from None
    if len(data) > most:
        raise IntegrityError(f"{key}: unpacks to more than {most} bytes; use another copy")
    return data


def matches(store: BackupStore, key: str, size: int, sha256: str) -> bool:
    """Say whether an object is there and is this one; read back only where its size fits."""
    found = retrying(lambda: store.find(key))
    if found is None or found.bytes != size:
        return False
    with retrying(lambda: store.open(key)) as reader:
        stored = HashingReader(cast(IO[bytes], reader))
        while stored.read(CHUNK):
            pass
    return stored.sha256 == sha256
