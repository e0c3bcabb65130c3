"""Buckets: a definition in the project, and an instance with credentials of its own in an environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.model import Bucket, BucketInstance, Environment, Project
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.stored import new_id

__all__ = ["add_bucket_instance", "check_region", "create_bucket", "credentials_view", "find_instance", "renew_credentials"]

_REGIONS = ("sjc", "iad", "ams", "sin")


def create_bucket(platform: Platform, project: Project, name: str | None) -> Bucket:
    """Define a bucket; there is none yet in any environment."""
    bucket = Bucket(name=name or f"bucket-{len(project.buckets) + 1}", project_id=project.id, created_at=platform.clock.now())
    project.buckets[bucket.id] = bucket
    return bucket


def check_region(environment: Environment, bucket_id: str, region: str | None) -> None:
    """Whether a bucket can be there.

    Raises:
        ApiError: there is no such region, or it is to change: that is fixed.
    """
    known = environment.buckets.get(bucket_id)
    if region not in _REGIONS:
        raise ApiError(f"Bucket region must be one of {', '.join(_REGIONS)}")
    if known is not None and known.region != region:
        raise ApiError("Bucket region cannot be changed")


def add_bucket_instance(platform: Platform, environment: Environment, bucket: Bucket, region: str) -> None:
    """Make the bucket in an environment, unless it is there."""
    if bucket.id in environment.buckets:
        return
    made = platform.buckets.create(f"{bucket.name}-{new_id()[:8]}")
    environment.buckets[bucket.id] = BucketInstance(
        bucket_id=bucket.id, region=region, credentials=made, created_at=platform.clock.now()
    )


def find_instance(environment: Environment, bucket_id: str) -> BucketInstance:
    """A bucket in an environment.

    Raises:
        ApiError: it is only defined, and not there.
    """
    found = environment.buckets.get(bucket_id)
    if found is None:
        raise ApiError("Bucket is not deployed to this environment")
    return found


def renew_credentials(platform: Platform, instance: BucketInstance) -> None:
    """New credentials for the same bucket; the old ones are worth nothing any more."""
    instance.credentials = {**instance.credentials, **platform.buckets.renew(instance.credentials["BUCKET"])}
    instance.updated_at = platform.clock.now()


def credentials_view(platform: Platform, instance: BucketInstance) -> View:
    """The credentials as the API shows them."""
    values: Mapping[str, Any] = instance.credentials
    return {
        "accessKeyId": values["ACCESS_KEY_ID"],
        "bucketName": values["BUCKET"],
        "createdAt": instance.created_at,
        "endpoint": values["ENDPOINT"],
        "region": values["REGION"],
        "secretAccessKey": values["SECRET_ACCESS_KEY"],
        "urlStyle": platform.buckets.url_style,
    }
