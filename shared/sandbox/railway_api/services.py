"""Services: made, changed, connected to the world, deleted; and their variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.deployment_model import Settings
from shared.sandbox.railway_api.model import Domain, Environment, Project, Service, ServiceInstance, TcpProxy, Variable
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.references import SHARED, refers_to
from shared.sandbox.railway_api.snapshots import namespaces, public_port, rendered

__all__ = [
    "add_domain",
    "checked_settings",
    "configure",
    "create_service",
    "delete_service",
    "dependants",
    "set_limits",
    "set_proxy",
    "set_variable",
]

_GB = 1_000_000_000


def create_service(
    platform: Platform,
    project: Project,
    environments: Iterable[Environment],
    *,
    name: str | None,
    source: Mapping[str, Any] | None = None,
    variables: Mapping[str, Any] | None = None,
    icon: str | None = None,
    service_id: str | None = None,
) -> Service:
    """Make a service in some environments; nothing is deployed.

    Args:
        name: default one after the image. service_id: as the caller chose it in a patch.
    Raises:
        ApiError: the project has a service of that name.
    """
    now = platform.clock.now()
    image = (source or {}).get("image") or ""
    called = name or image.rpartition("/")[2].partition(":")[0] or f"service-{len(project.services) + 1}"
    if any(one.name == called for one in project.services.values()):
        raise ApiError(f"A service named {called} already exists in this project")
    service = Service(name=called, project_id=project.id, icon=icon, created_at=now)
    service.id = service_id or service.id
    project.services[service.id] = service
    for environment in environments:
        settings = Settings().updated({"source": source} if source else {})
        instance = ServiceInstance(service_id=service.id, environment_id=environment.id, settings=settings, created_at=now)
        environment.instances[service.id] = instance
        for variable, value in (variables or {}).items():
            set_variable(platform, instance.variables, variable, value)
    return service


def configure(environment: Environment, instance: ServiceInstance, values: Mapping[str, Any]) -> None:
    """Change settings, under Railway's names. Nothing is deployed.

    Raises:
        ApiError: replicas of a service that has a volume.
    """
    instance.settings = checked_settings(environment, instance, values)


def checked_settings(environment: Environment, instance: ServiceInstance, values: Mapping[str, Any]) -> Settings:
    """What the settings would be.

    Raises:
        ApiError: replicas of a service that has a volume.
    """
    changed = instance.settings.updated(values)
    if changed.get("numReplicas", 1) > 1 and environment.volume_of(instance.service_id):
        raise ApiError("Services with a volume cannot have replicas")
    return changed


def delete_service(platform: Platform, project: Project, environments: Iterable[Environment], service_id: str) -> None:
    """End a service in some environments; its volume stays, mounted nowhere. Gone from all, the project forgets it."""
    for environment in environments:
        instance = environment.instances.pop(service_id, None)
        if instance is not None:
            platform.machine.end(instance)
        volume = environment.volume_of(service_id)
        if volume is not None:
            volume.service_id = None
    if not any(service_id in environment.instances for environment in project.environments.values()):
        project.services.pop(service_id, None)


def set_variable(
    platform: Platform, variables: dict[str, Variable], name: str, value: Any, *, is_sealed: bool | None = None
) -> None:
    """Set a variable. What is sealed stays sealed.

    Raises:
        ApiError: the value is no text.
    """
    if not isinstance(value, str):
        raise ApiError(f"Variable {name} must be a string")
    known = variables.get(name)
    if known is None:
        variables[name] = Variable(name=name, value=value, is_sealed=bool(is_sealed), created_at=platform.clock.now())
    else:
        known.value, known.is_sealed = value, known.is_sealed or bool(is_sealed)
        known.updated_at = platform.clock.now()


def dependants(
    platform: Platform,
    environment: Environment,
    changed: Iterable[tuple[str | None, str]],
    *,
    others: AbstractSet[tuple[str, str]] = frozenset(),
) -> set[str]:
    """The ids of services whose variables get a value from one of these.

    Args:
        changed: the id of a service, or None for the shared ones, and the name of its variable.
        others: the name of a bucket and of its variable.
    """
    known = environment.instances
    names = {
        (platform.service_name(environment, owner) if owner else SHARED, name)
        for owner, name in changed
        if owner is None or owner in known
    } | others
    values = namespaces(platform, environment)
    return {one for one in environment.instances if refers_to(values, platform.service_name(environment, one), names)}


def add_domain(
    platform: Platform, environment: Environment, instance: ServiceInstance, port: int | None, *, custom: str | None = None
) -> Domain:
    """Open a service to the world under a name that the platform makes, or under one of the user's own.

    Args:
        port: that the domain leads to; default PORT.
    Raises:
        ApiError: there is no port to lead to, or the custom name is taken.
    """
    target = port or public_port(rendered(platform, environment, instance.service_id), instance)
    if target is None:
        raise ApiError("No target port: set PORT or name one")
    if custom and any(one.domain == custom for each in environment.instances.values() for one in each.domains):
        raise ApiError("Domain is already in use")
    name = custom or platform.runtime.public_address(platform.service_name(environment, instance.service_id), target)
    domain = Domain(domain=name, target_port=target, is_custom=bool(custom), created_at=platform.clock.now())
    instance.domains.append(domain)
    return domain


def set_proxy(platform: Platform, environment: Environment, instance: ServiceInstance, port: int, *, is_open: bool) -> None:
    """Open a port of a service to the world, or close it."""
    if not is_open:
        instance.tcp_proxies.pop(port, None)
    elif port not in instance.tcp_proxies:
        address = platform.runtime.public_address(platform.service_name(environment, instance.service_id), port)
        host, _, outside = address.rpartition(":")
        made = TcpProxy(application_port=port, domain=host, proxy_port=int(outside), created_at=platform.clock.now())
        instance.tcp_proxies[port] = made


def set_limits(platform: Platform, instance: ServiceInstance, *, memory_gb: float | None, vcpus: float | None) -> None:
    """What the service may take; what is None goes back to the plan's.

    Raises:
        ApiError: the plan gives less.
    """
    plan = platform.behaviour.plan
    for value, most, what in ((memory_gb, plan.memory_gb, "GB of memory"), (vcpus, plan.vcpus, "vCPUs")):
        if value is not None and not 0 < value <= most:
            raise ApiError(f"{value:g} {what} is not within the plan's limit of {most:g}")
    wanted = {"memoryBytes": memory_gb and round(memory_gb * _GB), "cpu": vcpus}
    containers = {name: value for name, value in wanted.items() if value is not None}
    instance.limits = {"containers": containers} if containers else None
