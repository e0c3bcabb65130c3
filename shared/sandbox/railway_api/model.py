"""What exists on the platform: projects, environments, services, deployments, volumes, buckets. Plain data, no decisions.

Names of attributes follow Railway's, in this language's spelling. Whoever reads or writes it holds `Platform.lock`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from shared.sandbox.railway_runtime.containers import Container, LogLine

__all__ = [
    "IN_PROGRESS",
    "AuditEntry",
    "Bucket",
    "BucketInstance",
    "Clock",
    "Deployment",
    "Domain",
    "Environment",
    "Event",
    "NotificationRule",
    "Patch",
    "Project",
    "Service",
    "ServiceInstance",
    "Settings",
    "Snapshot",
    "Stored",
    "TcpProxy",
    "Template",
    "Variable",
    "Volume",
    "VolumeBackup",
    "VolumeInstance",
    "new_id",
]

IN_PROGRESS = frozenset({"QUEUED", "WAITING", "INITIALIZING", "BUILDING", "DEPLOYING", "NEEDS_APPROVAL"})
"""Statuses of deployments that are on their way."""


def new_id() -> str:
    """An id as Railway's: a UUID."""
    return str(uuid.uuid4())


class Clock:
    """The platform's time, UTC; it can be moved on, so that a window of days passes in a test."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """What time it is there."""
        return datetime.now(UTC) + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move on."""
        self._ahead += by


@dataclass(kw_only=True)
class Stored:
    """What everything on the platform has."""

    id: str = field(default_factory=new_id)
    created_at: datetime
    updated_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.updated_at = self.created_at


@dataclass(frozen=True)
class Settings:
    """What a service is made from, beside its variables.

    Attributes:
        image, repo: its source. values: the rest, under Railway's names; what is missing has the platform's default.
    """

    image: str | None = None
    repo: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def updated(self, values: Mapping[str, Any]) -> Settings:
        """These with others in their place; None takes a setting back."""
        source = values.get("source")
        image, repo = (source.get("image"), source.get("repo")) if source else (self.image, self.repo)
        kept = {**self.values, **{name: value for name, value in values.items() if name != "source"}}
        return replace(self, image=image, repo=repo, values={name: value for name, value in kept.items() if value is not None})

    def get(self, name: str, default: Any = None) -> Any:
        """A setting under Railway's name."""
        return self.values.get(name, default)

    @property
    def restart_policy(self) -> str:
        """ALWAYS, ON_FAILURE or NEVER."""
        return str(self.get("restartPolicyType", "ON_FAILURE"))

    @property
    def restarts(self) -> int:
        """How often a container that ended is started again."""
        return int(self.get("restartPolicyMaxRetries", 10))

    @property
    def draining_seconds(self) -> float:
        """Between SIGTERM and SIGKILL; the default is none."""
        return float(self.get("drainingSeconds", 0))


@dataclass(kw_only=True)
class Variable(Stored):
    """A variable of a service, or one that an environment shares. The value may hold references."""

    name: str
    value: str = field(repr=False)
    is_sealed: bool = False


@dataclass(kw_only=True)
class Domain(Stored):
    """Where a service can be reached from outside: one that the platform made, or one of the user's own."""

    domain: str
    target_port: int | None
    is_custom: bool = False


@dataclass(kw_only=True)
class TcpProxy(Stored):
    """A port of a service that is open to the world."""

    application_port: int
    domain: str
    proxy_port: int


@dataclass(frozen=True)
class Snapshot:
    """What a deployment was made from, once and for all.

    Attributes:
        variables: rendered. sealed: the names among them whose values the API never tells.
        is_retained: the platform has the image itself, and asks no registry for it.
    """

    settings: Settings
    variables: Mapping[str, str] = field(repr=False)
    sealed: frozenset[str] = frozenset()
    is_retained: bool = False


@dataclass(kw_only=True)
class Event(Stored):
    """A step of a deployment."""

    step: str
    completed_at: datetime | None = None
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Deployment(Stored):
    """One attempt to run a service.

    Attributes:
        reason: deploy, redeploy or rollback. instance_id: of its container. instance_status: as `DeploymentInstanceStatus`.
        earlier_logs: of the containers that it had before this one. digest: of the image that was pulled.
        succeeded: whether it was ever SUCCESS. removed_at: when it went to history.
        is_given_up: it was cancelled, or a newer one overtook it. restarts: how often its container was started again.
    """

    environment_id: str
    service_id: str
    snapshot: Snapshot
    reason: Literal["deploy", "redeploy", "rollback"] = "deploy"
    status: str = "QUEUED"
    status_at: datetime = field(init=False)
    instance_id: str = field(default_factory=new_id)
    instance_status: str | None = None
    container: Container | None = None
    earlier_logs: list[LogLine] = field(default_factory=list)
    digest: str | None = None
    succeeded: bool = False
    removed_at: datetime | None = None
    is_given_up: bool = False
    restarts: int = 0
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.status_at = self.created_at

    @property
    def in_progress(self) -> bool:
        """Whether it is still on its way."""
        return self.status in IN_PROGRESS

    @property
    def is_active(self) -> bool:
        """Whether it is the one that serves, or did until it was stopped or ended by itself."""
        return self.status in ("SUCCESS", "SLEEPING")

    @property
    def is_current(self) -> bool:
        """Whether a new one takes its place: it is active, or crashed."""
        return self.is_active or self.status == "CRASHED"

    @property
    def is_stopped(self) -> bool:
        """Whether none of its instances runs any more."""
        return self.instance_status in ("STOPPED", "EXITED", "CRASHED", "REMOVED")


