"""Projects, environments, services, volumes and buckets as the API shows them."""

from __future__ import annotations

from typing import Any

from shared.sandbox.railway_api.configuration import configuration, etag, masked, unmerged
from shared.sandbox.railway_api.connections import View, connection
from shared.sandbox.railway_api.deployment_views import deployment_view
from shared.sandbox.railway_api.disk import megabytes
from shared.sandbox.railway_api.model import (
    Bucket,
    Environment,
    NotificationRule,
    Patch,
    Project,
    Service,
    ServiceInstance,
    Template,
    Variable,
    Volume,
    VolumeBackup,
    VolumeInstance,
)
from shared.sandbox.railway_api.network_views import domains_view
from shared.sandbox.railway_api.platform import REGION, Platform
from shared.sandbox.railway_api.references import references
from shared.sandbox.railway_api.stored import Stored

__all__ = [
    "backup_view",
    "bucket_view",
    "environment_view",
    "instance_view",
    "patch_view",
    "project_view",
    "rule_view",
    "service_view",
    "staged_view",
    "template_view",
    "volume_instance_view",
    "volume_view",
    "workspace_view",
]


def workspace_view(platform: Platform) -> View:
    """The one workspace."""
    return {
        "id": platform.workspace_id,
        "name": platform.workspace_name,
        "createdAt": platform.created_at,
        "apiTokenRateLimit": lambda info: platform.meter.left(info.context.token),
        "plan": platform.behaviour.plan.name.upper(),
        "projects": connection(lambda: [project_view(platform, one) for one in platform.projects.values()]),
    }


def project_view(platform: Platform, project: Project) -> View:
    """A project."""

    def environments(_info: Any, isEphemeral: bool | None = None, **paging: Any) -> View:  # noqa: N803 - name of the API
        wanted = [one for one in project.environments.values() if isEphemeral in (None, one.is_ephemeral)]
        return connection(lambda: [environment_view(platform, one) for one in wanted])(_info, **paging)

    permanent = [one.id for one in project.environments.values() if not one.is_ephemeral]
    return {
        **_stored(project),
        "deletedAt": None,
        "name": project.name,
        "description": project.description,
        "isPublic": project.is_public,
        "workspaceId": project.workspace_id,
        "workspace": lambda _info: workspace_view(platform),
        "subscriptionType": platform.behaviour.plan.name,
        "primaryEnvironmentId": permanent[0] if permanent else None,
        "environments": environments,
        "services": connection(lambda: [service_view(platform, project, one) for one in project.services.values()]),
        "volumes": connection(lambda: [volume_view(platform, project, one) for one in project.volumes.values()]),
        "buckets": connection(lambda: [bucket_view(one) for one in project.buckets.values()]),
    }


def environment_view(platform: Platform, environment: Environment) -> View:
    """An environment with all that is in it."""
    project = platform.project_of(environment)

    def config(_info: Any, decryptVariables: bool | None = None) -> View:  # noqa: N803 - name of the API
        content = configuration(environment)
        return content if decryptVariables else masked(content)

    def source(_info: Any) -> View | None:
        origin = project.environments.get(environment.source_environment_id or "")
        return environment_view(platform, origin) if origin else None

    return {
        **_stored(environment),
        "deletedAt": None,
        "name": environment.name,
        "projectId": environment.project_id,
        "isEphemeral": environment.is_ephemeral,
        "sourceEnvironment": source,
        "config": config,
        "configEtag": lambda _info: etag(environment),
        "unmergedChangesCount": unmerged(environment.staged),
        "serviceInstances": connection(lambda: [instance_view(platform, one) for one in environment.instances.values()]),
        "variables": connection(lambda: _variables(environment)),
        "volumeInstances": connection(
            lambda: [volume_instance_view(platform, environment, one) for one in environment.volumes.values()]
        ),
    }


def service_view(platform: Platform, project: Project, service: Service) -> View:
    """A service, whatever the environment."""
    return {
        **_stored(service),
        "deletedAt": None,
        "name": service.name,
        "icon": service.icon,
        "projectId": service.project_id,
        "project": lambda _info: project_view(platform, project),
    }


def instance_view(platform: Platform, instance: ServiceInstance) -> View:
    """A service in an environment."""
    settings = instance.settings
    environment = next(one for one in platform.environments() if one.id == instance.environment_id)
    project = platform.project_of(environment)
    service = project.services[instance.service_id]
    names = (
        *("cronSchedule", "drainingSeconds", "healthcheckPath", "healthcheckTimeout", "overlapSeconds"),
        *("preDeployCommand", "sleepApplication", "startCommand"),
    )
    latest = instance.deployments[-1] if instance.deployments else None
    return {
        **_stored(instance),
        **{name: settings.get(name) for name in names},
        "builder": settings.get("builder", "RAILPACK"),
        "deletedAt": None,
        "environmentId": instance.environment_id,
        "isUpdatable": False,
        "nextCronRunAt": None,
        "numReplicas": settings.get("numReplicas", 1),
        "region": settings.get("region", REGION),
        "restartPolicyMaxRetries": settings.restarts,
        "restartPolicyType": settings.restart_policy,
        "service": lambda _info: service_view(platform, project, service),
        "serviceId": service.id,
        "serviceName": service.name,
        "source": {"image": settings.image, "repo": settings.repo} if settings.image or settings.repo else None,
        "domains": lambda _info: domains_view(instance),
        "latestDeployment": lambda _info: deployment_view(platform, latest) if latest else None,
        "activeDeployments": lambda _info: [deployment_view(platform, one) for one in instance.deployments if one.is_active],
    }


