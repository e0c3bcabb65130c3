"""What Railway answers, typed, and what it is told of a service. Nothing here shows a secret when it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import AliasPath, Field, SecretStr, field_validator

from blocks.errors import RailwayError
from blocks.railway_api.deployment import (
    Answered,
    Deployment,
    DeploymentEvent,
    DeploymentStatus,
    Instance,
    InstanceStatus,
    LogLine,
)

__all__ = [
    "BucketCredentials",
    "Capability",
    "Deployment",
    "DeploymentEvent",
    "DeploymentStatus",
    "Domain",
    "Instance",
    "InstanceStatus",
    "Inventory",
    "LogLine",
    "Named",
    "Project",
    "Sample",
    "Series",
    "ServiceInstance",
    "ServiceSettings",
    "TcpProxy",
    "VariableMeta",
    "VolumeBackup",
    "VolumeInstance",
    "domains_of",
    "nodes",
]


class Named(Answered):
    """Something with an id and a name: a service, a volume, a bucket, an environment, a workspace."""

    id: str
    name: str


class Project(Answered):
    """A project, and the names of what is in it; the lists are those of all its environments."""

    id: str
    name: str
    workspace_id: str | None = None
    environments: tuple[Named, ...] = ()
    services: tuple[Named, ...] = ()
    volumes: tuple[Named, ...] = ()
    buckets: tuple[Named, ...] = ()


class Domain(Answered):
    """A name under which a service is reached; `target_port` None: Railway guesses the port."""

    id: str
    domain: str
    target_port: int | None = None
    custom: bool = False


class TcpProxy(Answered):
    """A port of a service that is open to the internet."""

    id: str
    domain: str
    proxy_port: int
    application_port: int


class VolumeInstance(Answered):
    """A volume in this environment.

    Attributes:
        size_mb, used_mb: how large it is, and how much of it is in use, in MB (1,000,000 bytes).
        service_id: None for a volume that no service has.
    """

    id: str
    volume_id: str
    service_id: str | None = None
    name: str = Field(default="", validation_alias=AliasPath("volume", "name"))
    mount_path: str
    region: str | None = None
    size_mb: int = Field(validation_alias="sizeMB")
    used_mb: float = Field(validation_alias="currentSizeMB")
    state: str | None = None
    pending_deletion: bool = Field(default=False, validation_alias="isPendingDeletion")


class ServiceInstance(Answered):
    """A service in this environment, as it is configured and as it runs.

    Attributes:
        id: of the instance; `service_id` is what nearly every call takes.
        image: configured; what runs is `latest.image`.
        latest: its newest deployment, None before the first. active: what serves now.
        volume: None where it has none.
    """

    id: str
    service_id: str
    name: str = Field(validation_alias="serviceName")
    image: str | None = Field(default=None, validation_alias=AliasPath("source", "image"))
    repo: str | None = Field(default=None, validation_alias=AliasPath("source", "repo"))
    replicas: int | None = Field(default=None, validation_alias="numReplicas")
    region: str | None = None
    start_command: str | None = Field(default=None, repr=False)
    pre_deploy_command: Any = Field(default=None, repr=False)
    healthcheck_path: str | None = None
    healthcheck_timeout: int | None = None
    restart_policy: str | None = Field(default=None, validation_alias="restartPolicyType")
    restart_retries: int | None = Field(default=None, validation_alias="restartPolicyMaxRetries")
    draining_seconds: int | None = None
    overlap_seconds: int | None = None
    cron_schedule: str | None = None
    sleeps: bool | None = Field(default=None, validation_alias="sleepApplication")
    domains: tuple[Domain, ...] = ()
    latest: Deployment | None = Field(default=None, validation_alias="latestDeployment")
    active: tuple[Deployment, ...] = Field(default=(), validation_alias="activeDeployments")
    volume: VolumeInstance | None = None

    @field_validator("domains", mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        return domains_of(value) if isinstance(value, Mapping) else value


class Inventory(Answered):
    """All of an environment in one answer.

    Attributes:
        services: by name. volumes: also those that no service has.
        unmerged_changes: edits that a person has staged and not committed; None where Railway does not say.
    """

    environment_id: str
    name: str
    config_etag: str
    unmerged_changes: int | None
    services: Mapping[str, ServiceInstance]
    volumes: tuple[VolumeInstance, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> Inventory:
        """Make one of what `documents.INVENTORY` brings back below `environment`."""
        volumes = tuple(VolumeInstance.model_validate(one) for one in nodes(environment["volumeInstances"], "volumes"))
        attached = {one.service_id: one for one in volumes if one.service_id}
        found = [ServiceInstance.model_validate(one) for one in nodes(environment["serviceInstances"], "services")]
        return cls(
            environment_id=environment["id"],
            name=environment["name"],
            config_etag=environment["configEtag"],
            unmerged_changes=environment.get("unmergedChangesCount"),
            services={one.name: one.model_copy(update={"volume": attached.get(one.service_id)}) for one in found},
            volumes=volumes,
        )

    def service_name(self, service_id: str | None) -> str | None:
        """Name a service, None where there is none with that id."""
        return next((one.name for one in self.services.values() if one.service_id == service_id), None)


class VariableMeta(Answered):
    """A variable without its value.

    Attributes:
        service_id: None for a shared one. sealed: its value can never be read again, not even by the API.
        references: what it refers to.
    """

    name: str
    service_id: str | None = None
    sealed: bool = Field(validation_alias="isSealed")
    references: tuple[str, ...] = ()


class VolumeBackup(Answered):
    """A backup of a volume on Railway; only restorable into the environment it is of."""

    id: str
    name: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    schedule_id: str | None = None
    used_mb: int | None = Field(default=None, validation_alias="usedMB")
    referenced_mb: int | None = Field(default=None, validation_alias="referencedMB")


class BucketCredentials(Answered):
    """What a bucket is reached with; `name` is S3's, which is not that of the project's bucket."""

    name: str = Field(validation_alias="bucketName")
    endpoint: str
    region: str
    url_style: str = "virtual"
    access_key: SecretStr = Field(validation_alias="accessKeyId")
    secret_key: SecretStr = Field(validation_alias="secretAccessKey")


class Sample(Answered):
    """One measured value and its time in unix seconds."""

    at: int = Field(validation_alias="ts")
    value: float


class Series(Answered):
    """One measurement over time, of one service where it was grouped by service.

    Attributes:
        measurement: a `MetricMeasurement`, for example MEMORY_USAGE_GB. samples: oldest first.
    """

    measurement: str
    service_id: str | None = Field(default=None, validation_alias=AliasPath("tags", "serviceId"))
    volume_id: str | None = Field(default=None, validation_alias=AliasPath("tags", "volumeId"))
    samples: tuple[Sample, ...] = Field(default=(), validation_alias="values")

    @property
    def last(self) -> float | None:
        """The newest value."""
        return max(self.samples, key=lambda one: one.at).value if self.samples else None


class Capability(Answered):
    """Whether the token may do something. `allowed` None: could not be tried; `note` says why."""

    name: str
    allowed: bool | None
    note: str = ""


class ServiceSettings(Answered):
    """What is to be changed of a service's configuration; what is not given is left as it is, None resets it.

    Attributes:
        image: with an exact tag. healthcheck_timeout, draining_seconds, overlap_seconds: seconds.
        restart_policy: what happens when its process ends. replicas: not for a service with a volume.
    """

    image: str | None = None
    start_command: str | None = Field(default=None, repr=False)
    pre_deploy_command: list[str] | None = Field(default=None, repr=False)
    healthcheck_path: str | None = None
    healthcheck_timeout: int | None = None
    restart_policy: Literal["ALWAYS", "NEVER", "ON_FAILURE"] | None = Field(
        default=None, serialization_alias="restartPolicyType"
    )
    restart_retries: int | None = Field(default=None, serialization_alias="restartPolicyMaxRetries")
    draining_seconds: int | None = None
    overlap_seconds: int | None = None
    cron_schedule: str | None = None
    replicas: int | None = Field(default=None, serialization_alias="numReplicas")
    region: str | None = None
    sleeps: bool | None = Field(default=None, serialization_alias="sleepApplication")

    def as_input(self) -> dict[str, Any]:
        """Make the `ServiceInstanceUpdateInput` of it: only what was given."""
        given = self.model_dump(by_alias=True, exclude_unset=True)
        if "image" in given:
            given["source"] = {"image": given.pop("image")}
        return given


def domains_of(found: Mapping[str, Any]) -> list[Domain]:
    """Make one list of Railway's two kinds of domains."""
    plain = [Domain.model_validate(one) for one in found.get("serviceDomains", ())]
    return plain + [Domain.model_validate({**one, "custom": True}) for one in found.get("customDomains", ())]


def nodes(connection: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    """Take the nodes out of a connection.

    Raises:
        RailwayError: there are more than were asked for.
    """
    if (connection.get("pageInfo") or {}).get("hasNextPage"):
        raise RailwayError(
            f"railway: more {what} than one page holds; this project operates a stack of a dozen", permanent=True
        )
    return [edge["node"] for edge in connection["edges"] if edge.get("node")]
