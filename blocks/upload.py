"""A stream of unknown length as one multipart upload, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, cast

from boto3.s3.transfer import TransferConfig, create_transfer_manager

from blocks.errors import StoreError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from s3transfer.futures import TransferFuture

MIB = 1024 * 1024


def upload(
    client: S3Client,
    bucket: str,
    key: str,
    source: IO[bytes],
    *,
    part: int,
    concurrency: int,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Store everything `source` yields; when it raises, the upload is aborted and no object appears.

    Args:
        client, bucket, key: where to.
        source: read to its end, from another thread.
        part: bytes of a part. concurrency: parts in flight at once.
        options: what else is asked of the server, as boto3's ExtraArgs.
    Raises: what `source` raised, or what botocore raised.
    """
    config = TransferConfig(
        multipart_threshold=part,
        multipart_chunksize=part,
        max_concurrency=concurrency,
        preferred_transfer_client="classic",
    )
    config.max_in_memory_upload_chunks = concurrency + 1  # s3transfer's default of 10 parts would be most of our memory
    reader = _Source(source)
    with create_transfer_manager(client, config) as manager:
        reader.upload = manager.upload(fileobj=cast(IO[bytes], reader), bucket=bucket, key=key, extra_args=dict(options or {}))
        reader.upload.result()


class _Source:
    """Hands s3transfer as many bytes as it asks for, and stops it where it would only waste them.

    A short read would make a part too small for S3. After a part has failed for good, s3transfer goes on to read its source to
    the end before it says so, which for a dump can take hours.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.upload: TransferFuture | None = None

    def read(self, size: int = -1) -> bytes:
        """Read exactly `size` bytes, fewer only at the end; all that is left when `size` is negative."""
        pieces: list[bytes] = []
        missing = size
        while size < 0 or missing > 0:
            if self.upload is not None and self.upload.done():
                raise StoreError("store: the upload has failed already")  # nobody sees it: the first error counts
            piece = self._source.read(MIB if size < 0 else missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
