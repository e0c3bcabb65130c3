"""What can be asked: one function for each field of the query type."""

from __future__ import annotations

from shared.sandbox.railway_api.access import NotAuthorized
from shared.sandbox.railway_api.connections import View, page
from shared.sandbox.railway_api.deployment_views import deployment_view, event_view
from shared.sandbox.railway_api.logs import build_logs, deployment_logs, environment_logs
from shared.sandbox.railway_api.metrics import limits_of, metrics
from shared.sandbox.railway_api.platform import REGION
from shared.sandbox.railway_api.references import render
from shared.sandbox.railway_api.schema import Call, Resolvers
from shared.sandbox.railway_api.snapshots import namespaces, rendered
from shared.sandbox.railway_api.views import (
    environment_view,
    instance_view,
    patch_view,
    project_view,
    staged_view,
    workspace_view,
)

__all__ = ["QUERIES"]


def _project_token(call: Call) -> View:
    token, platform = call.token, call.platform
    if token is None or token.project_id is None or token.environment_id is None:
        raise NotAuthorized
    return {
        "createdAt": platform.created_at,
        "displayToken": f"{token.secret[:4]}****",
        "environment": lambda _info: environment_view(platform, call.scope.environment(token.environment_id or "")),
        "environmentId": token.environment_id,
        "id": token.id,
        "name": token.name,
        "project": lambda _info: project_view(platform, call.scope.project(token.project_id or "")),
        "projectId": token.project_id,
    }


def _me(call: Call) -> View:
    return {
        "createdAt": call.platform.created_at,
        "email": "operator@sandbox.invalid",
        "id": call.platform.workspace_id,
        "name": "Operator",
        "workspaces": lambda _info: [workspace_view(call.platform)],
    }


def _workspace(call: Call) -> View:
    call.scope.workspace(call["workspaceId"])
    return workspace_view(call.platform)


def _environments(call: Call) -> View:
    wanted = call.get("isEphemeral")
    found = [
        environment_view(call.platform, one)
        for one in call.scope.project(call["projectId"]).environments.values()
        if wanted in (None, one.is_ephemeral) and (call.token is None or call.token.environment_id in (None, one.id))
    ]
    return page(found, call.arguments)


def _deployments(call: Call) -> View:
    wanted, scope = call.input, call.scope
    if wanted.get("environmentId"):
        environments = [scope.environment(wanted["environmentId"], wanted.get("projectId"))]
    else:
        projects = [scope.project(wanted["projectId"])] if wanted.get("projectId") else list(call.platform.projects.values())
        environments = [one for project in projects for one in scope.environments(project, None)]
    status = wanted.get("status") or {}
    found = [
        deployment
        for environment in environments
        for instance in environment.instances.values()
        if wanted.get("serviceId") in (None, instance.service_id)
        for deployment in instance.deployments
        if (status.get("in") is None or deployment.status in status["in"])
        and deployment.status not in (status.get("notIn") or ())
    ]
    found.sort(key=lambda one: one.created_at, reverse=True)
    return page([deployment_view(call.platform, one) for one in found], call.arguments)


def _deployment_snapshot(call: Call) -> View:
    one = call.scope.deployment(call["deploymentId"])
    told = {name: value for name, value in one.snapshot.variables.items() if name not in one.snapshot.sealed}
    return {"id": one.id, "createdAt": one.created_at, "updatedAt": one.created_at, "variables": told}


def _variables(call: Call) -> dict[str, str]:
    """Without a service, the shared ones. Sealed values are not told, under any question."""
    environment = call.scope.environment(call["environmentId"], call["projectId"])
    if call.get("serviceId") is None:
        variables, owner = environment.shared_variables, "shared"
    else:
        _, instance = call.scope.instance(call["serviceId"], environment.id)
        variables, owner = instance.variables, call.platform.service_name(environment, instance.service_id)
    if call.get("unrendered"):
        return {name: one.value for name, one in variables.items() if not one.is_sealed}
    values = render(namespaces(call.platform, environment), owner)
    return {name: value for name, value in values.items() if name not in variables or not variables[name].is_sealed}


def _variables_for_deployment(call: Call) -> dict[str, str]:
    environment = call.scope.environment(call["environmentId"], call["projectId"])
    _, instance = call.scope.instance(call["serviceId"], environment.id)
    values = rendered(call.platform, environment, instance.service_id)
    sealed = {name for name, one in instance.variables.items() if one.is_sealed}
    return {name: value for name, value in values.items() if name not in sealed}


QUERIES: Resolvers = {
    "apiToken": lambda call: {"workspaces": [{"id": call.platform.workspace_id, "name": call.platform.workspace_name}]},
    "buildLogs": build_logs,
    "deployment": lambda call: deployment_view(call.platform, call.scope.deployment(call["id"])),
    "deploymentEvents": lambda call: page(
        [event_view(one) for one in call.scope.deployment(call["id"]).events], call.arguments
    ),
    "deploymentLogs": deployment_logs,
    "deploymentSnapshot": _deployment_snapshot,
    "deployments": _deployments,
    "environment": lambda call: environment_view(call.platform, call.scope.environment(call["id"], call.get("projectId"))),
    "environmentLogs": environment_logs,
    "environmentPatches": lambda call: page(
        [
            patch_view(environment, one)
            for environment in [call.scope.environment(call["environmentId"])]
            for one in environment.patches
        ],
        call.arguments,
    ),
    "environmentStagedChanges": lambda call: staged_view(call.scope.environment(call["environmentId"])),
    "environments": _environments,
    "me": _me,
    "metrics": metrics,
    "platformStatus": lambda call: {"incident": None, "isStable": True, "maintenance": None},
    "project": lambda call: project_view(call.platform, call.scope.project(call["id"])),
    "projectToken": _project_token,
    "regions": lambda call: [
        {"country": "Netherlands", "id": None, "location": "EU West (Amsterdam)", "name": REGION, "region": "europe-west4"}
    ],
    "serviceInstance": lambda call: instance_view(
        call.platform, call.scope.instance(call["serviceId"], call["environmentId"])[1]
    ),
    "serviceInstanceLimitOverride": lambda call: call.scope.instance(call["serviceId"], call["environmentId"])[1].limits,
    "serviceInstanceLimits": lambda call: limits_of(
        call.platform, call.scope.instance(call["serviceId"], call["environmentId"])[1]
    ),
    "variables": _variables,
    "variablesForServiceDeployment": _variables_for_deployment,
    "workspace": _workspace,
}
