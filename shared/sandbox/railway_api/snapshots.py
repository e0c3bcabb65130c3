"""What a deployment is made from: the settings of its service, and the variables with everything filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.sandbox.railway_api.deployment_model import Deployment, Snapshot
from shared.sandbox.railway_api.model import Environment, ServiceInstance
from shared.sandbox.railway_api.platform import REGION, Platform
from shared.sandbox.railway_api.references import SHARED, render
from shared.sandbox.railway_runtime.containers import ContainerSpec, Mount

__all__ = ["container_spec", "namespaces", "private_domain", "public_port", "rendered", "take_snapshot"]


def private_domain(name: str) -> str:
    """The host name of a service in its environment's network."""
    return f"{name.lower().replace(' ', '-')}.railway.internal"


def namespaces(platform: Platform, environment: Environment) -> dict[str, dict[str, str]]:
    """All variables of an environment as they were set, with those that the platform adds, by the name of their owner."""
    project = platform.project_of(environment)
    found = {SHARED: {name: one.value for name, one in environment.shared_variables.items()}}
    for bucket_id, bucket in environment.buckets.items():
        found[project.buckets[bucket_id].name] = dict(bucket.credentials)
    for instance in environment.instances.values():
        own = {name: one.value for name, one in instance.variables.items()}
        found[project.services[instance.service_id].name] = {**_provided(platform, environment, instance), **own}
    return found


def rendered(platform: Platform, environment: Environment, service_id: str) -> dict[str, str]:
    """The variables of a service with references filled in, those of the platform among them; the sealed ones, too."""
    return render(namespaces(platform, environment), platform.service_name(environment, service_id))


def take_snapshot(platform: Platform, environment: Environment, instance: ServiceInstance) -> Snapshot:
    """The service as it is configured now."""
    sealed = frozenset(name for name, one in instance.variables.items() if one.is_sealed)
    return Snapshot(instance.settings, rendered(platform, environment, instance.service_id), sealed)


def container_spec(platform: Platform, environment: Environment, deployment: Deployment) -> ContainerSpec:
    """What the runtime is to start for a deployment."""
    snapshot = deployment.snapshot
    volume = environment.volume_of(deployment.service_id)
    own = {
        "RAILWAY_DEPLOYMENT_ID": deployment.id,
        "RAILWAY_SNAPSHOT_ID": deployment.id,
        "RAILWAY_REPLICA_ID": deployment.instance_id,
        "RAILWAY_REPLICA_REGION": REGION,
    }
    variables = {**snapshot.variables, **own}
    return ContainerSpec(
        service=platform.service_name(environment, deployment.service_id),
        image=snapshot.settings.image or "",
        variables=variables,
        start_command=snapshot.settings.get("startCommand"),
        mount=Mount(volume.directory, volume.mount_path) if volume else None,
        port=public_port(variables, environment.instances.get(deployment.service_id)),
    )


def public_port(variables: Mapping[str, str], instance: ServiceInstance | None) -> int | None:
    """Where health checks and visitors are sent: PORT, or what a domain names; None where nothing says it."""
    named = variables.get("PORT", "")
    targets = [one.target_port for one in instance.domains if one.target_port] if instance else []
    return int(named) if named.isdigit() else targets[0] if targets else None


def _provided(platform: Platform, environment: Environment, instance: ServiceInstance) -> dict[str, str]:
    project = platform.project_of(environment)
    name = project.services[instance.service_id].name
    volume = environment.volume_of(instance.service_id)
    optional: dict[str, Any] = {}
    if instance.domains:
        domain = instance.domains[0].domain
        optional = {"RAILWAY_PUBLIC_DOMAIN": domain, "RAILWAY_STATIC_URL": domain}
    for proxy in instance.tcp_proxies.values():
        optional["RAILWAY_TCP_PROXY_DOMAIN"] = proxy.domain
        optional["RAILWAY_TCP_PROXY_PORT"] = str(proxy.proxy_port)
        optional["RAILWAY_TCP_APPLICATION_PORT"] = str(proxy.application_port)
    if volume:
        optional["RAILWAY_VOLUME_NAME"] = project.volumes[volume.volume_id].name
        optional["RAILWAY_VOLUME_MOUNT_PATH"] = volume.mount_path
    return {
        "RAILWAY_ENVIRONMENT": environment.name,
        "RAILWAY_ENVIRONMENT_ID": environment.id,
        "RAILWAY_ENVIRONMENT_NAME": environment.name,
        "RAILWAY_PRIVATE_DOMAIN": private_domain(name),
        "RAILWAY_PROJECT_ID": project.id,
        "RAILWAY_PROJECT_NAME": project.name,
        "RAILWAY_SERVICE_ID": instance.service_id,
        "RAILWAY_SERVICE_NAME": name,
        **optional,
    }
