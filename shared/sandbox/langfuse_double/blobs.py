"""The event bucket: every event is stored there before it is queued."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
from anyio import to_thread
from botocore.config import Config

from shared.sandbox.langfuse_double.configuration import Stores

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Blobs"]


class Blobs:
    """JSON objects in one bucket; boto3 in threads."""

    def __init__(self, stores: Stores) -> None:
        self._bucket = stores.s3_bucket
        self._client: S3Client = boto3.client(
            "s3",
            endpoint_url=stores.s3_endpoint,
            region_name=stores.s3_region,
            aws_access_key_id=stores.s3_access_key,
            aws_secret_access_key=stores.s3_secret_key,
            config=Config(
                retries={"total_max_attempts": 2}, s3={"addressing_style": "path"}, connect_timeout=2, read_timeout=5
            ),
        )

    async def put(self, key: str, value: object) -> None:
        """Store a value as JSON.

        Raises:
            botocore.exceptions.BotoCoreError, ClientError: it is not stored.
        """
        body = json.dumps(value, ensure_ascii=False).encode()
        await to_thread.run_sync(
            lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType="application/json")
        )

    async def get(self, key: str) -> Any:
        """Read a value.

        Raises:
            botocore.exceptions.BotoCoreError, ClientError: it is not there, or not to be had.
        """
        return json.loads(await to_thread.run_sync(self._get, key))

    async def below(self, prefix: str) -> list[Any]:
        """Read all values whose keys begin so, in the order of their keys.

        Raises: as `get`.
        """
        return [await self.get(key) for key in await to_thread.run_sync(self._list, prefix)]

    def _get(self, key: str) -> bytes:
        return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()

    def _list(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]
