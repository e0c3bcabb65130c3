"""Where the buckets of the platform are: nowhere, or in an S3 server of the sandbox."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal, Protocol

from shared.sandbox.railway_api.access import ApiError

if TYPE_CHECKING:
    from shared.engines.object_store import S3Engine

__all__ = ["BucketHost", "EngineBuckets", "NamedBuckets"]


class BucketHost(Protocol):
    """Makes buckets. Credentials are BUCKET, ENDPOINT, REGION, ACCESS_KEY_ID and SECRET_ACCESS_KEY."""

    @property
    def url_style(self) -> str:
        """`virtual` or `path`."""
        ...

    def create(self, name: str) -> dict[str, str]:
        """Make a bucket of that name."""
        ...

    def renew(self, name: str) -> dict[str, str]:
        """New keys in the place of the old ones."""
        ...

    def usage(self, name: str) -> tuple[int, int]:
        """Bytes and objects in it."""
        ...


class NamedBuckets:
    """Buckets that have names and keys, and are nowhere: enough for whoever only configures services."""

    url_style = "virtual"

    def create(self, name: str) -> dict[str, str]:
        """Make up credentials."""
        place = {"BUCKET": name, "ENDPOINT": "https://storage.railway.app", "REGION": "auto"}
        return {**place, **self.renew(name)}

    def renew(self, name: str) -> dict[str, str]:
        """Make up other keys."""
        return {"ACCESS_KEY_ID": f"tid_{secrets.token_hex(8)}", "SECRET_ACCESS_KEY": f"tsec_{secrets.token_hex(16)}"}

    def usage(self, name: str) -> tuple[int, int]:
        """Nothing was ever put there."""
        return 0, 0


class EngineBuckets:
    """Buckets in a running S3 server; its administrator's keys open all of them, and stay.

    Args:
        engine: started by whoever made it.
    """

    url_style: Literal["path"] = "path"

    def __init__(self, engine: S3Engine) -> None:
        self._engine = engine

    def create(self, name: str) -> dict[str, str]:
        """Make a bucket there."""
        self._engine.create_bucket(name)
        return {
            "BUCKET": name,
            "ENDPOINT": self._engine.endpoint_url,
            "REGION": self._engine.region,
            "ACCESS_KEY_ID": self._engine.access_key,
            "SECRET_ACCESS_KEY": self._engine.secret_key,
        }

    def renew(self, name: str) -> dict[str, str]:
        """Not possible with one key for all.

        Raises:
            ApiError: always.
        """
        raise ApiError(f"The keys of {name} are the server's own and cannot be renewed")

    def usage(self, name: str) -> tuple[int, int]:
        """Bytes and objects in it, counted."""
        import boto3  # takes half a second, and few ask
        from botocore.config import Config

        client = boto3.client(
            "s3",
            endpoint_url=self._engine.endpoint_url,
            region_name=self._engine.region,
            aws_access_key_id=self._engine.access_key,
            aws_secret_access_key=self._engine.secret_key,
            config=Config(s3={"addressing_style": self.url_style}, connect_timeout=2, read_timeout=10),
        )
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
            sizes = [one["Size"] for page in pages for one in page.get("Contents", [])]
        finally:
            client.close()
        return sum(sizes), len(sizes)
