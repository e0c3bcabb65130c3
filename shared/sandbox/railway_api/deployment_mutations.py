"""Deployments and staged changes: what moves them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.configuration import merged
from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.deployment_model import Deployment, Snapshot
from shared.sandbox.railway_api.deployment_views import can_roll_back, deployment_view
from shared.sandbox.railway_api.model import Environment, ServiceInstance
from shared.sandbox.railway_api.patching import commit
from shared.sandbox.railway_api.schema import Call, Resolvers
from shared.sandbox.railway_api.stored import new_id
from shared.sandbox.railway_api.views import staged_view

__all__ = ["DEPLOYMENT_MUTATIONS"]


def _place(call: Call, deployment: Deployment) -> tuple[Environment, ServiceInstance]:
    return call.scope.instance(deployment.service_id, deployment.environment_id)


def _deploy(call: Call) -> str:
    """With the settings and variables that are configured now."""
    environment, instance = call.scope.instance(call["serviceId"], call["environmentId"])
    return call.platform.machine.deploy(environment, instance).id


def _redeploy(call: Call) -> View:
    """What that deployment was made from, whatever is configured by now."""
    old = call.scope.deployment(call["id"])
    if old.in_progress:
        raise ApiError("Deployment cannot be redeployed")
    environment, instance = _place(call, old)
    snapshot = replace(old.snapshot, is_retained=False)
    made = call.platform.machine.deploy(environment, instance, reason="redeploy", snapshot=snapshot)
    return deployment_view(call.platform, made)


def _redeploy_instance(call: Call) -> bool:
    """What runs, not what is configured by now."""
    environment, instance = call.scope.instance(call["serviceId"], call["environmentId"])
    live = next((one for one in reversed(instance.deployments) if one.is_current), None)
    if live is None:
        raise ApiError("Service has no deployment to redeploy")
    call.platform.machine.deploy(environment, instance, reason="redeploy", snapshot=replace(live.snapshot, is_retained=False))
    return True


def _roll_back(call: Call) -> bool:
    """A new deployment with that one's image, settings and variables; the configured source stays what it is."""
    old = call.scope.deployment(call["id"])
    if not can_roll_back(call.platform, old):
        raise ApiError("Deployment cannot be rolled back to: its image is no longer available")
    environment, instance = _place(call, old)
    snapshot: Snapshot = replace(old.snapshot, is_retained=True)
    made = call.platform.machine.deploy(environment, instance, reason="rollback", snapshot=snapshot)
    made.digest = old.digest
    return True


def _restart(call: Call) -> bool:
    deployment = call.scope.deployment(call["id"])
    call.platform.machine.restart(_place(call, deployment)[0], deployment)
    return True


def _stop(call: Call) -> bool:
    call.platform.machine.stop(call.scope.deployment(call["id"]))
    return True


def _remove(call: Call) -> bool:
    call.platform.machine.remove(call.scope.deployment(call["id"]))
    return True


def _cancel(call: Call) -> bool:
    call.platform.machine.cancel(call.scope.deployment(call["id"]))
    return True


def _approve(call: Call) -> bool:
    call.scope.deployment(call["id"])
    raise ApiError("Deployment does not need approval")


def _patch_commit(call: Call) -> str:
    """Only this patch; what is staged stays staged."""
    environment = call.scope.environment(call["environmentId"])
    commit(call.platform, environment, call.get("patch") or {}, message=call.get("commitMessage"))
    return call.platform.workflows.done()


def _stage(call: Call) -> View:
    """Without `merge`, what anybody else has staged is gone."""
    environment = call.scope.environment(call["environmentId"])
    content: dict[str, Any] = call["input"]
    environment.staged = merged(environment.staged, content) if call.get("merge") else content
    environment.updated_at = call.platform.clock.now()
    return staged_view(environment)


def _commit_staged(call: Call) -> str:
    """Everything that is staged, by whomever."""
    environment = call.scope.environment(call["environmentId"])
    if not environment.staged:
        raise ApiError("No staged changes to commit")
    skip = bool(call.get("skipDeploys"))
    commit(call.platform, environment, environment.staged, message=call.get("commitMessage"), skip_deploys=skip)
    environment.staged, environment.staged_id = {}, new_id()
    return call.platform.workflows.done()


DEPLOYMENT_MUTATIONS: Resolvers = {
    "deploymentApprove": _approve,
    "deploymentCancel": _cancel,
    "deploymentRedeploy": _redeploy,
    "deploymentRemove": _remove,
    "deploymentRestart": _restart,
    "deploymentRollback": _roll_back,
    "deploymentStop": _stop,
    "environmentPatchCommit": _patch_commit,
    "environmentPatchCommitStaged": _commit_staged,
    "environmentStageChanges": _stage,
    "serviceInstanceDeployV2": _deploy,
    "serviceInstanceRedeploy": _redeploy_instance,
}
