"""Rules about ClickHouse, Redis, Postgres and MinIO, and about every image (facts: apps.md 3.3; railway.md 6)."""

from __future__ import annotations

from collections.abc import Iterator

from flows.upgrade.rules.langfuse import LEAST
from flows.upgrade.rules.rule import Change, named

__all__ = ["RULES"]

_LEAST_REDIS = 7
_WITHOUT_MD5 = (2025, 2, 3)
"""MinIO before this release deletes only what comes with an MD5 checksum."""
_CHECKSUM = "LANGFUSE_S3_DELETE_OBJECTS_CHECKSUM_ALGORITHM"


@named(
    "exact-version", "docs.railway.com/deployments/image-auto-updates: a redeployment may fetch another image of the same tag"
)
def exact(change: Change) -> Iterator[str]:
    """The new image is one finished release, so that the way back is known; Railway's Postgres has a major tag."""
    if change.service == "postgres":
        if change.new.major is None:
            yield f"the tag {change.new} names no version; give that of a major version, as :16"
        return
    if not change.new.is_exact:
        yield f"the tag {change.new.text or 'latest'} floats; give an exact one, as :1.2.3"
    elif change.new.is_preview:
        yield f"{change.new.text} is no finished release; take the newest stable one"


def _too_old_for_langfuse(change: Change) -> Iterator[str]:
    langfuse = change.facts.version("langfuse-web")
    least = LEAST.get(langfuse.major or 0, {}).get(change.service) if langfuse else None
    if least is not None and change.new.numbers and change.new.numbers < least:
        yield f"{change.new} is too old for Langfuse {langfuse}; expected {'.'.join(map(str, least))} or newer"


@named("clickhouse-langfuse", "langfuse.com/self-hosting/deployment/infrastructure/clickhouse", "clickhouse")
def clickhouse_for_langfuse(change: Change) -> Iterator[str]:
    """ClickHouse is as new as the Langfuse that runs wants it."""
    yield from _too_old_for_langfuse(change)


@named("clickhouse-back", "clickhouse.com/docs/operations/update: downgrades", "clickhouse")
def clickhouse_back(change: Change) -> Iterator[str]:
    """ClickHouse does not go back to an older line, which may not read the parts that the newer one wrote."""
    if change.is_back and change.new.line != change.old.line:
        yield f"{change.new} may not read what {change.old} has written; deploy it empty and restore a set into it"


@named("redis-version", "langfuse.com/self-hosting/deployment/infrastructure/cache; docs.litellm.ai/docs/proxy/prod", "redis")
def redis_version(change: Change) -> Iterator[str]:
    """Redis is at least 7."""
    if (change.new.major or 0) < _LEAST_REDIS:
        yield f"{change.new} is too old; Langfuse and LiteLLM expect Redis {_LEAST_REDIS} or newer"


@named("redis-back", "redis/redis#14064, #13007: Can't handle RDB format version", "redis")
def redis_back(change: Change) -> Iterator[str]:
    """Redis does not go back to an older line, which does not read the newer one's file and does not start."""
    if change.is_back and change.new.line != change.old.line:
        yield f"{change.new} does not read the file of {change.old}; let the queues drain and start it on an empty volume"


@named("postgres-in-place", "postgresql.org/docs/current/upgrading: the folder of another major version is refused", "postgres")
def postgres_in_place(change: Change) -> Iterator[str]:
    """Postgres keeps its major version on its volume; another one gets its own, by dump and restore."""
    if None not in (change.old.major, change.new.major) and change.old.major != change.new.major:
        way = "there is no way back but a set from before" if change.is_back else "use upgrade/postgres, which moves the data"
        yield f"{change.new.major} does not start on the volume of {change.old.major}; {way}"


@named("postgres-langfuse", "langfuse.com/self-hosting/upgrade/upgrade-guides/upgrade-v3-to-v4", "postgres")
def postgres_for_langfuse(change: Change) -> Iterator[str]:
    """Postgres is as new as the Langfuse that runs wants it."""
    yield from _too_old_for_langfuse(change)


@named("minio-back", "min.io/docs: an older release may not read what a newer one has written", "minio")
def minio_back(change: Change) -> Iterator[str]:
    """MinIO does not go back to an older release."""
    if change.is_back:
        yield f"{change.new} is older than {change.old}, which has written the volume; start the older one on an empty volume"


@named(
    "minio-checksum",
    "langfuse.com/self-hosting/deployment/infrastructure/blobstorage: MinIO before RELEASE.2025-02-03",
    "minio",
)
def minio_checksum(change: Change) -> Iterator[str]:
    """Langfuse can delete objects: a MinIO before February 2025 wants MD5 checksums with that."""
    old = change.new.numbers and change.new.numbers < _WITHOUT_MD5
    for service in ("langfuse-web", "langfuse-worker"):
        if old and change.facts.variable(service, _CHECKSUM).upper() != "MD5":
            yield f"{service} could not delete objects in {change.new}; set {_CHECKSUM}=MD5 there first"


@named(
    "prefect-forward",
    "prefect: PREFECT_SERVER_DATABASE_MIGRATE_ON_START migrates its database, forwards only",
    "prefect-server",
)
def prefect_forward(change: Change) -> Iterator[str]:
    """The Prefect server goes forward within its major version: an older one does not know the database of a newer one."""
    if change.is_back:
        yield f"{change.new} does not start on the database of {change.old}; put back the volume of that time with it"
    elif None not in (change.old.major, change.new.major) and change.new.major != change.old.major:
        yield f"{change.new} is another major version than {change.old}, not tried; take the newest of {change.old.major}"


RULES = (
    exact,
    clickhouse_for_langfuse,
    clickhouse_back,
    redis_version,
    redis_back,
    postgres_in_place,
    postgres_for_langfuse,
    minio_back,
    minio_checksum,
    prefect_forward,
)
