"""How S3 servers are spoken to: where the bucket is, and a client that AWS, MinIO, SeaweedFS and Railway's buckets accept.

Buckets in the path of URLs unless asked otherwise (see `bucket_url`), and checksums only where the operation requires them:
botocore's default trailing checksums since 1.36 are refused by older S3-compatible servers (facts: Barman's documentation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.config import Config
from prefect_aws import AwsCredentials, MinIOCredentials, S3Bucket
from prefect_aws.client_parameters import AwsClientParameters
from pydantic import SecretStr

from blocks.bucket_url import UrlStyle
from blocks.errors import SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["make_client", "s3_bucket", "style_of"]

CLIENT_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 5},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    s3={"addressing_style": "path"},
    max_pool_connections=32,
)


def s3_bucket(
    endpoint: str | None, access_key: str, secret_key: SecretStr, bucket: str, region: str, style: UrlStyle = "path"
) -> S3Bucket:
    """Build prefect-aws's bucket block for an S3-compatible server, or for AWS itself when `endpoint` is None.

    Args:
        style: where the bucket stands in URLs.
    """
    config = None if style == "path" else {"s3": {"addressing_style": style}}
    parameters = AwsClientParameters(endpoint_url=endpoint, config=config)
    credentials: MinIOCredentials | AwsCredentials
    if endpoint:
        credentials = MinIOCredentials(
            minio_root_user=access_key,
            minio_root_password=secret_key,
            region_name=region,
            aws_client_parameters=parameters,
        )
    else:
        credentials = AwsCredentials(
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name=region,
            aws_client_parameters=parameters,
        )
    return S3Bucket(bucket_name=bucket, credentials=credentials)


def make_client(bucket: S3Bucket) -> S3Client:
    """Make the S3 client for a bucket block; what the block's own client parameters say wins over `CLIENT_CONFIG`."""
    parameters = bucket.credentials.aws_client_parameters.get_params_override()
    own: Config | None = parameters.pop("config", None)
    config = CLIENT_CONFIG.merge(own) if own else CLIENT_CONFIG
    session = bucket.credentials.get_boto3_session()
    try:
        client: S3Client = session.client("s3", config=config, **parameters)
    except ValueError:
        raise SettingsError("store: the endpoint is not a URL; expected http(s)://host[:port], as in MINIO_ENDPOINT") from None
    return client


def style_of(bucket: S3Bucket) -> UrlStyle:
    """Say where a bucket stands in URLs, as `s3_bucket` was told."""
    own: Config | None = bucket.credentials.aws_client_parameters.get_params_override().get("config")
    chosen = (getattr(own, "s3", None) or {}).get("addressing_style", "path")
    return "path" if chosen == "path" else "virtual"
