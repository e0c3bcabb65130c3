"""Projects, environments, services, their variables and their domains: what changes them."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from shared.sandbox.railway_api.access import ApiError, Token
from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.model import Environment, ServiceInstance, Variable
from shared.sandbox.railway_api.network_views import domain_view
from shared.sandbox.railway_api.schema import Call, Resolvers
from shared.sandbox.railway_api.services import (
    add_domain,
    configure,
    create_service,
    delete_service,
    dependants,
    set_limits,
    set_proxy,
    set_variable,
)
from shared.sandbox.railway_api.views import environment_view, project_view, service_view

__all__ = ["SERVICE_MUTATIONS"]


def _project_create(call: Call) -> View:
    wanted = call.input
    call.scope.workspace(wanted.get("workspaceId"))
    name = wanted.get("name") or f"project-{len(call.platform.projects) + 1}"
    environment = wanted.get("defaultEnvironmentName") or "production"
    project = call.platform.create_project(name, environment, wanted.get("description"))
    project.is_public = bool(wanted.get("isPublic"))
    return project_view(call.platform, project)


def _project_update(call: Call) -> View:
    project = call.scope.project(call["id"])
    project.name = call.input.get("name") or project.name
    project.description = call.input.get("description", project.description)
    project.is_public = bool(call.input.get("isPublic", project.is_public))
    return project_view(call.platform, project)


def _project_delete(call: Call) -> bool:
    project = call.scope.project(call["id"])
    for service_id in list(project.services):
        delete_service(call.platform, project, project.environments.values(), service_id)
    del call.platform.projects[project.id]
    return True


def _token_create(call: Call) -> str:
    project = call.scope.project(call.input["projectId"])
    environment = call.scope.environment(call.input["environmentId"], project.id)
    token = Token("project", secrets.token_urlsafe(24), call.input["name"], project.id, environment.id)
    call.platform.tokens[token.secret] = token
    return token.secret


def _token_delete(call: Call) -> bool:
    found = next((one for one in call.platform.tokens.values() if one.id == call["id"] and one.kind == "project"), None)
    if found is None:
        raise ApiError("Project token not found")
    del call.platform.tokens[found.secret]
    return True


def _environment_create(call: Call) -> View:
    """Empty, or with what another has: settings and variables, but no sealed ones; volumes are new and empty."""
    wanted = call.input
    project = call.scope.project(wanted["projectId"])
    made = call.platform.create_environment(project, wanted["name"], is_ephemeral=bool(wanted.get("ephemeral")))
    if wanted.get("sourceEnvironmentId"):
        source = call.scope.environment(wanted["sourceEnvironmentId"], project.id)
        made.source_environment_id = source.id
        _copy(call, source, made)
        if not wanted.get("skipInitialDeploys"):
            call.platform.machine.deploy_batch(made, list(made.instances))
    return environment_view(call.platform, made)


def _copy(call: Call, source: Environment, target: Environment) -> None:
    now = call.platform.clock.now()

    def copies(variables: dict[str, Variable]) -> dict[str, Variable]:
        open_ones = {name: one.value for name, one in variables.items() if not one.is_sealed}
        return {name: Variable(name=name, value=value, created_at=now) for name, value in open_ones.items()}

    target.shared_variables = copies(source.shared_variables)
    for service_id, one in source.instances.items():
        target.instances[service_id] = ServiceInstance(
            service_id=service_id,
            environment_id=target.id,
            settings=one.settings,
            variables=copies(one.variables),
            created_at=now,
        )


def _service_create(call: Call) -> View:
    """With a source it is deployed at once, whatever is still missing; without an environment it is made in all."""
    wanted = call.input
    project = call.scope.project(wanted["projectId"])
    environments = call.scope.environments(project, wanted.get("environmentId"))
    service = create_service(
        call.platform,
        project,
        environments,
        name=wanted.get("name"),
        source=wanted.get("source"),
        variables=wanted.get("variables"),
        icon=wanted.get("icon"),
    )
    if (wanted.get("source") or {}).get("image"):
        for environment in environments:
            call.platform.machine.deploy(environment, environment.instances[service.id])
    return service_view(call.platform, project, service)


def _service_connect(call: Call) -> View:
    project, service = call.scope.service(call["id"])
    for environment in call.scope.environments(project, call.token.environment_id if call.token else None):
        instance = environment.instances.get(service.id)
        if instance is not None:
            instance.settings = instance.settings.updated({"source": dict(call.input)})
            call.platform.machine.deploy(environment, instance)
    return service_view(call.platform, project, service)


def _service_update(call: Call) -> View:
    project, service = call.scope.service(call["id"])
    name = call.input.get("name") or service.name
    if any(one.name == name and one is not service for one in project.services.values()):
        raise ApiError(f"A service named {name} already exists in this project")
    service.name, service.icon = name, call.input.get("icon", service.icon)
    return service_view(call.platform, project, service)


def _service_delete(call: Call) -> bool:
    """Also where an environment is named the service goes from all, unless that one is a fork."""
    project, service = call.scope.service(call["id"])
    named = call.get("environmentId")
    environment = call.scope.environment(named, project.id) if named else None
    if environment is not None and environment.is_ephemeral:
        delete_service(call.platform, project, [environment], service.id)
    else:
        permanent = [one for one in project.environments.values() if not one.is_ephemeral]
        delete_service(call.platform, project, permanent, service.id)
    return True


def _instance_update(call: Call) -> bool:
    """Nothing is deployed by this alone; without an environment it changes all that are no forks."""
    project, service = call.scope.service(call["serviceId"])
    deploys = call.platform.behaviour.source_update_deploys and "source" in call.input
    for environment in call.scope.environments(project, call.get("environmentId")):
        instance = environment.instances.get(service.id)
        if instance is None:
            continue
        configure(environment, instance, call.input)
        instance.updated_at = call.platform.clock.now()
        if deploys:
            call.platform.machine.deploy(environment, instance)
    return True


def _limits_update(call: Call) -> bool:
    _, instance = call.scope.instance(call.input["serviceId"], call.input["environmentId"])
    set_limits(call.platform, instance, memory_gb=call.input.get("memoryGB"), vcpus=call.input.get("vCPUs"))
    return True


def _variable_upsert(call: Call) -> bool:
    environment, variables = _variables(call)
    name = call.input["name"]
    set_variable(call.platform, variables, name, call.input["value"])
    _deploy_affected(call, environment, [name])
    return True


def _collection_upsert(call: Call) -> bool:
    """`replace` removes every other variable."""
    environment, variables = _variables(call)
    given: dict[str, Any] = call.input["variables"]
    if not all(isinstance(value, str) for value in given.values()):
        raise ApiError("Variables must be strings")
    gone = [name for name in variables if name not in given] if call.input.get("replace") else []
    for name in gone:
        del variables[name]
    for name, value in given.items():
        set_variable(call.platform, variables, name, value)
    _deploy_affected(call, environment, [*given, *gone])
    return True


def _variable_delete(call: Call) -> bool:
    environment, variables = _variables(call)
    if variables.pop(call.input["name"], None) is not None:
        _deploy_affected(call, environment, [call.input["name"]])
    return True


def _variables(call: Call) -> tuple[Environment, dict[str, Variable]]:
    environment = call.scope.environment(call.input["environmentId"], call.input["projectId"])
    if call.input.get("serviceId") is None:
        return environment, environment.shared_variables
    return environment, call.scope.instance(call.input["serviceId"], environment.id)[1].variables


def _deploy_affected(call: Call, environment: Environment, names: Iterable[str]) -> None:
    """The service itself, or those that refer to what is shared; those that refer to a service's variable stay as they are."""
    if call.input.get("skipDeploys"):
        return
    service_id = call.input.get("serviceId")
    affected = [service_id] if service_id else sorted(dependants(call.platform, environment, [(None, one) for one in names]))
    for one in affected:
        if environment.instances[one].settings.image:
            call.platform.machine.deploy(environment, environment.instances[one])


