"""Postgres, ClickHouse and Redis. None of them has a public address; each has a volume, so one deployment ends before the next.

All three images listen on IPv4 and IPv6 by themselves.
"""

from __future__ import annotations

from pathlib import Path

from railway.stack import SERVICES, Health, Limits, Literal, Reference, Secret, SecretKind, Service, Volume

__all__ = ["CLICKHOUSE_USER", "LANGFUSE_DATABASE", "LITELLM_DATABASE", "clickhouse", "postgres", "redis"]

LITELLM_DATABASE, LANGFUSE_DATABASE = "litellm", "langfuse"
"""Postgres databases, each owned by a role of its name (ClickHouse's is called as Langfuse's, too)."""
CLICKHOUSE_USER = "stack"

_PASSWORD = Secret(SecretKind.PASSWORD)
_CONFIGURATION = Path(__file__).resolve().parents[1] / "clickhouse"

# The image's entrypoint starts as root, gives the data to ClickHouse's user and lets go of root; so may this.
_CLICKHOUSE_START = (
    "/bin/sh -c 'mkdir -p /etc/clickhouse-server/config.d /etc/clickhouse-server/users.d"
    ' && printf %s "$CLICKHOUSE_CONFIG" > /etc/clickhouse-server/config.d/stack.xml'
    ' && printf %s "$CLICKHOUSE_USERS_CONFIG" > /etc/clickhouse-server/users.d/stack.xml'
    " && exec /entrypoint.sh'"
)
# The password goes in as configuration on stdin: an argument can be read by every process of the container. A fresh volume has
# a lost+found, which keeps the entrypoint from giving the folder to Redis' user.
_REDIS_START = (
    "/bin/sh -c 'umask 077 && rm -rf /data/lost+found"
    ' && printf "requirepass %s\\n" "$REDIS_PASSWORD" > /tmp/redis.conf && exec < /tmp/redis.conf && rm /tmp/redis.conf'
    " && exec docker-entrypoint.sh redis-server --dir /data --appendonly yes --appendfsync everysec"
    " --maxmemory 1gb --maxmemory-policy noeviction -'"
)


def postgres(image: str, gigabytes: int) -> Service:
    """Postgres: a server for both applications, a database and an owner each.

    Args:
        image: with tag. gigabytes: of the volume.
    """
    about = "Databases of LiteLLM and of Langfuse, apart from each other: an owner each, no rights on the other's."
    return Service(
        name="postgres",
        title=SERVICES["postgres"].title,
        image=image,
        port=5432,
        # The image insists on this mount, and Postgres on a folder below it: a fresh volume is not empty.
        volume=Volume("/var/lib/postgresql/data", gigabytes),
        variables={
            "POSTGRES_USER": Literal("postgres"),
            "POSTGRES_DB": Literal("postgres"),
            "POSTGRES_PASSWORD": _PASSWORD,
            "PGDATA": Literal("/var/lib/postgresql/data/pgdata"),
            "DATABASE_URL": Reference(
                "postgresql://${{POSTGRES_USER}}:${{POSTGRES_PASSWORD}}@${{RAILWAY_PRIVATE_DOMAIN}}:5432/${{POSTGRES_DB}}"
            ),
            "LITELLM_DB_PASSWORD": _PASSWORD,
            "LANGFUSE_DB_PASSWORD": _PASSWORD,
            "BACKUP_DB_PASSWORD": _PASSWORD,
            "RESTORE_DB_PASSWORD": _PASSWORD,
            # 64 MB, the platform's default, is too little for parallel queries.
            "RAILWAY_SHM_SIZE_BYTES": Literal(str(512 << 20)),
        },
        limits=Limits(2, 4),
        draining_seconds=60,  # a clean end: the default, 0 s, is a crash at every deployment
        about=about,
        documents=(
            "https://github.com/railwayapp-templates/postgres-ssl",
            "https://langfuse.com/self-hosting/deployment/infrastructure/postgres",
        ),
    )


def clickhouse(image: str, gigabytes: int) -> Service:
    """ClickHouse: traces.

    Args:
        image: with tag. gigabytes: of the volume.
    """
    return Service(
        name="clickhouse",
        title=SERVICES["clickhouse"].title,
        image=image,
        port=8123,
        health=Health("/ping"),
        volume=Volume("/var/lib/clickhouse", gigabytes),
        variables={
            "CLICKHOUSE_DB": Literal(LANGFUSE_DATABASE),
            "CLICKHOUSE_USER": Literal(CLICKHOUSE_USER),
            "CLICKHOUSE_PASSWORD": _PASSWORD,
            "CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT": Literal("1"),
            "CLICKHOUSE_CONFIG": Literal((_CONFIGURATION / "config.xml").read_text(encoding="utf-8")),
            "CLICKHOUSE_USERS_CONFIG": Literal((_CONFIGURATION / "users.xml").read_text(encoding="utf-8")),
            "PORT": Literal("8123"),
        },
        limits=Limits(2, 8),
        draining_seconds=60,
        start_command=_CLICKHOUSE_START,
        about="Traces of Langfuse; its own logs are cut off or kept for a week, so that they do not fill the disk.",
        documents=("https://langfuse.com/self-hosting/deployment/infrastructure/clickhouse",),
    )


def redis(image: str, gigabytes: int) -> Service:
    """Redis: Langfuse's queues and what LiteLLM's replicas share.

    Args:
        image: with tag. gigabytes: of the volume.
    """
    about = "Langfuse's queues, LiteLLM's limits: an append-only file, and never a key thrown away to make room."
    return Service(
        name="redis",
        title=SERVICES["redis"].title,
        image=image,
        port=6379,
        volume=Volume("/data", gigabytes),
        variables={"REDIS_PASSWORD": _PASSWORD},
        limits=Limits(1, 1.5),
        draining_seconds=30,
        start_command=_REDIS_START,
        about=about,
        documents=("https://langfuse.com/self-hosting/deployment/infrastructure/cache",),
    )
