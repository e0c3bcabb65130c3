"""The configuration of an environment as one document, `EnvironmentConfig`, and patches of it.

Their shape: facts, railway.md 1.2 and appendix A.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from shared.sandbox.railway_api.model import Environment, ServiceInstance, Variable, VolumeInstance

__all__ = ["Document", "configuration", "etag", "masked", "merged", "unmerged"]

Document = dict[str, Any]

_SECTIONS = ("services", "volumes", "buckets", "groups")


def configuration(environment: Environment) -> Document:
    """All that is configured, with the values of variables; sealed ones have none."""
    mounts: dict[str, Document] = {}
    for volume in environment.volumes.values():
        if volume.service_id:
            mounts.setdefault(volume.service_id, {})[volume.volume_id] = {"mountPath": volume.mount_path}
    return {
        "services": {one.service_id: _service(one, mounts.get(one.service_id, {})) for one in environment.instances.values()},
        "sharedVariables": _variables(environment.shared_variables),
        "volumes": {one.volume_id: _volume(one) for one in environment.volumes.values()},
        "buckets": {bucket_id: {"region": one.region, "isCreated": True} for bucket_id, one in environment.buckets.items()},
    }


def _service(instance: ServiceInstance, mounts: Document) -> Document:
    settings = instance.settings
    source = {name: value for name, value in (("image", settings.image), ("repo", settings.repo)) if value}
    deploy = dict(settings.values)
    if instance.limits:
        deploy["limitOverride"] = instance.limits
    networking = {
        "serviceDomains": {one.domain: {"port": one.target_port} for one in instance.domains if not one.is_custom},
        "customDomains": {one.domain: {"port": one.target_port} for one in instance.domains if one.is_custom},
        "tcpProxies": {str(port): {} for port in instance.tcp_proxies},
    }
    return {
        "source": source,
        "deploy": deploy,
        "networking": {name: value for name, value in networking.items() if value},
        "variables": _variables(instance.variables),
        "volumeMounts": mounts,
    }


def _variables(variables: dict[str, Variable]) -> Document:
    return {
        name: {"value": None, "isSealed": True} if one.is_sealed else {"value": one.value} for name, one in variables.items()
    }


def _volume(one: VolumeInstance) -> Document:
    return {"sizeMB": one.size_mb, "region": one.region}


def masked(document: Document) -> Document:
    """A configuration, or a patch, in which every value of a variable is null."""
    services = {
        name: {**service, "variables": _masked_variables(service["variables"])}
        if service and "variables" in service
        else service
        for name, service in document.get("services", {}).items()
    }
    shared = _masked_variables(document.get("sharedVariables", {}))
    parts = {"services": services, "sharedVariables": shared}
    return {**document, **{name: value for name, value in parts.items() if name in document}}


def _masked_variables(variables: Document) -> Document:
    return {name: {**one, "value": None} if isinstance(one, dict) else one for name, one in variables.items()}


def etag(environment: Environment) -> str:
    """Changes when the configuration does."""
    hidden = {name: one.value for name, one in environment.shared_variables.items() if one.is_sealed}
    for instance in environment.instances.values():
        hidden |= {f"{instance.id}.{name}": one.value for name, one in instance.variables.items() if one.is_sealed}
    return hashlib.sha256(json.dumps([configuration(environment), hidden], sort_keys=True, default=str).encode()).hexdigest()[
        :32
    ]


def merged(base: Document, change: Document) -> Document:
    """A patch with another laid over it; null takes away when the whole is applied, so it is kept."""
    result = dict(base)
    for name, value in change.items():
        before = result.get(name)
        result[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def unmerged(staged: Document) -> int:
    """How many services, volumes, buckets and shared variables a staged patch touches: `unmergedChangesCount`."""
    return sum(len(staged.get(section) or {}) for section in (*_SECTIONS, "sharedVariables"))
