"""The same store seen through another address, or by a client with other patience."""

from __future__ import annotations

from typing import Any

from prefect_aws import MinIOCredentials

from blocks.object_store import BackupStore

ONE_TRY = {"retries": {"mode": "standard", "total_max_attempts": 1}}
"""For outages: botocore's own retries would take longer than the test."""


def seen_through(store: BackupStore, *, url: str | None = None, config: dict[str, Any] | None = None) -> BackupStore:
    """Return the store at another URL, or with other options of botocore's Config.

    Args:
        store: on an S3-compatible server. url: default its own. config: overrides what the project sets.
    """
    credentials = store.bucket.credentials
    assert isinstance(credentials, MinIOCredentials)
    parameters = credentials.aws_client_parameters.model_copy(update={"endpoint_url": url or store.endpoint, "config": config})
    other = credentials.model_copy(update={"aws_client_parameters": parameters})
    return BackupStore(bucket=store.bucket.model_copy(update={"credentials": other}), prefix=store.prefix, stack=store.stack)
