"""What a sweep looks at: the services that the settings describe, where they are, and where each aspect stops being ok.

A service without its setting is not watched at all. No value is judged here, so that one wrong variable makes one check
unknown and does not blind the sweep.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from blocks.railway_api.access import TokenKind
from blocks.s3_light import Place
from blocks.settings import Settings
from railway.stack import SERVICES

__all__ = ["ClickHouse", "Limits", "LiteLLM", "Prefect", "PublicUrl", "Railway", "Store", "Targets"]

PUBLIC = "public"
"""The service that a public URL belongs to when the settings do not say."""


@dataclass(frozen=True)
class Limits:
    """Where an aspect stops being ok. Every number but the last three comes from facts: apps.md 6 and 3.2.

    Attributes:
        connections_percent: of Postgres' max_connections. transaction_seconds: of the longest transaction, backups apart.
        volume_percent: of the Postgres volume. xid_age: transactions since the last freeze; writes are refused before 2^31.
        disk_percent: ClickHouse's disks in use. disk_full_percent: where it can hardly even truncate a table any more.
        parts: active parts of one partition; inserts are refused from 3,000 on. mutation_seconds: age of an unfinished one.
        system_log_bytes: ClickHouse's own logs. memory_percent: of Redis' maxmemory.
        queue_depth: jobs waiting in all queues. queue_seconds: age of the oldest of them.
        stuck_seconds: age of the oldest where nobody works: an idle worker takes a job at once.
        propagation_seconds: age of what Langfuse 4 copied last to its new tables, where more waits; ten minutes are usual.
        failed_jobs: events that were given up. late_seconds: of a flow run that should have started.
        container_percent: of the memory that a container may use. deploying_seconds: that a deployment may take.
        certificate_days: left of a certificate: mention, urge, page.
    """

    connections_percent: float = 80
    transaction_seconds: float = 3600
    volume_percent: float = 80
    xid_age: float = 1_000_000_000
    disk_percent: float = 80
    disk_full_percent: float = 98
    parts: float = 300
    mutation_seconds: float = 3600
    system_log_bytes: float = 5e9
    memory_percent: float = 80
    queue_depth: float = 10_000
    queue_seconds: float = 300
    stuck_seconds: float = 120
    propagation_seconds: float = 1800
    failed_jobs: float = 0
    late_seconds: float = 300
    container_percent: float = 90
    deploying_seconds: float = 1800
    certificate_days: tuple[float, float, float] = (30, 14, 3)
    backup_hours: float = 26
    drill_hours: float = 50


@dataclass(frozen=True)
class LiteLLM:
    """The gateway.

    Attributes:
        traced: Langfuse belongs to the stack, so every request should be traced to it.
        models: also see that strangers may not list the models. Every refusal becomes two failed generations in Langfuse (seen
            with LiteLLM 1.102.4 and `failure_callback`), so a sweep a minute does it once an hour.
    """

    url: str
    key: SecretStr | None = field(default=None, repr=False)
    traced: bool = False
    langfuse_url: str = ""
    models: bool = True


@dataclass(frozen=True)
class Postgres:
    """The server, as the role that takes backups; the databases of the applications that are watched, by service.

    Attributes:
        keys: that the applications seal their secrets with, by service.
    """

    url: SecretStr = field(repr=False)
    applications: tuple[tuple[str, str], ...] = ()
    volume_bytes: float = 0
    keys: tuple[tuple[str, SecretStr], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class ClickHouse:
    """The HTTP interface."""

    url: str
    user: str
    password: SecretStr = field(repr=False)


@dataclass(frozen=True)
class Store:
    """The backup store, the buckets beside it, and what a manifest must be signed with.

    Attributes:
        root: key prefix of the stack, with a slash at its end. verify_key: Ed25519 public key, hex; empty: of `signing_key`.
    """

    place: Place
    root: str
    sources: tuple[Place, ...] = ()
    verify_key: str = ""
    signing_key: SecretStr | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Prefect:
    """The API of the Prefect server, and the pool whose workers are watched."""

    url: str
    pool: str
    auth: SecretStr | None = field(default=None, repr=False)
    key: SecretStr | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Railway:
    """The platform's API, and the environment that is the stack."""

    url: str
    kind: TokenKind
    token: SecretStr = field(repr=False)
    project_id: str
    environment_id: str


