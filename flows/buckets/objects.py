"""Single objects put, copied and compared with their content type and metadata, and only where nobody else has written."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from blocks.errors import ConditionFailed, ObjectMissing, StoreError
from blocks.object_bucket import Listed, ObjectBucket
from blocks.object_fetch import Fetched, ObjectFetcher
from blocks.s3_errors import S3_ERRORS, translate
from flows.backup.pipes import CHUNK
from flows.buckets.streams import ObjectStream

__all__ = ["SPOOL", "content_sha256", "copied_by_server", "fetched", "put_object", "remove_object"]

SPOOL = 8 * 1024 * 1024
"""Bytes of an object that are held in memory; larger ones go through a temporary file."""
_PART = 16 * 1024 * 1024
_ONE_REQUEST = 2 * _PART
_MAX_PARTS = 9_000
_MAX_COPY = 5 * 1024**3
_ERRORS = (*S3_ERRORS, OSError)


def put_object(
    bucket: ObjectBucket,
    key: str,
    source: IO[bytes],
    size: int,
    kind: str,
    meta: Mapping[str, str],
    *,
    if_etag: str | None = None,
    if_absent: bool = False,
) -> None:
    """Put an object of known size, in constant memory.

    Args:
        bucket, key: where to. source: can be read again from its start. size: in bytes.
        kind: content type, empty for the server's default. meta: user metadata.
        if_etag: only while the object has this ETag. if_absent: only while there is none.
    Raises:
        ConditionFailed: the condition did not hold.
        StoreError: anything else; nothing was put.
    """
    about: dict[str, Any] = {"ContentType": kind} if kind else {}
    about["Metadata"] = {name: value for name, value in meta.items() if value.isascii()}  # S3 takes no other
    condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
    if if_etag is not None:
        condition["IfMatch"] = if_etag
    source.seek(0)
    try:
        if size <= _ONE_REQUEST:
            bucket.client.put_object(Bucket=bucket.name, Key=key, Body=source, ContentLength=size, **about, **condition)
        else:
            _in_parts(bucket, key, source, size, about, condition)
    except _ERRORS as error:
        raise translate(error, f"write {bucket.name}/{key}") from None


def _in_parts(
    bucket: ObjectBucket, key: str, source: IO[bytes], size: int, about: dict[str, Any], condition: dict[str, Any]
) -> None:
    target: dict[str, Any] = {"Bucket": bucket.name, "Key": key}
    upload = bucket.client.create_multipart_upload(**target, **about)["UploadId"]
    try:
        parts: list[Any] = []
        while data := source.read(max(_PART, size // _MAX_PARTS)):
            number = len(parts) + 1
            answer = bucket.client.upload_part(**target, UploadId=upload, PartNumber=number, Body=data)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        bucket.client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)
    except BaseException:
        with suppress(*S3_ERRORS):  # a store that is gone fails here too; why it began is what counts
            bucket.client.abort_multipart_upload(**target, UploadId=upload)
        raise


@contextmanager
def fetched(fetcher: ObjectFetcher, key: str) -> Iterator[tuple[Fetched, IO[bytes], str]]:
    """Read an object whole, into memory or a temporary file.

    Returns: what it is, its bytes as a file at its start, and their SHA-256.
    Raises:
        ObjectMissing: there is none.
    """
    with tempfile.SpooledTemporaryFile(SPOOL) as file, ObjectStream(fetcher, key) as stream:
        digest = _through(stream, cast(IO[bytes], file))
        file.seek(0)
        yield stream.about, cast(IO[bytes], file), digest


def content_sha256(fetcher: ObjectFetcher, key: str) -> str:
    """Read an object and return the SHA-256 of its bytes; empty when there is none."""
    try:
        with ObjectStream(fetcher, key) as stream:
            return _through(stream, None)
    except ObjectMissing:
        return ""


def _through(stream: ObjectStream, target: IO[bytes] | None) -> str:
    digest = hashlib.sha256()
    while data := stream.read(CHUNK):
        digest.update(data)
        if target is not None:
            target.write(data)
    return digest.hexdigest()


def copied_by_server(source: ObjectBucket, item: Listed, target: ObjectBucket, key: str) -> bool:
    """Have the server copy an object, type and metadata too, if it is the same one and allows us to.

    Args:
        item: as it must still be.
    Returns: whether it did; when not, nothing was copied.
    Raises:
        ConditionFailed: the object is another one by now.
    """
    if source.endpoint != target.endpoint or item.bytes > _MAX_COPY:
        return False
    try:
        target.client.copy_object(
            Bucket=target.name,
            Key=key,
            CopySource={"Bucket": source.name, "Key": item.key},
            CopySourceIfMatch=item.etag,
        )
    except _ERRORS as error:
        translated = translate(error, f"copy {source.name}/{item.key}")
        if isinstance(translated, ConditionFailed):
            raise translated from None
        return False  # refused, not there for these credentials, or not implemented: it goes through us, which tells why not
    return True


def remove_object(bucket: ObjectBucket, key: str, etag: str) -> None:
    """Delete an object, on servers that know the condition only while it still has this ETag.

    Raises:
        ConditionFailed: it is another one by now.
    """
    try:
        bucket.client.delete_object(Bucket=bucket.name, Key=key, IfMatch=etag)
    except _ERRORS as error:
        translated: StoreError = translate(error, f"delete {bucket.name}/{key}")
        if not isinstance(translated, ObjectMissing):
            raise translated from None
