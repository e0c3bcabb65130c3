"""Patches of an environment's configuration, committed: what they change, and what is deployed then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.buckets import add_bucket_instance, check_region
from shared.sandbox.railway_api.configuration import Document
from shared.sandbox.railway_api.model import Environment, Patch, Project, ServiceInstance
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.services import (
    checked_settings,
    configure,
    create_service,
    delete_service,
    dependants,
    set_proxy,
    set_variable,
)
from shared.sandbox.railway_api.volumes import add_volume_instance, create_volume, delete_volume

__all__ = ["commit"]

_QUIET = frozenset({"multiRegionConfig", "numReplicas", "limitOverride"})  # scaling starts replicas, it deploys nothing


def commit(
    platform: Platform, environment: Environment, content: Document, *, message: str | None, skip_deploys: bool = False
) -> Patch:
    """Apply a patch and deploy, in the order of references, what it changes and what depends on a variable that it changes.

    Raises:
        ApiError: it names what there is not, or asks for what cannot be; then nothing was changed.
    """
    _Check(platform, environment).all(content)
    change = _Change(platform, environment)
    change.all(content)
    touched = change.touched | dependants(platform, environment, change.variables)
    patch = Patch(content=content, message=message, created_at=platform.clock.now())
    environment.patches.insert(0, patch)
    environment.updated_at = patch.created_at
    if not skip_deploys:
        platform.machine.deploy_batch(environment, sorted(touched))
    return patch


class _Check:
    """What is asked for exists, before anything is changed."""

    def __init__(self, platform: Platform, environment: Environment) -> None:
        self._environment, self._project = environment, platform.project_of(environment)

    def all(self, content: Document) -> None:
        volumes = dict(_items(content, "volumes"))
        for service_id, part in _items(content, "services"):
            self._service(service_id, part or {}, volumes)
        self._variables(content.get("sharedVariables"))
        for volume_id, part in volumes.items():
            self._volume(volume_id, part or {})
        for bucket_id, part in _items(content, "buckets"):
            if part and bucket_id not in self._project.buckets:
                raise ApiError(f"Bucket {bucket_id} not found")
            if part and not part.get("isDeleted"):
                check_region(self._environment, bucket_id, part.get("region"))

    def _service(self, service_id: str, part: Document, volumes: Document) -> None:
        instance = self._environment.instances.get(service_id)
        if part and instance is None and not part.get("isCreated"):
            raise ApiError(f"Service {service_id} not found")
        if instance is not None:
            checked_settings(self._environment, instance, part.get("deploy") or {})
        self._variables(part.get("variables"))
        for volume_id, mount in _items(part, "volumeMounts"):
            created = volumes.get(volume_id) or {}
            if mount and volume_id not in self._project.volumes and not created.get("isCreated"):
                raise ApiError(f"Volume {volume_id} not found")

    def _variables(self, variables: Document | None) -> None:
        for name, part in (variables or {}).items():
            if part is not None and not isinstance(_value(part), str):
                raise ApiError(f"Variable {name} must be a string")

    def _volume(self, volume_id: str, part: Document) -> None:
        known = next((one for one in self._environment.volumes.values() if one.volume_id == volume_id), None)
        if known is None and not part.get("isCreated"):
            raise ApiError(f"Volume {volume_id} not found")
        if known is not None and (part.get("sizeMB") or known.size_mb) < known.size_mb:
            raise ApiError("Volumes cannot be made smaller")


class _Change:
    """Applies a patch.

    Attributes:
        touched: ids of services that have to be deployed. variables: that changed, by service or None for shared ones.
    """

    def __init__(self, platform: Platform, environment: Environment) -> None:
        self._platform, self._environment = platform, environment
        self._project: Project = platform.project_of(environment)
        self.touched: set[str] = set()
        self.variables: set[tuple[str | None, str]] = set()

    def all(self, content: Document) -> None:
        for bucket_id, part in _items(content, "buckets"):
            self._bucket(bucket_id, part)
        for volume_id, part in _items(content, "volumes"):
            self._volume(volume_id, part or {})
        for name, part in _items(content, "sharedVariables"):
            self._variable(None, self._environment.shared_variables, name, part)
        for service_id, part in _items(content, "services"):
            self._service(service_id, part)

    def _bucket(self, bucket_id: str, part: Document | None) -> None:
        if not part or part.get("isDeleted"):
            self._environment.buckets.pop(bucket_id, None)
        else:
            add_bucket_instance(self._platform, self._environment, self._project.buckets[bucket_id], part["region"])

    def _volume(self, volume_id: str, part: Document) -> None:
        if part.get("isDeleted"):
            delete_volume(self._platform, self._project, self._project.volumes[volume_id])
            return
        known = next((one for one in self._environment.volumes.values() if one.volume_id == volume_id), None)
        if known is None:
            volume = self._project.volumes.get(volume_id) or create_volume(self._platform, self._project, volume_id=volume_id)
            known = add_volume_instance(self._platform, self._environment, volume, mount_path="/data", service_id=None)
        known.size_mb = part.get("sizeMB") or known.size_mb

    def _service(self, service_id: str, part: Document | None) -> None:
        if not part or part.get("isDeleted"):
            delete_service(self._platform, self._project, [self._environment], service_id)
            return
        if service_id not in self._environment.instances:
            create_service(self._platform, self._project, [self._environment], name=part.get("name"), service_id=service_id)
            self.touched.add(service_id)
        instance = self._environment.instances[service_id]
        self._settings(instance, part)
        for name, value in _items(part, "variables"):
            self._variable(service_id, instance.variables, name, value)
        for port, value in _items(part.get("networking") or {}, "tcpProxies"):
            set_proxy(self._platform, self._environment, instance, int(port), is_open=value is not None)
            self.touched.add(service_id)
        for volume_id, mount in sorted(_items(part, "volumeMounts"), key=lambda each: each[1] is not None):
            self._mount(service_id, volume_id, mount)

    def _settings(self, instance: ServiceInstance, part: Document) -> None:
        deploy = dict(part.get("deploy") or {})
        limits = deploy.pop("limitOverride", ...)
        if limits is not ...:
            instance.limits = limits or None
        values = {**deploy, **({"source": part["source"]} if part.get("source") else {})}
        before = instance.settings
        configure(self._environment, instance, values)
        if instance.settings != before and set(values) - _QUIET:
            self.touched.add(instance.service_id)

    def _mount(self, service_id: str, volume_id: str, mount: Document | None) -> None:
        one = next(each for each in self._environment.volumes.values() if each.volume_id == volume_id)
        if mount is None:
            one.service_id = None
        else:
            one.service_id, one.mount_path = service_id, mount.get("mountPath", one.mount_path)
        self.touched.add(service_id)

    def _variable(self, owner: str | None, variables: dict[str, Any], name: str, part: Any) -> None:
        if part is None:
            variables.pop(name, None)
        else:
            sealed = None if isinstance(part, str) else part.get("isSealed")
            set_variable(self._platform, variables, name, _value(part), is_sealed=sealed)
        self.variables.add((owner, name))
        if owner:
            self.touched.add(owner)


def _items(document: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    return list((document.get(name) or {}).items())


def _value(part: Any) -> Any:
    """The value of a variable in a patch, where it is written in short, too."""
    return part if isinstance(part, str) else part.get("value", part.get("defaultValue"))
