"""What containers wrote, as the API gives it: the limit is exceeded by one (facts: railway.md 2.4)."""

from __future__ import annotations

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.deployment_model import Deployment
from shared.sandbox.railway_api.deployment_views import log_view
from shared.sandbox.railway_api.schema import Call
from shared.sandbox.railway_runtime.containers import LogLine

__all__ = ["build_logs", "deployment_logs", "environment_logs"]

_DEFAULT, _MOST = 100, 5000


def deployment_logs(call: Call) -> list[View]:
    """Of all containers that a deployment had, oldest first."""
    deployment = call.scope.deployment(call["deploymentId"])
    return [log_view(line, _tags(deployment)) for line in _wanted(call, _lines(deployment))]


def build_logs(call: Call) -> list[View]:
    """The steps of a deployment: there is nothing to build."""
    deployment = call.scope.deployment(call["deploymentId"])
    lines = [
        LogLine(
            one.created_at, f"{one.step}: {one.payload.get('error') or 'done'}", "error" if "error" in one.payload else "info"
        )
        for one in deployment.events
        if one.completed_at is not None
    ]
    return [log_view(line, _tags(deployment)) for line in _wanted(call, lines)]


def environment_logs(call: Call) -> list[View]:
    """Of everything in an environment, as far as it is within the dates."""
    environment = call.scope.environment(call["environmentId"])
    found = [
        (line, deployment)
        for instance in environment.instances.values()
        for deployment in instance.deployments
        for line in _lines(deployment)
        if (call.get("filter") or "") in line.message
    ]
    found.sort(key=lambda each: each[0].at)
    limit = _limit(call.get("beforeLimit") or call.get("afterLimit"))
    return [log_view(line, _tags(deployment)) for line, deployment in found[-limit - 1 :]]


def _lines(deployment: Deployment) -> list[LogLine]:
    current = deployment.container
    return [*deployment.earlier_logs, *(current.logs(_MOST + 1) if current else ())]


def _wanted(call: Call, lines: list[LogLine]) -> list[LogLine]:
    since, until, text = call.get("startDate"), call.get("endDate"), call.get("filter") or ""
    fitting = [
        one
        for one in lines
        if text in one.message and (since is None or one.at >= since) and (until is None or one.at <= until)
    ]
    return fitting[-_limit(call.get("limit")) - 1 :]


def _limit(asked: int | None) -> int:
    limit = _DEFAULT if asked is None else asked
    if not 0 < limit <= _MOST:
        raise ApiError(f"limit must be between 1 and {_MOST}")
    return limit


def _tags(deployment: Deployment) -> dict[str, str]:
    return {
        "deploymentId": deployment.id,
        "deploymentInstanceId": deployment.instance_id,
        "environmentId": deployment.environment_id,
        "serviceId": deployment.service_id,
    }
