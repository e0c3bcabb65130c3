"""Measurements: disks as they are on this machine, limits as they are configured, the rest as a test says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.disk import megabytes
from shared.sandbox.railway_api.model import Environment, ServiceInstance
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.schema import Call

__all__ = ["limits_of", "metrics"]

_TAGS = {
    "ENVIRONMENT_ID": "environmentId",
    "PROJECT_ID": "projectId",
    "SERVICE_ID": "serviceId",
    "VOLUME_ID": "volumeId",
    "VOLUME_INSTANCE_ID": "volumeInstanceId",
}
_SAMPLE_SECONDS = 60


@dataclass(frozen=True)
class _Sample:
    tags: Mapping[str, str | None]
    at: float
    value: float


def limits_of(platform: Platform, instance: ServiceInstance) -> dict[str, Any]:
    """What a service may take: the plan's, or what overrides them."""
    plan = platform.behaviour.plan
    containers = {"cpu": plan.vcpus, "memoryBytes": round(plan.memory_gb * 1e9)}
    return {"containers": {**containers, **(instance.limits or {}).get("containers", {})}}


def metrics(call: Call) -> list[View]:
    """The series that are asked for; a measurement of which nothing is known is there, without a sample."""
    now = call.platform.clock.now()
    since, until = call["startDate"].timestamp(), (call.get("endDate") or now).timestamp()
    every = call.get("sampleRateSeconds") or _SAMPLE_SECONDS
    group = [_TAGS[one] for one in call.get("groupBy") or () if one in _TAGS]
    result: list[View] = []
    for measurement in call["measurements"]:
        series: dict[tuple[str | None, ...], dict[int, float]] = {}
        for sample in _samples(call, measurement, now.timestamp()):
            if since <= sample.at <= until:
                values = series.setdefault(tuple(sample.tags.get(name) for name in group), {})
                at = int(sample.at // every * every)
                values[at] = values.get(at, 0.0) + sample.value
        for tags, values in (series or {(None,) * len(group): {}}).items():
            points = [{"ts": at, "value": value} for at, value in sorted(values.items())]
            result.append({"measurement": measurement, "tags": dict(zip(group, tags, strict=True)), "values": points})
    return result


def _samples(call: Call, measurement: str, now: float) -> Iterator[_Sample]:
    platform = call.platform
    for environment in _environments(call):
        here = {"environmentId": environment.id, "projectId": environment.project_id}
        for instance in environment.instances.values():
            if call.get("serviceId") in (None, instance.service_id) and call.get("volumeId") is None:
                tags = {**here, "serviceId": instance.service_id}
                for at, value in _of_service(platform, instance, measurement, now):
                    yield _Sample(tags, at, value)
        for volume in environment.volumes.values():
            if call.get("serviceId") in (None, volume.service_id) and call.get("volumeId") in (None, volume.volume_id):
                ids = {"volumeId": volume.volume_id, "volumeInstanceId": volume.id, "serviceId": volume.service_id}
                if measurement == "DISK_USAGE_GB":
                    yield _Sample({**here, **ids}, now, megabytes(volume.directory) / 1000)
                if measurement == "BACKUP_USAGE_GB":
                    yield _Sample({**here, **ids}, now, sum(one.used_mb for one in volume.backups) / 1000)


def _environments(call: Call) -> list[Environment]:
    """Those that are asked for; a workspace's token may ask for a whole project."""
    if call.get("environmentId"):
        return [call.scope.environment(call["environmentId"], call.get("projectId"))]
    if call.get("projectId"):
        return call.scope.environments(call.scope.project(call["projectId"]), None)
    return [one for project in call.platform.projects.values() for one in call.scope.environments(project, None)]


def _of_service(platform: Platform, instance: ServiceInstance, measurement: str, now: float) -> list[tuple[float, float]]:
    containers = limits_of(platform, instance)["containers"]
    if measurement == "CPU_LIMIT":
        return [(now, containers["cpu"])]
    if measurement == "MEMORY_LIMIT_GB":
        return [(now, containers["memoryBytes"] / 1e9)]
    return platform.readings.get((instance.service_id, measurement), [])
