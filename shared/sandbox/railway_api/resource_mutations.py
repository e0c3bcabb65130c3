"""Volumes, buckets, notifications and templates: what changes them."""

from __future__ import annotations

import functools

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.buckets import create_bucket, credentials_view, find_instance, renew_credentials
from shared.sandbox.railway_api.connections import View
from shared.sandbox.railway_api.model import Environment, NotificationRule
from shared.sandbox.railway_api.schema import Call, Resolvers
from shared.sandbox.railway_api.services import dependants
from shared.sandbox.railway_api.templates import find_template, generate_template, instantiate
from shared.sandbox.railway_api.views import bucket_view, rule_view, template_view, volume_view
from shared.sandbox.railway_api.volumes import (
    add_volume_instance,
    back_up,
    create_volume,
    delete_backup,
    delete_volume,
    find_backup,
    restore,
)

__all__ = ["RESOURCE_MUTATIONS"]


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
    """Without an environment, in all of them; without a service it is mounted nowhere any more: the schema says so."""
    project, volume = call.scope.volume(call["volumeId"])
    for environment in call.scope.environments(project, call.get("environmentId")):
        for one in environment.volumes.values():
            if one.volume_id == volume.id:
                one.mount_path = call.input.get("mountPath") or one.mount_path
                one.service_id = call.input.get("serviceId")
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


RESOURCE_MUTATIONS: Resolvers = {
    "bucketCreate": _bucket_create,
    "bucketCredentialsReset": _credentials_reset,
    "bucketUpdate": _bucket_update,
    "notificationRuleCreate": _rule_create,
    "notificationRuleDelete": _rule_delete,
    "notificationRuleUpdate": _rule_update,
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
