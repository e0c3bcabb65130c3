"""Templates: generated from a project, published, deployed (facts: railway.md 1.4)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.model import Environment, Project, ServiceInstance, Template
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.services import add_domain, create_service, set_variable
from shared.sandbox.railway_api.stored import new_id
from shared.sandbox.railway_api.volumes import add_volume_instance, create_volume

__all__ = ["find_template", "generate_template", "instantiate"]

_EXPRESSION = re.compile(r"\$\{\{.*?\}\}")
_DEPLOY = ("startCommand", "healthcheckPath", "healthcheckTimeout", "restartPolicyType", "restartPolicyMaxRetries")


def find_template(platform: Platform, identity: str | None, code: str | None) -> Template:
    """A template by its id or its code.

    Raises:
        ApiError: there is none.
    """
    found = next((one for one in platform.templates.values() if one.id == identity or one.code == code), None)
    if found is None:
        raise ApiError("Template not found")
    return found


def generate_template(platform: Platform, project: Project, environment: Environment) -> Template:
    """A template of a project as it is. Of the variables, only those with an expression keep their value: what was written out
    is gone, for it may be a secret."""
    config = {
        "services": {one.service_id: _service(platform, environment, one) for one in environment.instances.values()},
        "buckets": {new_id(): {"name": project.buckets[one].name} for one in environment.buckets},
    }
    template = Template(
        code=secrets.token_urlsafe(4),
        name=project.name,
        workspace_id=project.workspace_id,
        project_id=project.id,
        config=config,
        created_at=platform.clock.now(),
    )
    platform.templates[template.id] = template
    return template


def _service(platform: Platform, environment: Environment, instance: ServiceInstance) -> dict[str, Any]:
    settings, volume = instance.settings, environment.volume_of(instance.service_id)
    deploy = {name: settings.get(name) for name in _DEPLOY if settings.get(name) is not None}
    ports = [one.target_port for one in instance.domains if not one.is_custom]
    if volume is not None:
        deploy["requiredMountPath"] = volume.mount_path
    return {
        "name": platform.service_name(environment, instance.service_id),
        "icon": None,
        "build": {},
        "source": {"image": settings.image},
        "deploy": deploy,
        "variables": {
            name: {"isOptional": False, **({"defaultValue": one.value} if _EXPRESSION.search(one.value) else {})}
            for name, one in instance.variables.items()
        },
        "networking": {
            "serviceDomains": {f"<hasDomain>:{port}": {"port": port} for port in ports},
            "tcpProxies": {str(port): {} for port in instance.tcp_proxies},
        },
        "volumeMounts": {new_id(): {"mountPath": volume.mount_path}} if volume else {},
    }


def instantiate(platform: Platform, project: Project, environment: Environment, config: Mapping[str, Any]) -> list[str]:
    """Make the services of a template; nothing is deployed.

    Returns: their ids.
    Raises:
        ApiError: a required variable has no value. It does not say which.
    """
    services: list[Mapping[str, Any]] = list((config.get("services") or {}).values())
    for one in services:
        for variable in (one.get("variables") or {}).values():
            if not (variable.get("value") or variable.get("defaultValue") or variable.get("isOptional")):
                raise ApiError("Problem processing request")
    made = []
    for one in services:
        service = create_service(platform, project, [environment], name=one.get("name"), source=one.get("source"))
        instance = environment.instances[service.id]
        instance.settings = instance.settings.updated({name: one.get("deploy", {}).get(name) for name in _DEPLOY})
        for name, variable in (one.get("variables") or {}).items():
            value = variable.get("value") or variable.get("defaultValue") or ""
            set_variable(platform, instance.variables, name, _filled_in(value))
        for mount in (one.get("volumeMounts") or {}).values():
            volume = create_volume(platform, project, service.name)
            add_volume_instance(platform, environment, volume, mount_path=mount["mountPath"], service_id=service.id)
        for domain in ((one.get("networking") or {}).get("serviceDomains") or {}).values():
            add_domain(platform, environment, instance, domain.get("port"))
        made.append(service.id)
    return made


def _filled_in(value: str) -> str:
    """Here, and only here, a template's functions mean something; each is evaluated once."""

    def secret(found: re.Match[str]) -> str:
        length = int(found[1] or 32)
        alphabet = found[2] or "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
        return "".join(secrets.choice(alphabet) for _ in range(length))

    return re.sub(r"""\$\{\{\s*secret\(\s*(\d+)?\s*(?:,\s*["']([^"']+)["'])?\s*\)\s*\}\}""", secret, value)
