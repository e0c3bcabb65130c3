"""Deployments, staged changes, volumes, buckets, notifications and templates: what changes them."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.buckets import create_bucket, credentials_view, find_instance, renew_credentials
from shared.sandbox.railway_api.configuration import merged
from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.deployment_views import can_roll_back, deployment_view
from shared.sandbox.railway_api.model import Deployment, Environment, NotificationRule, ServiceInstance, Snapshot, new_id
from shared.sandbox.railway_api.patching import commit
from shared.sandbox.railway_api.schema import Call, Resolvers
from shared.sandbox.railway_api.services import dependants
from shared.sandbox.railway_api.templates import find_template, generate_template, instantiate
from shared.sandbox.railway_api.views import bucket_view, rule_view, staged_view, template_view, volume_view
from shared.sandbox.railway_api.volumes import (
    add_volume_instance,
    back_up,
    create_volume,
    delete_backup,
    delete_volume,
    find_backup,
    restore,
)

__all__ = ["PLATFORM_MUTATIONS"]


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


def _volume_create(call: Call) -> View:
    wanted = call.input
    project = call.scope.project(wanted["projectId"])
    environments = call.scope.environments(project, wanted.get("environmentId"))
    service = project.services.get(wanted.get("serviceId") or "")
    if wanted.get("serviceId") and service is None:
        raise ApiError("Service not found")
    if service and any(one.volume_of(service.id) for one in environments):
        raise ApiError("Service already has a volume attached")
    volume = create_volume(call.platform, project, service.name if service else None)
    for environment in environments:
        add_volume_instance(
            call.platform,
            environment,
            volume,
            mount_path=wanted["mountPath"],
            service_id=service.id if service else None,
        )
    return volume_view(call.platform, project, volume)


def _volume_delete(call: Call) -> bool:
    project, volume = call.scope.volume(call["volumeId"])
    delete_volume(call.platform, project, volume)
    return True


def _volume_update(call: Call) -> bool:
    """Without an environment, in all of them; without a service it is mounted nowhere any more only if that is said as null."""
    project, volume = call.scope.volume(call["volumeId"])
    for environment in call.scope.environments(project, call.get("environmentId")):
        for one in environment.volumes.values():
            if one.volume_id == volume.id:
                one.mount_path = call.input.get("mountPath") or one.mount_path
                one.service_id = call.input.get("serviceId", one.service_id)
                one.state = call.input.get("state") or one.state
    return True


def _backup_create(call: Call) -> View:
    _, one = call.scope.volume_instance(call["volumeInstanceId"])
    work = functools.partial(back_up, call.platform, one, call.get("name"))
    return {"workflowId": call.platform.workflows.begin(work)}


def _backup_delete(call: Call) -> View:
    _, one = call.scope.volume_instance(call["volumeInstanceId"])
    work = functools.partial(delete_backup, call.platform, one, find_backup(one, call["volumeInstanceBackupId"]))
    return {"workflowId": call.platform.workflows.begin(work)}


def _backup_lock(call: Call) -> bool:
    _, one = call.scope.volume_instance(call["volumeInstanceId"])
    find_backup(one, call["volumeInstanceBackupId"]).expires_at = None
    return True


def _backup_restore(call: Call) -> View:
    if call.get("replicaServiceIds") or call.get("wipeServiceIds"):
        raise ApiError("Not an HA cluster")
    environment, one = call.scope.volume_instance(call["volumeInstanceId"])
    backup = find_backup(one, call["volumeInstanceBackupId"])
    work = functools.partial(restore, call.platform, environment, one, backup)
    return {"workflowId": call.platform.workflows.begin(work)}


def _schedule_update(call: Call) -> bool:
    """Replaces the whole set."""
    _, one = call.scope.volume_instance(call["volumeInstanceId"])
    now = call.platform.clock.now()
    one.schedules = {kind: one.schedules.get(kind, now) for kind in call["kinds"]}
    return True


def _bucket_create(call: Call) -> View:
    project = call.scope.project(call.input["projectId"])
    return bucket_view(create_bucket(call.platform, project, call.input.get("name")))


def _bucket_update(call: Call) -> View:
    bucket = call.scope.bucket(call["id"])
    bucket.name = call.input["name"]
    return bucket_view(bucket)


def _credentials_reset(call: Call) -> View:
    environment = call.scope.environment(call["environmentId"], call["projectId"])
    bucket = call.scope.bucket(call["bucketId"])
    instance = find_instance(environment, bucket.id)
    renew_credentials(call.platform, instance)
    if call.get("redeployDependents"):
        for service_id in _users(call, environment, bucket.name, instance.credentials):
            call.platform.machine.deploy(environment, environment.instances[service_id])
    return credentials_view(call.platform, instance)


def _users(call: Call, environment: Environment, bucket: str, names: dict[str, str]) -> list[str]:
    found = dependants(call.platform, environment, [], others={(bucket, name) for name in names})
    return sorted(one for one in found if environment.instances[one].settings.image)


def _rule_create(call: Call) -> View:
    wanted, platform = call.input, call.platform
    rule = NotificationRule(
        workspace_id=call.scope.workspace(wanted["workspaceId"]),
        project_id=wanted.get("projectId"),
        event_types=wanted["eventTypes"],
        severities=wanted.get("severities") or [],
        ephemeral_environments=bool(wanted.get("ephemeralEnvironments")),
        channels=wanted["channelConfigs"],
        created_at=platform.clock.now(),
    )
    platform.rules[rule.id] = rule
    return rule_view(rule)


def _rule(call: Call) -> NotificationRule:
    rule = call.platform.rules.get(call["id"])
    if rule is None:
        raise ApiError("Notification rule not found")
    return rule


def _rule_update(call: Call) -> View:
    rule, wanted = _rule(call), call.input
    rule.event_types = wanted.get("eventTypes", rule.event_types)
    rule.severities = wanted.get("severities", rule.severities)
    rule.ephemeral_environments = bool(wanted.get("ephemeralEnvironments", rule.ephemeral_environments))
    rule.channels = wanted.get("channelConfigs", rule.channels)
    return rule_view(rule)


def _rule_delete(call: Call) -> bool:
    del call.platform.rules[_rule(call).id]
    return True


def _template_generate(call: Call) -> View:
    project = call.scope.project(call.input["projectId"])
    environment_id = call.input.get("environmentId") or next(iter(project.environments))
    environment = call.scope.environment(environment_id, project.id)
    return template_view(generate_template(call.platform, project, environment))


def _template_publish(call: Call) -> View:
    template = find_template(call.platform, call["id"], None)
    template.published, template.status = dict(call.input), "PUBLISHED"
    return template_view(template)


def _template_unpublish(call: Call) -> bool:
    find_template(call.platform, call["id"], None).status = "UNPUBLISHED"
    return True


def _template_delete(call: Call) -> bool:
    del call.platform.templates[find_template(call.platform, call["id"], None).id]
    return True


def _template_deploy(call: Call) -> View:
    """The caller's configuration, riding on a template that exists."""
    wanted, platform = call.input, call.platform
    template = find_template(platform, wanted["templateId"], None)
    if wanted.get("existingRootServiceId") or wanted.get("stageOnly"):
        raise ApiError("Not an HA template")
    named = wanted.get("projectId")
    project = call.scope.project(named) if named else platform.create_project(template.name)
    environment_id = wanted.get("environmentId") or next(iter(project.environments))
    environment = call.scope.environment(environment_id, project.id)
    project.template_id = template.id
    platform.machine.deploy_batch(environment, instantiate(platform, project, environment, wanted["serializedConfig"]))
    return {"projectId": project.id, "workflowId": platform.workflows.done()}


PLATFORM_MUTATIONS: Resolvers = {
    "bucketCreate": _bucket_create,
    "bucketCredentialsReset": _credentials_reset,
    "bucketUpdate": _bucket_update,
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
    "notificationRuleCreate": _rule_create,
    "notificationRuleDelete": _rule_delete,
    "notificationRuleUpdate": _rule_update,
    "serviceInstanceDeployV2": _deploy,
    "serviceInstanceRedeploy": _redeploy_instance,
    "templateDelete": _template_delete,
    "templateDeployV2": _template_deploy,
    "templateGenerate": _template_generate,
    "templatePublish": _template_publish,
    "templateUnpublish": _template_unpublish,
    "volumeCreate": _volume_create,
    "volumeDelete": _volume_delete,
    "volumeInstanceBackupCreate": _backup_create,
    "volumeInstanceBackupDelete": _backup_delete,
    "volumeInstanceBackupLock": _backup_lock,
    "volumeInstanceBackupRestore": _backup_restore,
    "volumeInstanceBackupScheduleUpdate": _schedule_update,
    "volumeInstanceUpdate": _volume_update,
}