@dataclass(frozen=True)
class PublicUrl:
    """A URL as people reach it, and the service that is behind it."""

    url: str
    service: str = PUBLIC

    @property
    def host(self) -> str:
        """Host and port, as a person would say it."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True)
class Targets:
    """Everything that a sweep looks at; None and empty for what is not configured.

    Attributes:
        timeout: seconds that one check may take. queue_prefix: what the keys of Langfuse's queues begin with.
    """

    timeout: float = 5.0
    limits: Limits = Limits()
    litellm: LiteLLM | None = None
    langfuse_web: str = ""
    langfuse_worker: str = ""
    postgres: Postgres | None = None
    clickhouse: ClickHouse | None = None
    redis: SecretStr | None = field(default=None, repr=False)
    queue_prefix: str = "bull"
    store: Store | None = None
    prefect: Prefect | None = None
    railway: Railway | None = None
    public: tuple[PublicUrl, ...] = ()

    @classmethod
    def from_settings(cls, settings: Settings, now: datetime | None = None) -> Self:
        """Find out what is configured; reads nothing but the settings.

        Args:
            now: leave out what the hour's first sweep does for all of them; None: look at everything.
        """
        litellm = LiteLLM(
            settings.litellm_url,
            settings.litellm_master_key,
            bool(settings.langfuse_web_url),
            settings.langfuse_web_url,
            models=now is None or now.minute * 60 + now.second < settings.check_interval,
        )
        watched = {"litellm": settings.litellm_url, "langfuse-web": settings.langfuse_web_url}
        databases = {"litellm": settings.litellm_database, "langfuse-web": settings.langfuse_database}
        applications = tuple((service, databases[service]) for service, url in watched.items() if url)
        prefect = Prefect(
            settings.prefect_api_url, settings.work_pool, settings.prefect_api_auth_string, settings.prefect_api_key
        )
        return cls(
            timeout=settings.check_timeout,
            limits=_limits(settings),
            litellm=litellm if settings.litellm_url else None,
            langfuse_web=settings.langfuse_web_url,
            langfuse_worker=settings.langfuse_worker_url,
            postgres=Postgres(settings.postgres_backup_url, applications, settings.postgres_volume_gb * 1e9, _keys(settings))
            if settings.postgres_backup_url
            else None,
            clickhouse=_clickhouse(settings),
            redis=settings.redis_url,
            queue_prefix=settings.redis_key_prefix,
            store=_store(settings),
            prefect=prefect if settings.prefect_api_url else None,
            railway=_railway(settings),
            public=tuple(_public(text) for text in settings.public_urls),
        )


def _limits(settings: Settings) -> Limits:
    own = {name: float(number) for name, _, number in (one.partition("=") for one in settings.check_limits)}
    return Limits(**own, backup_hours=settings.backup_max_age_hours, drill_hours=settings.drill_max_age_hours)  # type: ignore[arg-type]


def _keys(settings: Settings) -> tuple[tuple[str, SecretStr], ...]:
    """LiteLLM seals with its master key where it has no salt key (facts: apps.md 1.4)."""
    keys = {"litellm": settings.litellm_salt_key or settings.litellm_master_key, "langfuse-web": settings.encryption_key}
    return tuple((service, key) for service, key in keys.items() if key is not None)


def _clickhouse(settings: Settings) -> ClickHouse | None:
    if not settings.clickhouse_host:
        return None
    scheme = "https" if settings.clickhouse_secure else "http"
    host = f"[{settings.clickhouse_host}]" if ":" in settings.clickhouse_host else settings.clickhouse_host
    return ClickHouse(f"{scheme}://{host}:{settings.clickhouse_port}", settings.clickhouse_user, settings.clickhouse_password)


def _store(settings: Settings) -> Store | None:
    """The store's keys say whether there is one: its endpoint may be empty (AWS)."""
    if not settings.minio_access_key:
        return None
    endpoint, region = settings.minio_endpoint, settings.backup_region
    place = Place(
        endpoint,
        settings.backup_bucket,
        region,
        settings.minio_access_key,
        settings.minio_secret_key,
        settings.backup_url_style,
    )
    own = bool(settings.source_access_key)
    sources = tuple(
        Place(
            settings.source_endpoint or endpoint,
            bucket,
            region,
            settings.source_access_key if own else settings.minio_access_key,
            settings.source_secret_key if own else settings.minio_secret_key,
            settings.source_url_style or settings.backup_url_style,
        )
        for bucket in settings.source_buckets
    )
    root = "/".join(part for part in (settings.backup_prefix.strip("/"), settings.stack_name) if part) + "/"
    return Store(place, root, sources, settings.backup_verify_key, settings.backup_signing_key)


def _railway(settings: Settings) -> Railway | None:
    token = settings.railway_token or settings.railway_api_token
    if token is None:
        return None
    kind: TokenKind = "project" if settings.railway_token else "workspace"
    project_id, environment_id = settings.railway_project_id, settings.railway_environment_id
    return Railway(settings.railway_api_url, kind, token, project_id, environment_id)


def _public(text: str) -> PublicUrl:
    service, equals, url = text.partition("=")
    return PublicUrl(url, service) if equals and service in SERVICES else PublicUrl(text)