@dataclass(kw_only=True)
class ServiceInstance(Stored):
    """A service in an environment.

    Attributes:
        deployments: oldest first. limits: what overrides those of the plan, `{"containers": {"cpu", "memoryBytes"}}`, or None.
    """

    service_id: str
    environment_id: str
    settings: Settings = field(default_factory=Settings)
    variables: dict[str, Variable] = field(default_factory=dict)
    deployments: list[Deployment] = field(default_factory=list)
    domains: list[Domain] = field(default_factory=list)
    tcp_proxies: dict[int, TcpProxy] = field(default_factory=dict)
    limits: dict[str, Any] | None = None


@dataclass(kw_only=True)
class Service(Stored):
    """A service of a project, in whatever environments."""

    name: str
    project_id: str
    icon: str | None = None


@dataclass(kw_only=True)
class VolumeBackup(Stored):
    """A copy of a volume. expires_at: None where it is locked or was never to expire."""

    name: str
    directory: Path
    used_mb: float
    expires_at: datetime | None = None


@dataclass(kw_only=True)
class Volume(Stored):
    """A volume of a project."""

    name: str
    project_id: str


@dataclass(kw_only=True)
class VolumeInstance(Stored):
    """A volume in an environment.

    Attributes:
        directory: its data. service_id: None where it is mounted nowhere. schedules: DAILY, WEEKLY, MONTHLY.
    """

    volume_id: str
    environment_id: str
    directory: Path
    mount_path: str
    service_id: str | None
    size_mb: int
    region: str
    state: str = "READY"
    backups: list[VolumeBackup] = field(default_factory=list)
    schedules: dict[str, datetime] = field(default_factory=dict)


@dataclass(kw_only=True)
class Bucket(Stored):
    """The definition of a bucket; that there is one in an environment is said by a `BucketInstance`."""

    name: str
    project_id: str


@dataclass(kw_only=True)
class BucketInstance(Stored):
    """A bucket in an environment, with its credentials under the names of the variables that services may refer to."""

    bucket_id: str
    region: str
    credentials: dict[str, str] = field(repr=False)


@dataclass(kw_only=True)
class Patch(Stored):
    """A change of an environment's configuration that was committed."""

    content: dict[str, Any] = field(repr=False)
    message: str | None
    error: str | None = None


@dataclass(kw_only=True)
class Environment(Stored):
    """An environment. instances, buckets: by the id of the service, of the bucket; volumes: by the instance's own id."""

    name: str
    project_id: str
    is_ephemeral: bool = False
    source_environment_id: str | None = None
    instances: dict[str, ServiceInstance] = field(default_factory=dict)
    shared_variables: dict[str, Variable] = field(default_factory=dict)
    volumes: dict[str, VolumeInstance] = field(default_factory=dict)
    buckets: dict[str, BucketInstance] = field(default_factory=dict)
    staged: dict[str, Any] = field(default_factory=dict, repr=False)
    staged_id: str = field(default_factory=new_id)
    patches: list[Patch] = field(default_factory=list)

    def volume_of(self, service_id: str) -> VolumeInstance | None:
        """The volume that is mounted in a service here."""
        return next((one for one in self.volumes.values() if one.service_id == service_id), None)


@dataclass(kw_only=True)
class Project(Stored):
    """A project with everything in it, by ids."""

    name: str
    workspace_id: str
    description: str | None = None
    is_public: bool = False
    template_id: str | None = None
    environments: dict[str, Environment] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    buckets: dict[str, Bucket] = field(default_factory=dict)


@dataclass(kw_only=True)
class Template(Stored):
    """A template that was generated from a project."""

    code: str
    name: str
    workspace_id: str
    project_id: str
    config: dict[str, Any] = field(repr=False)
    status: str = "UNPUBLISHED"
    published: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class AuditEntry(Stored):
    """One line of the audit log: which mutation was asked for, on what."""

    event_type: str
    project_id: str | None
    environment_id: str | None


@dataclass(kw_only=True)
class NotificationRule(Stored):
    """Which events are told where. channels: as they were given; they may hold secrets."""

    workspace_id: str
    project_id: str | None
    event_types: list[str]
    severities: list[str]
    ephemeral_environments: bool
    channels: list[Any] = field(repr=False)
