"""Builds the stack: starter (seven services) or production (nine), Langfuse 3 or 4, its own S3 service or Railway's buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from railway.services import databases, images, langfuse, litellm, objects, prefect
from railway.stack import PRODUCTION, SERVICES, STARTER, LangfuseMajor, ObjectStore, Service, Stack, Variant

__all__ = ["build"]


@dataclass(frozen=True)
class _Sizes:
    """Gigabytes of the volumes. The starter's are what Railway's Hobby plan has."""

    postgres: int
    clickhouse: int
    redis: int
    minio: int
    prefect: int


_SIZES: Mapping[Variant, _Sizes] = {"starter": _Sizes(5, 5, 1, 5, 0), "production": _Sizes(20, 50, 5, 50, 5)}


def build(
    variant: Variant = "production",
    *,
    langfuse_major: LangfuseMajor = 3,
    object_store: ObjectStore = "minio",
    images: Mapping[str, str] | None = None,
    name: str = "stack",
) -> Stack:
    """Build a stack. Whether it can work is another question, which `railway/rules.py` answers.

    Args:
        variant: starter without, production with the two Prefect services.
        langfuse_major: of Langfuse. object_store: where objects and backups are.
        images: other images than the default ones, by service; the worker's has no default that can be pulled.
        name: `STACK_NAME`.
    Raises:
        ValueError: `images` names a service that this stack has not.
    """
    services = {service.name: service for service in _services(variant, langfuse_major, object_store, images or {}, name)}
    if strange := sorted((images or {}).keys() - services.keys()):
        raise ValueError(f"stack: an image is given for {strange[0]}, which it has not; its services: {', '.join(services)}")
    buckets = [objects.EVENTS, objects.BACKUPS] if variant == "production" else [objects.EVENTS]
    return Stack(variant, langfuse_major, object_store, services, tuple(buckets) if object_store == "bucket" else (), name)


def _services(
    variant: Variant, major: LangfuseMajor, store: ObjectStore, given: Mapping[str, str], name: str
) -> Iterator[Service]:
    image = {**images.defaults(major), **given}
    sizes = _SIZES[variant]
    events, backups = objects.bucket(store, objects.EVENTS), objects.bucket(store, objects.BACKUPS)
    wanted = PRODUCTION if variant == "production" else STARTER
    present = frozenset(wanted) - ({"minio"} if store == "bucket" else set())
    needs = tuple(one for one in SERVICES["langfuse-web"].needs if one in present)
    made = (
        databases.postgres(image["postgres"], sizes.postgres),
        databases.clickhouse(image["clickhouse"], sizes.clickhouse),
        databases.redis(image["redis"], sizes.redis),
        objects.minio(image["minio"], sizes.minio),
        litellm.litellm(image["litellm"], major),
        langfuse.web(image["langfuse-web"], major, events, needs),
        langfuse.worker(image["langfuse-worker"], major, events, needs),
        prefect.server(image["prefect-server"], sizes.prefect),
        prefect.worker(image["prefect-worker"], stack=name, events=events, backups=backups, postgres_gigabytes=sizes.postgres),
    )
    yield from (service for service in made if service.name in present)
