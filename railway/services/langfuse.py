"""Langfuse's two services. Web migrates both databases before it listens, so it is first, and one at a time."""

from __future__ import annotations

from railway.services.databases import LANGFUSE_DATABASE
from railway.services.objects import Bucket
from railway.stack import (
    SERVICES,
    Health,
    LangfuseMajor,
    Limits,
    Literal,
    Reference,
    Secret,
    SecretKind,
    Service,
    Value,
)

__all__ = ["web", "worker"]

_DOCUMENTS = ("https://langfuse.com/self-hosting/configuration",)


def web(image: str, major: LangfuseMajor, events: Bucket, needs: tuple[str, ...]) -> Service:
    """The application and API.

    Args:
        image: with tag. major: of Langfuse. events: its bucket. needs: services that it does not work without.
    """
    return Service(
        name="langfuse-web",
        title=SERVICES["langfuse-web"].title,
        needs=needs,
        image=image,
        port=3000,
        # A probe that gives up while a migration runs leaves ClickHouse's dirty (langfuse#6639, #6679): half an hour.
        health=Health("/api/public/health", 1800),
        variables={
            **_shared(major, events),
            "SALT": Secret(SecretKind.PASSWORD, outlives=True),
            "ENCRYPTION_KEY": Secret(SecretKind.HEX, 64, outlives=True),
            "NEXTAUTH_SECRET": Secret(SecretKind.PASSWORD),
            "NEXTAUTH_URL": Reference("https://${{RAILWAY_PUBLIC_DOMAIN}}"),
            "ADMIN_API_KEY": Secret(SecretKind.PASSWORD, 48),
            "AUTH_DISABLE_SIGNUP": Literal("true"),
            # At every start Langfuse makes what these name if it is not there: nobody copies keys from one page to another.
            "LANGFUSE_INIT_ORG_ID": Literal("stack"),
            "LANGFUSE_INIT_ORG_NAME": Literal("Stack"),
            "LANGFUSE_INIT_PROJECT_ID": Literal("litellm"),
            "LANGFUSE_INIT_PROJECT_NAME": Literal("LiteLLM"),
            "LANGFUSE_INIT_PROJECT_PUBLIC_KEY": Secret(SecretKind.LANGFUSE_PUBLIC_KEY),
            "LANGFUSE_INIT_PROJECT_SECRET_KEY": Secret(SecretKind.LANGFUSE_SECRET_KEY),
            "LANGFUSE_INIT_USER_EMAIL": Literal("operator@example.com"),
            "LANGFUSE_INIT_USER_NAME": Literal("Operator"),
            "LANGFUSE_INIT_USER_PASSWORD": Secret(SecretKind.PASSWORD),
            "PORT": Literal("3000"),
        },
        public=True,
        limits=Limits(2, 4),
        draining_seconds=60,
        about="Langfuse's pages and API; takes what LiteLLM sends, puts it into the bucket and the queue.",
        documents=_DOCUMENTS,
    )


def worker(image: str, major: LangfuseMajor, events: Bucket, needs: tuple[str, ...]) -> Service:
    """The worker that empties the queues.

    Args:
        image: with tag, of web's version. major: of Langfuse. events: its bucket.
        needs: services that it does not work without.
    """
    return Service(
        name="langfuse-worker",
        title=SERVICES["langfuse-worker"].title,
        needs=needs,
        image=image,
        port=3030,
        health=Health("/api/health"),
        variables={
            **_shared(major, events),
            "SALT": Reference("${{langfuse-web.SALT}}"),
            "ENCRYPTION_KEY": Reference("${{langfuse-web.ENCRYPTION_KEY}}"),
            "NEXTAUTH_URL": Reference("${{langfuse-web.NEXTAUTH_URL}}"),
            "PORT": Literal("3030"),
        },
        limits=Limits(2, 4),
        draining_seconds=120,  # jobs that it has begun, and rows that it has not inserted yet
        about="Takes jobs from the queues and writes traces into ClickHouse.",
        documents=_DOCUMENTS,
    )


def _shared(major: LangfuseMajor, events: Bucket) -> dict[str, Value]:
    """What both services are told in the same words."""
    return {
        "DATABASE_URL": Reference(
            f"postgresql://{LANGFUSE_DATABASE}:${{{{postgres.LANGFUSE_DB_PASSWORD}}}}"
            f"@${{{{postgres.RAILWAY_PRIVATE_DOMAIN}}}}:5432/{LANGFUSE_DATABASE}"
        ),
        "CLICKHOUSE_URL": Reference("http://${{clickhouse.RAILWAY_PRIVATE_DOMAIN}}:8123"),
        "CLICKHOUSE_MIGRATION_URL": Reference("clickhouse://${{clickhouse.RAILWAY_PRIVATE_DOMAIN}}:9000"),
        "CLICKHOUSE_USER": Reference("${{clickhouse.CLICKHOUSE_USER}}"),
        "CLICKHOUSE_PASSWORD": Reference("${{clickhouse.CLICKHOUSE_PASSWORD}}"),
        "CLICKHOUSE_DB": Reference("${{clickhouse.CLICKHOUSE_DB}}"),
        # The default is true, and then web ends at once on a single server (langfuse-k8s#193).
        "CLICKHOUSE_CLUSTER_ENABLED": Literal("false"),
        # family=0: look the host up in both address families, or an IPv6 network is not reached.
        "REDIS_CONNECTION_STRING": Reference(
            "redis://:${{redis.REDIS_PASSWORD}}@${{redis.RAILWAY_PRIVATE_DOMAIN}}:6379/0?family=0"
        ),
        **_objects("EVENT", "", events),  # replay of OpenTelemetry events works without a prefix only
        **(_objects("MEDIA", "media/", events) if events.public else {}),  # browsers load and store media themselves
        # The container's own HOSTNAME is its id, and Langfuse listens on what it says; `::` is both address families in Node.
        "HOSTNAME": Literal("::"),
        "NODE_OPTIONS": Literal("--max-old-space-size=3072"),  # MB of the 4 GB; Node takes half on its own (langfuse#10367)
        "TELEMETRY_ENABLED": Literal("false"),
        "LANGFUSE_LOG_FORMAT": Literal("json"),
        **(_FOUR if major == 4 else {}),
    }


# What a stack that begins with 4 has. One that comes from 3 goes by `dual` first.
_FOUR: dict[str, Value] = {
    "LANGFUSE_MIGRATION_V4_WRITE_MODE": Literal("events_only"),
    "LANGFUSE_MIGRATION_V4_NATIVE_OTEL_BEHAVIOUR": Literal("direct"),
    "LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN": Literal("true"),
}


def _objects(use: str, prefix: str, events: Bucket) -> dict[str, Value]:
    name = f"LANGFUSE_S3_{use}_UPLOAD"
    optional: dict[str, Value] = {f"{name}_PREFIX": Literal(prefix)} if prefix else {}
    return {
        f"{name}_BUCKET": events.name,
        **optional,
        f"{name}_REGION": events.region,
        f"{name}_ENDPOINT": events.endpoint,
        f"{name}_ACCESS_KEY_ID": events.access_key,
        f"{name}_SECRET_ACCESS_KEY": events.secret_key,
        f"{name}_FORCE_PATH_STYLE": Literal(str(events.path_style).lower()),
    }
