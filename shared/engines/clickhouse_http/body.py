"""The body of a request: unchunked, decompressed, in pieces, never whole in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from io import BufferedIOBase
from itertools import chain
from typing import Protocol, cast

import lz4.frame  # type: ignore[import-untyped]  # the wheel brings no types
import zstandard

from shared.engines.clickhouse_http.errors import (
    CANNOT_READ_ALL_DATA,
    INCORRECT_DATA,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    UNKNOWN_COMPRESSION_METHOD,
    ClickHouseError,
)

__all__ = ["Body", "form_fields", "raw_body"]

_PIECE = 1 << 18


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Body:
    """Bytes that arrive in pieces, of which the first so many can be looked at before the rest has come.

    Args:
        first: goes before what arrives.
        pieces: what arrives.
    """

    def __init__(self, first: bytes, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._first = first

    def peek(self, size: int) -> bytes:
        """At least `size` bytes from the beginning, or all when there are fewer. They stay."""
        if len(self._first) < size:
            parts, length = [self._first], len(self._first)
            for piece in self._pieces:
                parts.append(piece)
                length += len(piece)
                if length >= size:
                    break
            self._first = b"".join(parts)
        return self._first

    def rest(self, skip: int = 0) -> Iterator[bytes]:
        """Everything, but for the first `skip` bytes, which were peeked at."""
        return chain((self._first[skip:],), self._pieces)

    def whole(self, limit: int) -> bytes:
        """Everything.

        Raises:
            ClickHouseError: it is longer than `limit` bytes.
        """
        text = self.peek(limit + 1)
        if len(text) > limit:
            raise ClickHouseError(QUERY_IS_TOO_LARGE, f"The query is longer than {limit} bytes")
        return text


def raw_body(stream: BufferedIOBase, headers: Message) -> Iterator[bytes]:
    """What follows the headers of a request, without HTTP's chunking.

    Raises (while it is read):
        ClickHouseError: the connection ended before the body did.
    """
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        return _chunked(stream)
    return _exactly(stream, int(headers.get("Content-Length") or 0))


def decompressed(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Undo a Content-Encoding: gzip, deflate, zstd or lz4 (frames), or none.

    Raises:
        ClickHouseError: it is another one; or (while it is read) it does not decompress, or ends too early.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return pieces
    if encoding not in ("gzip", "deflate", "zstd", "lz4"):
        raise ClickHouseError(UNKNOWN_COMPRESSION_METHOD, f"Unknown Content-Encoding {encoding!r}; use lz4, zstd, gzip or none")
    return _decompressed(pieces, encoding)


def form_fields(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a multipart/form-data body, as clients send it when query parameters are too long for a URL.

    Raises:
        ClickHouseError: it carries files (external tables).
    """
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.walk():
        if part.is_multipart():
            continue
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        if part.get_filename() is not None or not isinstance(name, str) or not isinstance(value, bytes):
            raise ClickHouseError(NOT_IMPLEMENTED, "External tables are not implemented here; insert into a temporary table")
        fields[name] = value.decode()
    return fields


def _exactly(stream: BufferedIOBase, length: int) -> Iterator[bytes]:
    while length:
        piece = stream.read1(min(length, _PIECE))
        if not piece:
            raise ClickHouseError(CANNOT_READ_ALL_DATA, f"The request ended {length} bytes too early")
        length -= len(piece)
        yield piece


def _chunked(stream: BufferedIOBase) -> Iterator[bytes]:
    while True:
        try:
            length = int(stream.readline(1024).split(b";")[0], 16)
        except ValueError:
            raise ClickHouseError(CANNOT_READ_ALL_DATA, "The request ended before its last chunk") from None
        if length == 0:
            while stream.readline(65536).strip():
                continue  # trailers
            return
        yield from _exactly(stream, length)
        stream.readline(8)


def _new_decompressor(encoding: str) -> _Decompressor:
    if encoding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj()
    if encoding == "lz4":
        return cast(_Decompressor, lz4.frame.LZ4FrameDecompressor())
    return zlib.decompressobj(wbits=47 if encoding == "gzip" else 15)


def _decompressed(pieces: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decompressor = _new_decompressor(encoding)
    fresh = True
    for piece in pieces:
        data = piece
        while data:
            if decompressor.eof:
                decompressor, fresh = _new_decompressor(encoding), True
            try:
                plain = decompressor.decompress(data)
            except (zlib.error, zstandard.ZstdError, RuntimeError) as error:
                raise ClickHouseError(INCORRECT_DATA, f"The body is not {encoding}: {error}") from None
            fresh = False
            data = (decompressor.unused_data or b"") if decompressor.eof else b""
            if plain:
                yield plain
    if not decompressor.eof and not fresh:
        raise ClickHouseError(CANNOT_READ_ALL_DATA, f"The {encoding} body ended too early")
