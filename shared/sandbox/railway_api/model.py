"""What exists on the platform: projects, environments, services, volumes, buckets. Plain data, no decisions.

Names of attributes follow Railway's, in this language's spelling. Whoever reads or writes it holds `Platform.lock`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from shared.sandbox.railway_api.deployment_model import Deployment, Settings
from shared.sandbox.railway_api.stored import Stored, new_id

__all__ = [
    "AuditEntry",
    "Bucket",
    "BucketInstance",
    "Domain",
    "Environment",
    "NotificationRule",
    "Patch",
    "Project",
    "Service",
    "ServiceInstance",
    "TcpProxy",
    "Template",
    "Variable",
    "Volume",
    "VolumeBackup",
    "VolumeInstance",
]


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
    is_verified: bool = False
    certificate: str = "VALIDATING_OWNERSHIP"
    """How that of one of the user's own is: VALID, ISSUING, ISSUE_FAILED, VALIDATING_OWNERSHIP."""


@dataclass(kw_only=True)
class TcpProxy(Stored):
    """A port of a service that is open to the world."""

    application_port: int
    domain: str
    proxy_port: int


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
