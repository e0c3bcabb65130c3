"""The platform as a whole: what exists, its time, its lock, and how things are found in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shared.sandbox.railway_api.access import ApiError, NotAuthorized, Token
from shared.sandbox.railway_api.bucket_hosts import BucketHost
from shared.sandbox.railway_api.deployment_model import Deployment
from shared.sandbox.railway_api.model import (
    AuditEntry,
    Bucket,
    Environment,
    NotificationRule,
    Project,
    Service,
    ServiceInstance,
    Template,
    Volume,
    VolumeInstance,
)
from shared.sandbox.railway_api.options import Behaviour, Pace
from shared.sandbox.railway_api.stored import Clock, new_id
from shared.sandbox.railway_runtime.containers import Runtime

if TYPE_CHECKING:
    from shared.sandbox.railway_api.limits import Meter
    from shared.sandbox.railway_api.machine import Machine
    from shared.sandbox.railway_api.workflows import Workflows

__all__ = ["REGION", "Platform", "Scope"]

REGION = "europe-west4-drams3a"
"""Where everything is."""

T = TypeVar("T")


class Platform:
    """What stands behind the API.

    Args:
        directory: the data of volumes and of their backups. runtime: where containers run.
        buckets: where buckets are.
    Attributes:
        lock: held by whoever reads or writes anything here.
        closing: set, under the lock, when all is to end; nothing is started any more.
        machine, meter, workflows: what works beside the requests, and counts them; set by the stand-in.
    """

    workspace_name = "Sandbox"
    machine: Machine
    meter: Meter
    workflows: Workflows

    def __init__(self, directory: Path, runtime: Runtime, *, behaviour: Behaviour, pace: Pace, buckets: BucketHost) -> None:
        self.directory = directory
        self.runtime = runtime
        self.behaviour = behaviour
        self.pace = pace
        self.buckets = buckets
        self.lock = threading.RLock()
        self.closing = threading.Event()
        self.clock = Clock()
        self.workspace_id = new_id()
        self.created_at = self.clock.now()
        self.projects: dict[str, Project] = {}
        self.templates: dict[str, Template] = {}
        self.tokens: dict[str, Token] = {}
        self.rules: dict[str, NotificationRule] = {}
        self.audit: list[AuditEntry] = []
        self.readings: dict[tuple[str, str], list[tuple[float, float]]] = {}

    def create_project(self, name: str, environment_name: str = "production", description: str | None = None) -> Project:
        """A project with one environment."""
        project = Project(name=name, workspace_id=self.workspace_id, description=description, created_at=self.clock.now())
        self.projects[project.id] = project
        self.create_environment(project, environment_name)
        return project

    def create_environment(self, project: Project, name: str, *, is_ephemeral: bool = False) -> Environment:
        """An environment without anything in it.

        Raises:
            ApiError: the project has one of that name.
        """
        if any(one.name == name for one in project.environments.values()):
            raise ApiError(f"Environment with name {name} already exists in this project")
        made = Environment(name=name, project_id=project.id, is_ephemeral=is_ephemeral, created_at=self.clock.now())
        project.environments[made.id] = made
        return made

    def environments(self) -> Iterator[Environment]:
        """All, of all projects."""
        for project in self.projects.values():
            yield from project.environments.values()

    def deployments(self) -> Iterator[Deployment]:
        """All there ever were."""
        for environment in self.environments():
            for instance in environment.instances.values():
                yield from instance.deployments

    def project_of(self, environment: Environment) -> Project:
        """The project that an environment is of."""
        return self.projects[environment.project_id]

    def service_name(self, environment: Environment, service_id: str) -> str:
        """The name of a service."""
        return self.project_of(environment).services[service_id].name


class Scope:
    """What a token can see of the platform. Everything that a request names is looked up here.

    Raises, from every method:
        NotAuthorized: the thing belongs to somebody else, as far as this token goes.
        ApiError: there is none.
    """

    def __init__(self, platform: Platform, token: Token | None) -> None:
        self.platform, self.token = platform, token

    def project(self, project_id: str) -> Project:
        """A project by its id."""
        if self._is_bound and self._token.project_id != project_id:
            raise NotAuthorized
        return _found(self.platform.projects.get(project_id), "Project")

    def environment(self, environment_id: str, project_id: str | None = None) -> Environment:
        """An environment by its id; with a project's id, only if it is of that."""
        if self._is_bound and self._token.environment_id != environment_id:
            raise NotAuthorized
        one = _found(next((one for one in self.platform.environments() if one.id == environment_id), None), "Environment")
        if project_id is not None and one.project_id != project_id:
            raise ApiError("Environment not found")
        return one

    def environments(self, project: Project, environment_id: str | None) -> list[Environment]:
        """The one that is named, or, where none is, all that are no forks: the trap of leaving the argument out."""
        if environment_id is not None:
            return [self.environment(environment_id, project.id)]
        return [self.environment(one.id) for one in project.environments.values() if not one.is_ephemeral]

    def service(self, service_id: str) -> tuple[Project, Service]:
        """A service by its id, with its project."""
        for project in self.platform.projects.values():
            if service_id in project.services:
                return self.project(project.id), project.services[service_id]
        raise ApiError("Service not found")

    def instance(self, service_id: str, environment_id: str) -> tuple[Environment, ServiceInstance]:
        """A service in an environment."""
        environment = self.environment(environment_id)
        return environment, _found(environment.instances.get(service_id), "ServiceInstance")

    def deployment(self, deployment_id: str) -> Deployment:
        """A deployment by its id."""
        one = _found(next((one for one in self.platform.deployments() if one.id == deployment_id), None), "Deployment")
        self.environment(one.environment_id)
        return one

    def volume(self, volume_id: str) -> tuple[Project, Volume]:
        """A volume by its id, with its project."""
        for project in self.platform.projects.values():
            if volume_id in project.volumes:
                return self.project(project.id), project.volumes[volume_id]
        raise ApiError("Volume not found")

    def volume_instance(self, instance_id: str) -> tuple[Environment, VolumeInstance]:
        """A volume in an environment by the instance's own id."""
        for environment in self.platform.environments():
            if instance_id in environment.volumes:
                return self.environment(environment.id), environment.volumes[instance_id]
        raise ApiError("VolumeInstance not found")

    def bucket(self, bucket_id: str) -> Bucket:
        """The definition of a bucket."""
        for project in self.platform.projects.values():
            if bucket_id in project.buckets:
                return self.project(project.id).buckets[bucket_id]
        raise ApiError("Bucket not found")

    def workspace(self, workspace_id: str | None) -> str:
        """The id of the workspace, which may be left out."""
        if workspace_id not in (None, self.platform.workspace_id):
            raise NotAuthorized
        return self.platform.workspace_id

    @property
    def _token(self) -> Token:
        if self.token is None:
            raise NotAuthorized
        return self.token

    @property
    def _is_bound(self) -> bool:
        return self._token.kind == "project"


def _found(value: T | None, what: str) -> T:
    if value is None:
        raise ApiError(f"{what} not found")
    return value
