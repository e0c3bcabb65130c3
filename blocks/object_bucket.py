"""One S3 bucket: what is read, written and listed there, in ways that AWS, MinIO, SeaweedFS and Railway's buckets accept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from prefect.blocks.core import Block
from prefect_aws import MinIOCredentials, S3Bucket
from pydantic import Field, SecretStr

from blocks.bucket_url import UrlStyle, bucket_url
from blocks.errors import ObjectMissing, StoreError
from blocks.object_reader import ObjectReader
from blocks.s3_connection import make_client, s3_bucket, style_of
from blocks.s3_errors import S3_ERRORS, translate
from blocks.upload import MIB, upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Listed", "ObjectBucket", "Upload", "make_client", "s3_bucket"]

MAX_PARTS = 10_000
"""S3 allows this many parts in one multipart upload."""


@dataclass(frozen=True)
class Listed:
    """One object as a listing shows it."""

    key: str
    bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class Upload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    begun: datetime


class ObjectBucket(Block):
    """An S3 bucket and how to speak to it: the base of the blocks that say what is in one.

    Attributes:
        bucket: the bucket and its credentials (prefect-aws).
        region: for tools that need to be told.
        part_size_mib: size of a multipart part, MiB; grows by itself for what would not fit into 10,000 parts.
        concurrency: parts in flight at once; memory is about `part_size_mib` times `concurrency + 2`.
    """

    _block_type_name = "Object Bucket"
    _block_type_slug = "object-bucket"

    bucket: S3Bucket = Field(description="Bucket and credentials")
    region: str = Field(default="us-east-1", description="Region, for tools that need to be told")
    part_size_mib: int = Field(default=8, ge=5, le=1024, description="Multipart part size, MiB")
    concurrency: int = Field(default=3, ge=1, le=32, description="Parts in flight at once")

    @property
    def name(self) -> str:
        """The bucket's name."""
        return str(self.bucket.bucket_name)

    @cached_property
    def client(self) -> S3Client:
        """The S3 client, made once; boto3 clients may be shared between threads."""
        return make_client(self.bucket)

    @property
    def endpoint(self) -> str | None:
        """URL of the S3 server, None for AWS."""
        url: str | None = self.bucket.credentials.aws_client_parameters.endpoint_url
        return url

    @property
    def style(self) -> UrlStyle:
        """Where the bucket stands in URLs."""
        return style_of(self.bucket)

    def url(self, endpoint: str | None = None) -> str:
        """URL of the bucket, without slash at its end.

        Args:
            endpoint: URL of the server as somebody else reaches it; default as this block does.
        """
        return bucket_url(endpoint or self.endpoint or f"https://s3.{self.region}.amazonaws.com", self.name, self.style)

    @property
    def access_key(self) -> str:
        """Access key id (not a secret)."""
        credentials = self.bucket.credentials
        if isinstance(credentials, MinIOCredentials):
            return str(credentials.minio_root_user)
        return str(credentials.aws_access_key_id or "")

    @property
    def secret_key(self) -> SecretStr:
        """Secret access key."""
        credentials = self.bucket.credentials
        if isinstance(credentials, MinIOCredentials):
            secret: SecretStr | None = credentials.minio_root_password
        else:
            secret = credentials.aws_secret_access_key
        return secret or SecretStr("")

    def write_options(self) -> dict[str, Any]:
        """Return what every write asks of the server besides, as boto3 names it; nothing here."""
        return {}

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_etag: str | None = None) -> str:
        """Store a small object in one request.

        Args:
            key: full key. data: its bytes.
            if_absent: only when the key does not exist. if_etag: only when the object still has this ETag.
        Returns: the new ETag.
        Raises:
            ConditionFailed: the condition did not hold.
            StoreError: anything else.
        """
        options = self.write_options() | ({"IfNoneMatch": "*"} if if_absent else {})
        if if_etag is not None:
            options["IfMatch"] = if_etag or '""'  # an empty header would be no condition
        try:
            return self.client.put_object(Bucket=self.name, Key=key, Body=data, **options)["ETag"]
        except S3_ERRORS as error:
            raise translate(error, f"write {key}") from None

    def put_stream(self, key: str, source: IO[bytes], *, expected_bytes: int = 0) -> None:
        """Store everything `source` yields, as a multipart upload with bounded memory.

        Args:
            key: full key.
            source: read to its end; when it raises, the upload is aborted and no object appears.
            expected_bytes: a guess of the size, so that parts are large enough for 10,000 of them.
        Raises:
            StoreError: the store failed; nothing was stored under the key.
        """
        part = max(self.part_size_mib * MIB, expected_bytes // (MAX_PARTS - 1000))
        try:
            upload(self.client, self.name, key, source, part=part, concurrency=self.concurrency, options=self.write_options())
        except S3_ERRORS as error:
            raise translate(error, f"write {key}") from None

    def open(self, key: str) -> ObjectReader:
        """Open an object for reading from start to end.

        Raises:
            ObjectMissing: there is none.
        """
        return ObjectReader(self, key)

    def get(self, key: str) -> bytes:
        """Read a small object whole."""
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Read a small object whole, with the ETag for a conditional write."""
        try:
            answer = self.client.get_object(Bucket=self.bucket.bucket_name, Key=key)
            return answer["Body"].read(), answer["ETag"]
        except (*S3_ERRORS, OSError) as error:
            raise translate(error, f"read {key}") from None

    def find(self, key: str) -> Listed | None:
        """Return size and ETag of an object, None when there is none."""
        try:
            head = self.client.head_object(Bucket=self.bucket.bucket_name, Key=key)
        except S3_ERRORS as error:
            translated = translate(error, f"look at {key}")
            if isinstance(translated, ObjectMissing):
                return None
            raise translated from None
        return Listed(key, head["ContentLength"], head["ETag"], head["LastModified"])

    def etag_is_md5(self, key: str) -> bool:
        """Say whether the ETag of an object stored in one request is the MD5 of its bytes: not where KMS encrypts it."""
        try:
            head = self.client.head_object(Bucket=self.bucket.bucket_name, Key=key)
        except S3_ERRORS as error:
            raise translate(error, f"look at {key}") from None
        return head.get("ServerSideEncryption", "AES256") == "AES256" and "SSECustomerAlgorithm" not in head

    def list(self, prefix: str) -> Iterator[Listed]:
        """Yield every object below a prefix, in the order the store gives them."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.bucket_name, Prefix=prefix)
        try:
            for page in pages:
                for item in page.get("Contents", []):
                    yield Listed(item["Key"], item["Size"], item["ETag"], item["LastModified"])
        except S3_ERRORS as error:
            raise translate(error, f"list {prefix}") from None

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below a prefix that have objects below them, without slash."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket.bucket_name, Prefix=prefix, Delimiter="/"
        )
        try:
            for page in pages:
                for item in page.get("CommonPrefixes", []):
                    yield item["Prefix"].removeprefix(prefix).rstrip("/")
        except S3_ERRORS as error:
            raise translate(error, f"list {prefix}") from None

    def remove(self, keys: Iterable[str]) -> int:
        """Delete objects, one request each: the batch call needs a Content-MD5 or a CRC depending on the server.

        Returns: how many were deleted. Deleting what is not there is no error.
        """

        def one(key: str) -> None:
            try:
                self.client.delete_object(Bucket=self.bucket.bucket_name, Key=key)
            except S3_ERRORS as error:
                raise translate(error, f"delete {key}") from None

        with ThreadPoolExecutor(max_workers=8, thread_name_prefix="delete") as pool:
            return sum(1 for _ in pool.map(one, keys))

    def uploads(self, prefix: str) -> Iterator[Upload]:
        """Yield unfinished multipart uploads below a prefix.

        MinIO shows none here (it lists by whole keys only), and removes stale ones itself after a day.
        """
        pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket.bucket_name, Prefix=prefix)
        try:
            for page in pages:
                for item in page.get("Uploads", []):
                    yield Upload(item["Key"], item["UploadId"], item["Initiated"])
        except S3_ERRORS as error:
            raise translate(error, f"list unfinished uploads below {prefix}") from None

    def abort(self, upload: Upload) -> None:
        """Give up an unfinished multipart upload and free its parts."""
        try:
            self.client.abort_multipart_upload(Bucket=self.bucket.bucket_name, Key=upload.key, UploadId=upload.upload_id)
        except S3_ERRORS as error:
            translated = translate(error, f"abort the upload of {upload.key}")
            if not isinstance(translated, ObjectMissing):
                raise translated from None

    def now(self) -> datetime:
        """Return the store's own clock, so that workers with skewed clocks agree about a lease's end."""
        try:
            answer = self.client.head_bucket(Bucket=self.bucket.bucket_name)
        except S3_ERRORS as error:
            raise translate(error, "ask for the time") from None
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date is None:
            raise StoreError("store: its answers carry no Date, which the stack's lock is timed by", permanent=True)
        return parsedate_to_datetime(date)