def _domain_create(call: Call) -> View:
    environment, instance = call.scope.instance(call.input["serviceId"], call.input["environmentId"])
    return domain_view(instance, add_domain(call.platform, environment, instance, call.input.get("targetPort")))


def _custom_domain_create(call: Call) -> View:
    environment, instance = call.scope.instance(call.input["serviceId"], call.input["environmentId"])
    wanted = call.input
    made = add_domain(call.platform, environment, instance, wanted.get("targetPort"), custom=wanted["domain"])
    return domain_view(instance, made)


def _domain_delete(call: Call) -> bool:
    for environment in call.platform.environments():
        for instance in environment.instances.values():
            if any(one.id == call["id"] for one in instance.domains):
                call.scope.environment(environment.id)
                instance.domains = [one for one in instance.domains if one.id != call["id"]]
                return True
    raise ApiError("Domain not found")


def _certificate_issue(call: Call) -> bool:
    """A domain that the platform has not verified gets none: it goes on validating."""
    for environment in call.platform.environments():
        for instance in environment.instances.values():
            for one in instance.domains:
                if one.id == call["id"] and one.is_custom:
                    call.scope.environment(environment.id)
                    if one.is_verified:
                        one.certificate = "VALID"
                    return True
    raise ApiError("Domain not found")


def _proxy_delete(call: Call) -> bool:
    for environment in call.platform.environments():
        for instance in environment.instances.values():
            for port, proxy in list(instance.tcp_proxies.items()):
                if proxy.id == call["id"]:
                    call.scope.environment(environment.id)
                    set_proxy(call.platform, environment, instance, port, is_open=False)
                    return True
    raise ApiError("TCP proxy not found")


SERVICE_MUTATIONS: Resolvers = {
    "customDomainCreate": _custom_domain_create,
    "customDomainDelete": _domain_delete,
    "customDomainIssueCertificate": _certificate_issue,
    "environmentCreate": _environment_create,
    "projectCreate": _project_create,
    "projectDelete": _project_delete,
    "projectTokenCreate": _token_create,
    "projectTokenDelete": _token_delete,
    "projectUpdate": _project_update,
    "serviceConnect": _service_connect,
    "serviceCreate": _service_create,
    "serviceDelete": _service_delete,
    "serviceDomainCreate": _domain_create,
    "serviceDomainDelete": _domain_delete,
    "serviceInstanceLimitsUpdate": _limits_update,
    "serviceInstanceUpdate": _instance_update,
    "serviceUpdate": _service_update,
    "tcpProxyDelete": _proxy_delete,
    "variableCollectionUpsert": _collection_upsert,
    "variableDelete": _variable_delete,
    "variableUpsert": _variable_upsert,
}