def volume_view(platform: Platform, project: Project, volume: Volume) -> View:
    """A volume, whatever the environment."""
    return {
        **_stored(volume),
        "name": volume.name,
        "projectId": volume.project_id,
        "project": lambda _info: project_view(platform, project),
    }


def volume_instance_view(platform: Platform, environment: Environment, one: VolumeInstance) -> View:
    """A volume in an environment; `currentSizeMB` is what its data takes on this machine."""
    project = platform.project_of(environment)
    return {
        **_stored(one),
        "deletedAt": None,
        "currentSizeMB": lambda _info: megabytes(one.directory),
        "environmentId": one.environment_id,
        "externalId": f"vol_{one.id}",
        "isPendingDeletion": False,
        "mountPath": one.mount_path,
        "region": one.region,
        "serviceId": one.service_id,
        "sizeMB": one.size_mb,
        "state": one.state,
        "volumeId": one.volume_id,
        "volume": lambda _info: volume_view(platform, project, project.volumes[one.volume_id]),
    }


def backup_view(one: VolumeBackup, size_mb: int) -> View:
    """A backup of a volume of that size."""
    return {
        **_stored(one),
        "creatorId": None,
        "expiresAt": one.expires_at,
        "externalId": f"backup_{one.id}",
        "name": one.name,
        "referencedMB": round(one.used_mb),
        "scheduleId": None,
        "usedMB": round(one.used_mb),
        "volumeInstanceSizeMB": size_mb,
    }


def bucket_view(one: Bucket) -> View:
    """The definition of a bucket."""
    return {**_stored(one), "groupId": None, "name": one.name, "projectId": one.project_id}


def patch_view(environment: Environment, one: Patch) -> View:
    """A change that was committed."""
    return {
        **_stored(one),
        "appliedAt": one.updated_at,
        "environmentId": environment.id,
        "lastAppliedError": one.error,
        "message": one.message,
        "patch": _patch(one.content),
        "status": "COMMITTED",
    }


def staged_view(environment: Environment) -> View:
    """What is staged, of whomever."""
    return {
        "id": environment.staged_id,
        "createdAt": environment.created_at,
        "updatedAt": environment.updated_at,
        "appliedAt": None,
        "environmentId": environment.id,
        "lastAppliedError": None,
        "message": None,
        "patch": _patch(environment.staged),
        "status": "STAGED",
    }


def template_view(one: Template) -> View:
    """A template."""
    return {
        **_stored(one),
        "category": one.published.get("category"),
        "code": one.code,
        "description": one.published.get("description"),
        "name": one.name,
        "readme": one.published.get("readme"),
        "serializedConfig": one.config,
        "status": one.status,
        "workspaceId": one.workspace_id,
    }


def rule_view(one: NotificationRule) -> View:
    """A rule of notifications."""
    channels = [
        {"id": f"{one.id}-{number}", "config": config, "createdAt": one.created_at, "workspaceId": one.workspace_id}
        for number, config in enumerate(one.channels)
    ]
    return {
        **_stored(one),
        "channels": channels,
        "ephemeralEnvironments": one.ephemeral_environments,
        "eventTypes": one.event_types,
        "projectId": one.project_id,
        "severities": one.severities,
        "workspaceId": one.workspace_id,
    }


def _patch(content: dict[str, Any]) -> Any:
    def patch(_info: Any, decryptVariables: bool | None = None) -> View:  # noqa: N803 - name of the API
        return content if decryptVariables else masked(content)

    return patch


def _variables(environment: Environment) -> list[View]:
    """What is known of all variables, without a value."""
    own: list[tuple[Variable, str | None]] = [(one, None) for one in environment.shared_variables.values()]
    for instance in environment.instances.values():
        own += [(one, instance.service_id) for one in instance.variables.values()]
    return [_variable(environment, one, service_id) for one, service_id in own]


def _variable(environment: Environment, one: Variable, service_id: str | None) -> View:
    return {
        **_stored(one),
        "environmentId": environment.id,
        "isSealed": one.is_sealed,
        "name": one.name,
        "references": [str(reference) for reference in references(one.value)],
        "serviceId": service_id,
    }


def _stored(one: Stored) -> dict[str, Any]:
    return {"id": one.id, "createdAt": one.created_at, "updatedAt": one.updated_at}
