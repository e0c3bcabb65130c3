"""All settings, read from environment variables in one place. Names follow the predecessor's where it had them.

`python -m blocks` turns them into block documents; flows read only the stack's name and the numbers here.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from blocks.bucket_url import UrlStyle
from blocks.errors import SettingsError
from blocks.shapes import SHAPES, in_shape

Names = Annotated[list[str], NoDecode]
"""A comma-separated list in the environment."""

Severity = Literal["warning", "error", "critical"]
"""How bad an incident is, from the least on."""


class Settings(BaseSettings):
    """The environment of this process, typed."""

    model_config = SettingsConfigDict(extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    stack_name: str = Field(default="stack", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the stack")

    # Postgres: a server URL each, not an application's
    postgres_backup_url: SecretStr | None = Field(default=None, description="Server URL of the role that takes backups")
    postgres_restore_url: SecretStr | None = Field(default=None, description="Server URL of the role that restores")
    postgres_databases: Names = Field(default=[], description="Databases to back up; empty: all but templates")
    postgres_bin_dirs: Names = Field(default=[], description="Folders with pg_dump and pg_restore, besides the usual")
    postgres_target_url: SecretStr | None = Field(
        default=None, description="Server URL of a superuser of the server that `upgrade/postgres` moves to with target: url"
    )

    clickhouse_host: str = Field(default="", description="Host of ClickHouse's HTTP interface")
    clickhouse_port: int = Field(default=8123, description="Port of ClickHouse's HTTP interface")
    clickhouse_user: str = Field(default="default", description="ClickHouse user")
    clickhouse_password: SecretStr = Field(default=SecretStr(""), description="Its password")
    clickhouse_db: Names = Field(default=[], description="ClickHouse databases to back up; empty: all but system ones")
    clickhouse_secure: bool = Field(default=False, description="HTTPS to ClickHouse")
    clickhouse_store_endpoint: str = Field(default="", description="The store's URL as ClickHouse reaches it, if another")

    redis_url: SecretStr | None = Field(default=None, description="Redis URL")

    litellm_url: str = Field(default="", description="URL of LiteLLM as the worker reaches it")
    litellm_master_key: SecretStr | None = Field(default=None, description="LiteLLM's master key, for checks that need a key")
    litellm_database: str = Field(default="litellm", description="LiteLLM's Postgres database")
    langfuse_web_url: str = Field(default="", description="URL of langfuse-web as the worker reaches it")
    langfuse_worker_url: str = Field(default="", description="URL of langfuse-worker as the worker reaches it")
    langfuse_database: str = Field(default="langfuse", description="Langfuse's Postgres database")
    langfuse_public_key: str = Field(default="", description="Public key of a Langfuse project, for the smoke test")
    langfuse_secret_key: SecretStr | None = Field(default=None, description="Its secret key")
    langfuse_admin_api_key: SecretStr | None = Field(default=None, description="Langfuse's ADMIN_API_KEY, to replay events")
    langfuse_event_prefix: str = Field(default="", description="Langfuse's LANGFUSE_S3_EVENT_UPLOAD_PREFIX; best none")
    smoke_model: str = Field(default="", description="Model that the smoke test pays for; empty: the cheapest LiteLLM has")
    redis_key_prefix: str = Field(default="bull", description="Langfuse's REDIS_KEY_PREFIX: what its queues begin with")
    public_urls: Names = Field(
        default=[], description="Public URLs whose answer and certificate are watched; `litellm=https://...` says whose it is"
    )
    postgres_volume_gb: float = Field(
        default=0, ge=0, description="Size of the Postgres volume, GB, which a database cannot ask for; 0: not watched"
    )
    prefect_api_url: str = Field(default="", description="URL of Prefect's API, ends in /api; a worker's runs have it")
    prefect_api_auth_string: SecretStr | None = Field(
        default=None, description="user:password of a Prefect server that has one"
    )
    prefect_api_key: SecretStr | None = Field(default=None, description="API key, for Prefect Cloud")
    work_pool: str = Field(default="ops", description="Work pool whose workers are watched")

    check_timeout: float = Field(default=5.0, gt=0, le=10, description="Seconds one health check may take")
    check_interval: int = Field(default=60, ge=10, description="Seconds between two sweeps, as `health/sweep` is scheduled")
    check_limits: Names = Field(
        default=[], description="Where an aspect stops being ok, instead of what the check has: `disk_percent=90,parts=500`"
    )
    failure_threshold: int = Field(default=3, ge=1, description="So many bad sweeps in a row open an incident")
    recovery_threshold: int = Field(default=2, ge=1, description="So many good sweeps in a row close it")
    alert_cooldown: int = Field(default=900, ge=60, description="Seconds between two reminders of an open incident")
    escalate_after: int = Field(default=1800, ge=60, description="Seconds after which an open incident is escalated")
    blind_after: int = Field(
        default=900, ge=60, description="Seconds after which a service of which nothing is known is an incident of its own"
    )
    backup_max_age_hours: int = Field(default=26, ge=1, description="The newest good set may be so old")
    drill_max_age_hours: int = Field(default=50, ge=1, description="The newest proven set's drill may be so old")
    heartbeat_url: SecretStr | None = Field(default=None, description="Pinged after each sweep (healthchecks.io style)")

    slack_bot_token: SecretStr | None = Field(
        default=None, description="Slack bot token: one message an incident, with a thread"
    )
    slack_channel: str = Field(default="", description="Slack channel of the bot, by id")
    slack_webhook_url: SecretStr | None = Field(default=None, description="Slack incoming webhook, where there is no bot")
    slack_api_url: str = Field(default="https://slack.com/api/", description="Slack's API")
    discord_webhook_url: SecretStr | None = Field(default=None, description="Discord webhook")
    pagerduty_routing_key: SecretStr | None = Field(default=None, description="PagerDuty Events API v2 integration key")
    pagerduty_url: str = Field(default="https://events.pagerduty.com", description="PagerDuty's Events API")
    alert_webhook_url: SecretStr | None = Field(
        default=None, description="Any webhook; Slack's and Discord's are known by host"
    )
    alert_webhook_secret: SecretStr | None = Field(default=None, description="Key of the HMAC-SHA256 that signs its payloads")
    slack_min_severity: Severity = Field(default="warning", description="Slack hears of incidents from this severity on")
    discord_min_severity: Severity = Field(default="warning", description="Discord hears of incidents from this severity on")
    pagerduty_min_severity: Severity = Field(
        default="critical", description="PagerDuty hears of incidents from this severity on"
    )
    webhook_min_severity: Severity = Field(
        default="warning", description="The webhook hears of incidents from this severity on"
    )

    runbook_switches: Names = Field(
        default=[],
        description="What runs by itself, most exact first: `litellm=ask`, `postgres/critical=never`, `all=automatic`",
    )
    runbook_cooldown: int = Field(default=300, ge=0, description="Seconds that a runbook rests between two runs for a service")
    runbook_tries: int = Field(
        default=3, ge=1, description="So many runs of a runbook for one service an hour, then a person is told to look"
    )

    scale_most_replicas: int = Field(default=4, ge=1, le=50, description="The runbook scale-service asks for so many at most")
    scale_most_memory_gb: float = Field(default=16, gt=0, description="And for so much memory of each container, GB")
    scale_most_cpus: float = Field(default=8, gt=0, description="And for so many virtual CPUs of each")

    gateway_token: SecretStr | None = Field(default=None, description="Bearer token for the gateway's POST requests")
    gateway_public: bool = Field(default=False, description="The status page needs no token")
    gateway_url: str = Field(default="", description="Public URL of the gateway, for links in alerts")
    railway_webhook_secret: SecretStr | None = Field(
        default=None, description="What Railway's webhook sends as X-Webhook-Secret, to /hooks/railway"
    )
    pagerduty_webhook_secret: SecretStr | None = Field(
        default=None, description="Key with which PagerDuty signs its v3 webhook, to /hooks/pagerduty"
    )
    alertmanager_webhook_token: SecretStr | None = Field(
        default=None, description="Bearer token that Alertmanager sends, to /hooks/alertmanager"
    )
    slack_signing_secret: SecretStr | None = Field(
        default=None, description="Signing secret of the Slack app: its messages have buttons then, which tell /hooks/slack"
    )
    slack_users: Names = Field(default=[], description="Ids of the Slack users who may press them; empty: nobody")
    port: int = Field(default=8080, ge=1, le=65535, description="Port of the gateway; Railway sets it")
    worker_drain_seconds: float = Field(
        default=60, gt=0, description="On SIGTERM flow runs have so long to clean up, before the worker and the gateway end"
    )

    railway_token: SecretStr | None = Field(default=None, description="Token of a Railway project: one environment of it")
    railway_api_token: SecretStr | None = Field(
        default=None, description="Token of a Railway workspace or account, used where there is no project token"
    )
    railway_api_url: str = Field(
        default="https://backboard.railway.com/graphql/v2", description="Railway's GraphQL API; the sandbox has its own"
    )
    railway_project_id: str = Field(default="", description="Id of the Railway project; Railway sets it")
    railway_environment_id: str = Field(default="", description="Id of its environment; Railway sets it")
    railway_service_id: str = Field(default="", description="Id of the service that this runs in; Railway sets it")
    railway_routes: Names = Field(
        default=[],
        description="From outside its private network: `postgres-18.railway.internal:5432=127.0.0.1:15432`, a tunnel of yours",
    )

    minio_endpoint: str = Field(default="", description="URL of the S3-compatible store; empty: AWS")
    minio_access_key: str = Field(default="", description="Access key of the store")
    minio_secret_key: SecretStr = Field(default=SecretStr(""), description="Secret key of the store")
    backup_bucket: str = Field(default="backups", description="Bucket for backups")
    backup_prefix: str = Field(default="backups", description="Folder in that bucket")
    backup_region: str = Field(default="us-east-1", description="Region of that bucket")
    backup_url_style: UrlStyle = Field(
        default="path", description="Where that bucket stands in URLs; virtual: in front of the host, as Railway's buckets"
    )

    source_buckets: Names = Field(default=[], description="Buckets to back up, for example langfuse")
    source_endpoint: str = Field(default="", description="URL of their server; empty: that of the store")
    source_access_key: str = Field(default="", description="Their access key; empty: that of the store")
    source_secret_key: SecretStr = Field(default=SecretStr(""), description="Their secret key; empty: that of the store")
    source_url_style: UrlStyle | None = Field(default=None, description="Where they stand in URLs; empty: as that of the store")

    copy_endpoint: str = Field(default="", description="URL of the second store, off the stack; empty: AWS")
    copy_bucket: str = Field(default="", description="Bucket for copies of the backups; empty: no copies")
    copy_access_key: str = Field(default="", description="Access key of the second store")
    copy_secret_key: SecretStr = Field(default=SecretStr(""), description="Secret key of the second store")
    copy_prefix: str = Field(default="backups", description="Folder in that bucket")
    copy_region: str = Field(default="us-east-1", description="Region of that bucket")
    copy_url_style: UrlStyle = Field(default="path", description="Where that bucket stands in URLs: path or virtual")
    copy_lock_mode: Literal["", "governance", "compliance"] = Field(
        default="", description="Object lock of the copies: governance or compliance; empty: none"
    )
    copy_lock_days: int = Field(default=30, ge=1, description="The object lock of a copy ends after so many days")
    copy_keep_last: int = Field(default=3, ge=1, description="Newest copies kept whatever their age")
    copy_keep_daily: int = Field(default=30, ge=0, description="Days of which the newest copy is kept")
    copy_keep_weekly: int = Field(default=12, ge=0, description="Weeks of which the newest copy is kept")
    copy_keep_monthly: int = Field(default=24, ge=0, description="Months of which the newest copy is kept")
    copy_keep_yearly: int = Field(default=5, ge=0, description="Years of which the newest copy is kept")

    backup_age_recipients: Names = Field(default=[], description="age public keys that backups are encrypted to")
    backup_age_identity: SecretStr | None = Field(default=None, description="age secret key for drills and restores")
    backup_signing_key: SecretStr | None = Field(default=None, description="Ed25519 private key, 32 bytes as hex")
    backup_verify_key: str = Field(default="", description="Ed25519 public key, hex; empty: of the signing key")
    litellm_salt_key: SecretStr | None = Field(default=None, description="LiteLLM's salt key, only fingerprinted")
    encryption_key: SecretStr | None = Field(default=None, description="Langfuse's encryption key, only fingerprinted")

    backup_full_every_days: int = Field(default=7, ge=1, description="A full ClickHouse backup at least every so many days")
    backup_retention_days: int = Field(default=14, ge=1, description="Daily sets are kept for so many days")
    backup_keep_last: int = Field(default=3, ge=1, description="Newest sets kept whatever their age")
    backup_keep_hourly: int = Field(default=0, ge=0, description="Hours of which the newest set is kept")
    backup_keep_weekly: int = Field(default=8, ge=0, description="Weeks of which the newest set is kept")
    backup_keep_monthly: int = Field(default=12, ge=0, description="Months of which the newest set is kept")
    backup_keep_yearly: int = Field(default=3, ge=0, description="Years of which the newest set is kept")
    backup_grace_hours: int = Field(default=24, ge=0, description="Half sets and stale uploads are cleaned after so long")

    worker_image: str = Field(default="", description="The project's own image, as you pushed it: for deploys")
    registry_url: str = Field(
        default="", description="URL of a registry that mirrors all, each below its host's name; empty: each is asked itself"
    )
    setup_postgres_url: SecretStr | None = Field(
        default=None, description="Server URL of Postgres' superuser, for `python -m flows.deploy.setup`"
    )
    litellm_db_password: SecretStr | None = Field(default=None, description="Password that setup gives LiteLLM's role")
    langfuse_db_password: SecretStr | None = Field(default=None, description="Password that setup gives Langfuse's role")
    backup_db_password: SecretStr | None = Field(default=None, description="Password that setup gives the role `backup`")
    restore_db_password: SecretStr | None = Field(default=None, description="Password that setup gives the role `restore`")
    setup_buckets: Names = Field(default=[], description="Private buckets that setup creates in the store of MINIO_ENDPOINT")

    verify_every_days: int = Field(default=30, ge=1, description="Each object is read back and hashed once in so many days")
    drill_bucket_days: int = Field(default=7, ge=1, description="Drills read each pack of bucket objects once in so many days")

    backup_lease_seconds: int = Field(default=120, ge=3, description="The stack's lock expires after so long without renewal")
    backup_lock_wait_seconds: int = Field(default=900, ge=0, description="A flow waits so long for the stack's lock")
    backup_deadline_minutes: int = Field(default=360, ge=1, description="One component may take so long")
    drill_directory: str = Field(default="", description="Folder for scratch engines; empty: the system's temporary folder")

    @field_validator(
        "postgres_databases",
        "postgres_bin_dirs",
        "railway_routes",
        "clickhouse_db",
        "source_buckets",
        "backup_age_recipients",
        "public_urls",
        "setup_buckets",
        "runbook_switches",
        "check_limits",
        "slack_users",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator(
        "minio_endpoint",
        "clickhouse_store_endpoint",
        "source_endpoint",
        "copy_endpoint",
        "litellm_url",
        "langfuse_web_url",
        "langfuse_worker_url",
        "prefect_api_url",
        "slack_api_url",
        "pagerduty_url",
        "gateway_url",
        "railway_api_url",
        "registry_url",
    )
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("expected http(s)://host[:port]")
        return value

    @field_validator(*SHAPES)
    @classmethod
    def _are_in_shape(cls, value: list[str], info: ValidationInfo) -> list[str]:
        return in_shape(str(info.field_name), value)

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            SettingsError: the first variable that is wrong, and what it should be; never its value.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            name = "_".join(str(part) for part in first["loc"][:1]).upper()
            raise SettingsError(f"setting {name}: {first['msg']}; correct the environment variable") from None

    def require(self, name: str) -> str:
        """Return a setting that must not be empty, as text.

        Args:
            name: the field's name, for example `clickhouse_host`.
        Raises:
            SettingsError: it is not set.
        """
        value = getattr(self, name)
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
        if not text:
            raise SettingsError(f"setting {name.upper()} is not set; {type(self).model_fields[name].description}")
        return text
