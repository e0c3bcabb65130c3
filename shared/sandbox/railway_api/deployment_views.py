"""Deployments as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.deployment_model import Deployment, Event
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_runtime.containers import LogLine

__all__ = ["can_roll_back", "deployment_view", "event_view", "log_view"]


def can_roll_back(platform: Platform, deployment: Deployment) -> bool:
    """Whether its image is still kept: it was good once, and is not removed, or not for long (facts: railway.md 2.5)."""
    if not deployment.succeeded or deployment.in_progress:
        return False
    removed = deployment.removed_at
    return removed is None or platform.clock.now() - removed < platform.behaviour.plan.retention


def deployment_view(platform: Platform, one: Deployment) -> View:
    """A deployment."""
    meta: dict[str, Any] = {"image": one.snapshot.settings.image, "reason": one.reason}
    if one.digest and platform.behaviour.meta_has_digest:
        meta["imageDigest"] = one.digest
    instances = [{"id": one.instance_id, "status": one.instance_status}] if one.instance_status else []
    project_id = next(each.project_id for each in platform.environments() if each.id == one.environment_id)
    return {
        "id": one.id,
        "createdAt": one.created_at,
        "updatedAt": one.updated_at,
        "canRedeploy": not one.in_progress,
        "canRollback": can_roll_back(platform, one),
        "deploymentStopped": one.is_stopped,
        "diagnosis": None,
        "environmentId": one.environment_id,
        "instances": instances,
        "meta": meta,
        "projectId": project_id,
        "serviceId": one.service_id,
        "snapshotId": one.id,
        "staticUrl": None,
        "status": one.status,
        "statusUpdatedAt": one.status_at,
        "url": None,
    }


def event_view(one: Event) -> View:
    """A step."""
    return {
        "id": one.id,
        "createdAt": one.created_at,
        "completedAt": one.completed_at,
        "payload": one.payload or None,
        "step": one.step,
    }


def log_view(line: LogLine, tags: Mapping[str, str] | None = None) -> View:
    """A line of a log, with where it comes from."""
    at = line.at.isoformat().replace("+00:00", "Z")
    return {"attributes": [], "message": line.message, "severity": line.severity, "tags": tags, "timestamp": at}
