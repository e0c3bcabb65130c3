"""The two services that operate the others: Prefect's server, and the worker with the gateway beside it.

The server's state is on a volume of its own and not in the stack's Postgres: the operator must outlive the operated.
"""

from __future__ import annotations

from collections.abc import Mapping

from railway.services.databases import LANGFUSE_DATABASE, LITELLM_DATABASE
from railway.services.objects import Bucket
from railway.stack import SERVICES, Health, Limits, Literal, Reference, Secret, SecretKind, Service, Value, Volume

__all__ = ["DRAIN_SECONDS", "OPTIONAL", "server", "worker"]

DRAIN_SECONDS = 300
"""WORKER_DRAIN_SECONDS: a dump that has begun gets so long to clean up."""
MARGIN_SECONDS = 30
"""What worker and gateway need after that, before Railway kills the container."""
DAY = 86_400

OPTIONAL: Mapping[str, str] = {
    "RAILWAY_API_TOKEN": "Token of Railway's API, for flows that deploy, restart and upgrade; seal it",
    "COPY_ENDPOINT": "URL of the second store, off the stack",
    "COPY_BUCKET": "Its bucket; without one nothing leaves the stack",
    "COPY_ACCESS_KEY": "Its access key",
    "COPY_SECRET_KEY": "Its secret key",
    "COPY_PREFIX": "Folder in it; default backups",
    "COPY_REGION": "Its region",
    "COPY_URL_STYLE": "virtual, where that bucket's name stands in front of the host; default path",
    "HEARTBEAT_URL": "Pinged after each sweep",
    "SLACK_BOT_TOKEN": "Slack bot token",
    "SLACK_CHANNEL": "Slack channel of the bot, by id",
    "SLACK_WEBHOOK_URL": "Slack incoming webhook, where there is no bot",
    "DISCORD_WEBHOOK_URL": "Discord webhook",
    "PAGERDUTY_ROUTING_KEY": "PagerDuty integration key",
    "ALERT_WEBHOOK_URL": "Any webhook",
    "ALERT_WEBHOOK_SECRET": "Key of its signatures",
    "CHECK_LIMITS": "Where an aspect stops being ok, for example disk_percent=90,parts=500",
    "RUNBOOK_SWITCHES": "What runs by itself, for example litellm=ask,postgres/critical=never",
    "RUNBOOK_COOLDOWN": "Seconds that a runbook rests between two runs for a service; default 300",
    "RUNBOOK_TRIES": "Runs of a runbook for a service within an hour, then a person is told to look; default 3",
    "RAILWAY_WEBHOOK_SECRET": "Secret that Railway's webhook sends to the gateway",
    "PAGERDUTY_WEBHOOK_SECRET": "Key with which PagerDuty signs its webhook to the gateway",
    "ALERTMANAGER_WEBHOOK_TOKEN": "Bearer token that Alertmanager sends to the gateway",
    "SLACK_SIGNING_SECRET": "Signing secret of the Slack app, for buttons on its messages",
    "SLACK_USERS": "Ids of the Slack users who may press them",
    "SCALE_MOST_REPLICAS": "Replicas that scale-service asks for at most; default 4",
    "SCALE_MOST_MEMORY_GB": "GB of memory of each that it asks for at most; default 16",
    "SCALE_MOST_CPUS": "Virtual CPUs of each that it asks for at most; default 8",
}
"""What the worker can be given, and works without."""


