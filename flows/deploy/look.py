"""Read from Railway what a deploy has to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from blocks.railway_api.api import RailwayApi
from blocks.railway_api.models import DeploymentStatus, ServiceInstance
from flows.deploy.present import Present, PresentService, PresentVolume, Shape
from flows.deploy.variables import public
from railway.stack import Stack

__all__ = ["look"]

_GB = 1_000_000_000


def look(api: RailwayApi, stack: Stack, *, before: Present | None = None, fresh: Collection[str] = ()) -> Present:
    """Look at an environment.

    Args:
        api: of the environment.
        stack: what is to be there. Of other services little but the name is read: their variables are not our business.
        before: an earlier look, whose variables and limits are taken for those of every service that is not in `fresh`: there
            are two requests a service, and a thousand an hour on Railway's smallest plan. None: all are read.
    Raises:
        RailwayError: it cannot be read, or not by this token.
    """
    api.graphql.secrets.publish(public(stack))
    inventory = api.inventory()
    sealed: dict[str, set[str]] = {}
    for meta in api.variable_meta():
        if meta.sealed and meta.service_id:
            sealed.setdefault(meta.service_id, set()).add(meta.name)
    services = {}
    for name, instance in inventory.services.items():
        if name in stack.services:
            known = None if before is None or name in fresh else before.services.get(name)
            services[name] = _service(api, instance, frozenset(sealed.get(instance.service_id, ())), known)
        else:
            services[name] = PresentService(instance.service_id, name, image=instance.image, shape=_shape(instance))
    # A project's token may often not read the project; without buckets nobody needs to.
    buckets = frozenset(bucket.name for bucket in api.project().buckets) if stack.buckets else frozenset()
    return Present(services, buckets, inventory.unmerged_changes or 0)


def _service(
    api: RailwayApi, instance: ServiceInstance, sealed: frozenset[str], known: PresentService | None
) -> PresentService:
    latest, volume = instance.latest, instance.volume
    variables = known.variables if known else api.variables(instance.service_id)
    memory_gb, cpus = (known.shape.memory_gb, known.shape.cpus) if known else _caps(api.current_limits(instance.service_id))
    return PresentService(
        id=instance.service_id,
        name=instance.name,
        image=instance.image,
        runs=latest.image if latest else None,
        shape=replace(_shape(instance), memory_gb=memory_gb, cpus=cpus),
        volume=PresentVolume(volume.volume_id, volume.mount_path, volume.size_mb / 1000) if volume else None,
        variables={name: value for name, value in variables.items() if name not in sealed},
        sealed=sealed,
        domains=tuple(domain.domain for domain in instance.domains if not domain.custom),
        state=latest.status.value if latest else "",
        running=latest is not None and latest.status is DeploymentStatus.SUCCESS and not latest.stopped,
    )


def _caps(limits: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Read memory (GB) and CPUs out of what Railway says of the limits."""
    caps = limits.get("containers") or {}
    return (caps["memoryBytes"] / _GB if caps.get("memoryBytes") else None), caps.get("cpu")


def _shape(instance: ServiceInstance) -> Shape:
    return Shape(
        start_command=instance.start_command,
        health_path=instance.healthcheck_path,
        health_timeout=instance.healthcheck_timeout,
        restart_policy=instance.restart_policy,
        restart_retries=instance.restart_retries,
        draining_seconds=instance.draining_seconds,
        overlap_seconds=instance.overlap_seconds,
    )
