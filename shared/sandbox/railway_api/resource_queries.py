"""What can be asked of volumes, buckets, networks, templates and of what is watched."""

from __future__ import annotations

from typing import Any

from shared.sandbox.railway_api.buckets import credentials_view, find_instance
from shared.sandbox.railway_api.connections import View, page
from shared.sandbox.railway_api.network_views import domains_view, proxy_view
from shared.sandbox.railway_api.schema import Call, Resolvers
from shared.sandbox.railway_api.snapshots import private_domain
from shared.sandbox.railway_api.templates import find_template
from shared.sandbox.railway_api.views import backup_view, rule_view, template_view, volume_instance_view

__all__ = ["RESOURCE_QUERIES"]

_SCHEDULES = {"DAILY": ("0 3 * * *", 6), "WEEKLY": ("0 3 * * 0", 30), "MONTHLY": ("0 3 1 * *", 90)}
_DAY = 24 * 3600


def _bucket_credentials(call: Call) -> list[View]:
    environment = call.scope.environment(call["environmentId"], call["projectId"])
    return [credentials_view(call.platform, find_instance(environment, call.scope.bucket(call["bucketId"]).id))]


def _bucket_details(call: Call) -> View:
    instance = find_instance(call.scope.environment(call["environmentId"]), call.scope.bucket(call["bucketId"]).id)
    size, count = call.platform.buckets.usage(instance.credentials["BUCKET"])
    return {"sizeBytes": size, "objectCount": count}


def _backups(call: Call) -> list[View]:
    _, one = call.scope.volume_instance(call["volumeInstanceId"])
    now = call.platform.clock.now()
    one.backups = [backup for backup in one.backups if backup.expires_at is None or backup.expires_at > now]
    return [backup_view(backup, one.size_mb) for backup in reversed(one.backups)]


def _schedules(call: Call) -> list[View]:
    _, one = call.scope.volume_instance(call["volumeInstanceId"])
    return [
        {
            "id": f"{one.id}-{kind}",
            "createdAt": since,
            "cron": _SCHEDULES[kind][0],
            "kind": kind,
            "name": kind.capitalize(),
            "retentionSeconds": _SCHEDULES[kind][1] * _DAY,
        }
        for kind, since in one.schedules.items()
    ]


def _domains(call: Call) -> View:
    environment = call.scope.environment(call["environmentId"], call["projectId"])
    return domains_view(call.scope.instance(call["serviceId"], environment.id)[1])


def _proxies(call: Call) -> list[View]:
    _, instance = call.scope.instance(call["serviceId"], call["environmentId"])
    return [proxy_view(instance, one) for one in instance.tcp_proxies.values()]


def _networks(call: Call) -> list[View]:
    environment = call.scope.environment(call["environmentId"])
    network = {
        "dnsName": environment.name,
        "environmentId": environment.id,
        "name": environment.name,
        "networkId": int(environment.id[:8], 16),
        "projectId": environment.project_id,
        "publicId": environment.id,
        "tags": [],
    }
    return [network]


def _endpoint(call: Call) -> View:
    environment, instance = call.scope.instance(call["serviceId"], call["environmentId"])
    name = call.platform.service_name(environment, instance.service_id)
    return {
        "dnsName": private_domain(name).partition(".")[0],
        "privateIps": ["127.0.0.1"],
        "publicId": instance.id,
        "serviceInstanceId": instance.id,
        "syncStatus": "ACTIVE",
        "tags": [],
    }


def _audit(call: Call) -> View:
    call.scope.workspace(call["workspaceId"])
    wanted: dict[str, Any] = call.get("filter") or {}
    found = [
        {
            "id": one.id,
            "createdAt": one.created_at,
            "environmentId": one.environment_id,
            "eventType": one.event_type,
            "payload": None,
            "projectId": one.project_id,
            "workspaceId": call.platform.workspace_id,
        }
        for one in reversed(call.platform.audit)
        if wanted.get("projectId") in (None, one.project_id)
        and wanted.get("environmentId") in (None, one.environment_id)
        and (wanted.get("eventTypes") is None or one.event_type in wanted["eventTypes"])
        and (wanted.get("startDate") is None or one.created_at >= wanted["startDate"])
        and (wanted.get("endDate") is None or one.created_at <= wanted["endDate"])
    ]
    return page(found, call.arguments)


def _rules(call: Call) -> list[View]:
    call.scope.workspace(call["workspaceId"])
    wanted = call.get("projectId")
    return [rule_view(one) for one in call.platform.rules.values() if wanted in (None, one.project_id)]


def _source_template(call: Call) -> View | None:
    project = call.scope.project(call["projectId"])
    template = call.platform.templates.get(project.template_id or "")
    return template_view(template) if template else None


RESOURCE_QUERIES: Resolvers = {
    "auditLogs": _audit,
    "bucketInstanceDetails": _bucket_details,
    "bucketS3Credentials": _bucket_credentials,
    "domains": _domains,
    "notificationRules": _rules,
    "privateNetworkEndpoint": _endpoint,
    "privateNetworks": _networks,
    "tcpProxies": _proxies,
    "template": lambda call: template_view(find_template(call.platform, call.get("id"), call.get("code"))),
    "templateSourceForProject": _source_template,
    "volumeInstance": lambda call: volume_instance_view(call.platform, *call.scope.volume_instance(call["id"])),
    "volumeInstanceBackupList": _backups,
    "volumeInstanceBackupScheduleList": _schedules,
    "workflowStatus": lambda call: call.platform.workflows.status(call["workflowId"]),
}
