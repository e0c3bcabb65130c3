"""Where objects are: the stack's own S3 service, or buckets of Railway's."""

from __future__ import annotations

from dataclasses import dataclass

from railway.stack import SERVICES, Health, Limits, Literal, ObjectStore, Reference, Secret, SecretKind, Service, Value, Volume

__all__ = ["BACKUPS", "EVENTS", "Bucket", "bucket", "minio"]

EVENTS, BACKUPS = "langfuse", "backups"
"""The buckets: Langfuse's events and media, and the backups. Both private."""


@dataclass(frozen=True)
class Bucket:
    """How to reach one bucket, as variables of whoever does.

    Attributes:
        name: of the bucket in S3, which Railway chooses where it is Railway's.
        endpoint, region, access_key, secret_key: as of S3.
        path_style: whether the bucket stands in the path of URLs. public: whether browsers reach the endpoint.
    """

    name: Value
    endpoint: Value
    region: Value
    access_key: Value
    secret_key: Value
    path_style: bool
    public: bool


def bucket(store: ObjectStore, name: str) -> Bucket:
    """Say how to reach a bucket.

    Args:
        store: where it is. name: EVENTS or BACKUPS.
    """
    if store == "bucket":
        return Bucket(
            name=Reference(f"${{{{{name}.BUCKET}}}}"),
            endpoint=Reference(f"${{{{{name}.ENDPOINT}}}}"),
            region=Reference(f"${{{{{name}.REGION}}}}"),
            access_key=Reference(f"${{{{{name}.ACCESS_KEY_ID}}}}"),
            secret_key=Reference(f"${{{{{name}.SECRET_ACCESS_KEY}}}}"),
            path_style=False,
            public=True,
        )
    return Bucket(
        name=Literal(name),
        endpoint=Reference("http://${{minio.RAILWAY_PRIVATE_DOMAIN}}:9000"),
        region=Literal("us-east-1"),
        access_key=Reference("${{minio.MINIO_ROOT_USER}}"),
        secret_key=Reference("${{minio.MINIO_ROOT_PASSWORD}}"),
        path_style=True,
        public=False,
    )


def minio(image: str, gigabytes: int) -> Service:
    """An S3 service of the stack's own.

    Args:
        image: with tag. gigabytes: of the volume.
    """
    about = (
        "Langfuse's events and media, and the backups, in private buckets. Frozen software: everybody who has its keys can do "
        "everything; buckets of Railway's or of another provider are the better choice for what is new."
    )
    return Service(
        name="minio",
        title=SERVICES["minio"].title,
        image=image,
        port=9000,
        health=Health("/minio/health/ready"),
        volume=Volume("/data", gigabytes),
        variables={
            "MINIO_ROOT_USER": Literal("stack"),
            "MINIO_ROOT_PASSWORD": Secret(SecretKind.PASSWORD),
            "MINIO_BROWSER": Literal("off"),
            "MINIO_UPDATE": Literal("off"),
            "PORT": Literal("9000"),
        },
        limits=Limits(2, 4),
        draining_seconds=30,
        start_command="minio server /data --address :9000",
        about=about,
        documents=("https://langfuse.com/self-hosting/deployment/infrastructure/blobstorage",),
    )