def server(image: str, gigabytes: int) -> Service:
    """Prefect's server, on SQLite.

    Args:
        image: with tag, of the version that the worker has. gigabytes: of the volume.
    """
    return Service(
        name="prefect-server",
        title=SERVICES["prefect-server"].title,
        image=image,
        port=4200,
        health=Health("/api/ready", 600),
        volume=Volume("/data", gigabytes),
        variables={
            "PREFECT_HOME": Literal("/data"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": Literal("sqlite+aiosqlite:////data/prefect.sqlite"),
            # SQLite has one writer at a time: wait for the other one rather than fail.
            "PREFECT_SERVER_DATABASE_TIMEOUT": Literal("60"),
            # In memory, the default, a restart leaks every concurrency slot for five minutes.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": Literal("prefect.server.concurrency.lease_storage.filesystem"),
            "PREFECT_SERVER_API_AUTH_STRING": Secret(SecretKind.AUTH_STRING),
            # Without it the key of all block secrets is in the same database as they are.
            "PREFECT_SERVER_ENCRYPTION_KEY": Secret(SecretKind.FERNET),
            # `::` is IPv6 only in Prefect; an environment of before 2025-10-16, which has no IPv4, needs it all the same.
            "PREFECT_SERVER_API_HOST": Literal("0.0.0.0"),  # noqa: S104 - a container's only door
            "PREFECT_SERVER_API_PORT": Literal("4200"),
            "PREFECT_UI_URL": Reference("https://${{RAILWAY_PUBLIC_DOMAIN}}"),
            "PREFECT_SERVER_UI_API_URL": Reference("https://${{RAILWAY_PUBLIC_DOMAIN}}/api"),
            # Prefect keeps runs for ever by default.
            "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": Literal("P2D"),
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": Literal("events,flow_runs"),
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": Literal(str(14 * DAY)),
            "PREFECT_SERVER_ANALYTICS_ENABLED": Literal("false"),
            "DO_NOT_TRACK": Literal("1"),
            "PORT": Literal("4200"),
        },
        public=True,
        limits=Limits(1, 1),
        draining_seconds=30,
        start_command="prefect server start",
        about="Schedules, records and pages of the flows; needs nothing of the stack, so that it outlives it.",
        documents=("https://docs.prefect.io/v3/how-to-guides/self-hosted",),
    )


def worker(image: str, *, stack: str, events: Bucket, backups: Bucket, postgres_gigabytes: int) -> Service:
    """The worker that runs the flows, and the gateway with the status page.

    Args:
        image: the project's own. stack: its name. events, backups: the buckets. postgres_gigabytes: of Postgres' volume.
    """
    return Service(
        name="prefect-worker",
        title=SERVICES["prefect-worker"].title,
        needs=SERVICES["prefect-worker"].needs,
        image=image,
        port=8080,
        health=Health("/livez", 600),
        variables={
            "STACK_NAME": Literal(stack),
            **_databases(postgres_gigabytes),
            **_applications(),
            **_stores(events, backups),
            **_keys(),
            "PREFECT_API_URL": Reference("http://${{prefect-server.RAILWAY_PRIVATE_DOMAIN}}:4200/api"),
            "PREFECT_API_AUTH_STRING": Reference("${{prefect-server.PREFECT_SERVER_API_AUTH_STRING}}"),
            "PREFECT_UI_URL": Reference("${{prefect-server.PREFECT_UI_URL}}"),  # links in alerts
            "WORK_POOL": Literal("ops"),
            "WORKER_DRAIN_SECONDS": Literal(str(DRAIN_SECONDS)),
            "GATEWAY_TOKEN": Secret(SecretKind.HEX, 64),
            "GATEWAY_URL": Reference("https://${{RAILWAY_PUBLIC_DOMAIN}}"),
            "DO_NOT_TRACK": Literal("1"),
            "PORT": Literal("8080"),
            **{name: Secret(SecretKind.GIVEN, required=False, what=what) for name, what in OPTIONAL.items()},
        },
        public=True,
        limits=Limits(2, 4),
        draining_seconds=DRAIN_SECONDS + MARGIN_SECONDS,
        about="Runs the flows: backups, drills, sweeps, upgrades; serves the status page, health and metrics.",
    )


def _databases(postgres_gigabytes: int) -> dict[str, Value]:
    host = "${{postgres.RAILWAY_PRIVATE_DOMAIN}}:5432/${{postgres.POSTGRES_DB}}"
    return {
        "POSTGRES_BACKUP_URL": Reference(f"postgresql://backup:${{{{postgres.BACKUP_DB_PASSWORD}}}}@{host}"),
        "POSTGRES_RESTORE_URL": Reference(f"postgresql://restore:${{{{postgres.RESTORE_DB_PASSWORD}}}}@{host}"),
        "POSTGRES_DATABASES": Literal(f"{LITELLM_DATABASE},{LANGFUSE_DATABASE}"),
        "POSTGRES_VOLUME_GB": Literal(str(postgres_gigabytes)),
        "CLICKHOUSE_HOST": Reference("${{clickhouse.RAILWAY_PRIVATE_DOMAIN}}"),
        "CLICKHOUSE_PORT": Literal("8123"),
        "CLICKHOUSE_USER": Reference("${{clickhouse.CLICKHOUSE_USER}}"),
        "CLICKHOUSE_PASSWORD": Reference("${{clickhouse.CLICKHOUSE_PASSWORD}}"),
        "CLICKHOUSE_DB": Reference("${{clickhouse.CLICKHOUSE_DB}}"),
        "REDIS_URL": Reference("redis://:${{redis.REDIS_PASSWORD}}@${{redis.RAILWAY_PRIVATE_DOMAIN}}:6379/0"),
    }


def _applications() -> dict[str, Value]:
    public = ("litellm", "langfuse-web", "prefect-server")
    return {
        "LITELLM_URL": Reference("http://${{litellm.RAILWAY_PRIVATE_DOMAIN}}:4000"),
        "LITELLM_MASTER_KEY": Reference("${{litellm.LITELLM_MASTER_KEY}}"),
        "LITELLM_DATABASE": Literal(LITELLM_DATABASE),
        "LANGFUSE_WEB_URL": Reference("http://${{langfuse-web.RAILWAY_PRIVATE_DOMAIN}}:3000"),
        "LANGFUSE_WORKER_URL": Reference("http://${{langfuse-worker.RAILWAY_PRIVATE_DOMAIN}}:3030"),
        "LANGFUSE_DATABASE": Literal(LANGFUSE_DATABASE),
        "LANGFUSE_PUBLIC_KEY": Reference("${{langfuse-web.LANGFUSE_INIT_PROJECT_PUBLIC_KEY}}"),
        "LANGFUSE_SECRET_KEY": Reference("${{langfuse-web.LANGFUSE_INIT_PROJECT_SECRET_KEY}}"),
        "LANGFUSE_ADMIN_API_KEY": Reference("${{langfuse-web.ADMIN_API_KEY}}"),
        "PUBLIC_URLS": Reference(",".join(f"{name}=https://${{{{{name}.RAILWAY_PUBLIC_DOMAIN}}}}" for name in public)),
    }


def _stores(events: Bucket, backups: Bucket) -> dict[str, Value]:
    return {
        "MINIO_ENDPOINT": backups.endpoint,
        "MINIO_ACCESS_KEY": backups.access_key,
        "MINIO_SECRET_KEY": backups.secret_key,
        "BACKUP_BUCKET": backups.name,
        "BACKUP_REGION": backups.region,
        "BACKUP_URL_STYLE": _style(backups),
        "SOURCE_BUCKETS": events.name,
        "SOURCE_ENDPOINT": events.endpoint,
        "SOURCE_ACCESS_KEY": events.access_key,
        "SOURCE_SECRET_KEY": events.secret_key,
        "SOURCE_URL_STYLE": _style(events),
    }


def _style(bucket: Bucket) -> Value:
    return Literal("path" if bucket.path_style else "virtual")


def _keys() -> dict[str, Value]:
    recovery = "age public key (`age-keygen -o recovery.txt`) whose secret key you keep offline: with it alone the backups open"
    return {
        "BACKUP_RECOVERY_RECIPIENT": Secret(SecretKind.GIVEN, what=recovery),
        "BACKUP_AGE_IDENTITY": Secret(SecretKind.AGE_IDENTITY),
        "BACKUP_DRILL_RECIPIENT": Secret(SecretKind.AGE_RECIPIENT, of="BACKUP_AGE_IDENTITY"),
        "BACKUP_AGE_RECIPIENTS": Reference("${{BACKUP_RECOVERY_RECIPIENT}},${{BACKUP_DRILL_RECIPIENT}}"),
        "BACKUP_SIGNING_KEY": Secret(SecretKind.HEX, 64, outlives=True),
        "LITELLM_SALT_KEY": Reference("${{litellm.LITELLM_SALT_KEY}}"),
        "ENCRYPTION_KEY": Reference("${{langfuse-web.ENCRYPTION_KEY}}"),
    }
