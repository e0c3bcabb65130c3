"""What only the platform knows: does each service's deployment run, are its volume and its memory full.

Two requests a sweep, whatever the number of services: the whole environment, and all measurements. Sweeps every minute take 120
of an hour's rate limit. What Railway does not say is unknown, and never held against a service.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.errors import SettingsError
from blocks.railway_api import documents
from blocks.railway_api.access import headers
from blocks.railway_api.documents import Document
from blocks.railway_api.models import DeploymentStatus, InstanceStatus, Inventory, Series, ServiceInstance, VolumeInstance
from flows.health.findings import Findings, NoAnswer
from flows.health.observation import Status
from flows.health.reach import Web, web
from flows.health.targets import Limits, Railway
from railway.stack import SERVICES

__all__ = ["MAIN", "SERVICE", "check", "judge_deployment"]

SERVICE = "railway"
"""The platform itself, as one that is watched: only ever ok or unknown."""
MAIN = "api"

_WINDOW = timedelta(minutes=10)
"""Of measurements: the newest counts, and the platform is minutes behind."""
_SAMPLE_SECONDS = 60
_STATUS_PAGE = "see status.railway.com"
_DENIED = re.compile(r"not authorized|unauthorized", re.IGNORECASE)


async def check(target: Railway, found: Findings, limits: Limits) -> None:
    """Look at the services of the stack; others in the environment are nobody's business here."""
    found.title = "Railway's API"
    with found.looking(MAIN, Status.UNKNOWN, remedy=_STATUS_PAGE):
        _complete(target)
        async with web(target.url, headers(target.token, target.kind)) as api:
            where = {"projectId": target.project_id, "environmentId": target.environment_id}
            data, latency = await _ask(api, target, documents.INVENTORY, where)
            inventory = Inventory.of(data["environment"])
            found.add(MAIN, Status.OK, "Railway's API answers", latency_ms=latency)
            services = {name: one for one in inventory.services.values() if (name := _name(one.name)) in SERVICES}
            _judge(services, found, limits)
            with found.looking("metrics", Status.UNKNOWN, remedy=_STATUS_PAGE):
                data, _ = await _ask(api, target, documents.METRICS, {**where, **_wanted()})
                _memory(data["metrics"], services, found, limits)


def judge_deployment(service: ServiceInstance, limits: Limits, now: datetime) -> tuple[Status, str] | None:
    """Say how a service's newest deployment is, and what to do; None where it was never deployed."""
    newest = service.latest
    if newest is None:
        return None
    serves = any(one.status.active and not one.stopped for one in service.active)
    what, log = f"the newest deployment of {service.name}", "read its log in Railway's dashboard"
    if newest.status in (DeploymentStatus.FAILED, DeploymentStatus.CRASHED):
        how = "failed" if newest.status is DeploymentStatus.FAILED else "crashed"
        if serves:
            return Status.DEGRADED, f"{what} {how}, the one before it still serves; {log}, then deploy what is right"
        return Status.DOWN, f"{what} {how}, and nothing else of it runs; {log}, deploy it again or roll back"
    if newest.status in (DeploymentStatus.REMOVED, DeploymentStatus.SKIPPED):
        if serves:
            return Status.OK, f"{what} is {newest.status}, the one before it serves"
        return Status.DOWN, f"{what} is {newest.status}, and nothing of it runs; deploy it, or delete the service"
    if newest.status is DeploymentStatus.NEEDS_APPROVAL:
        return Status.DEGRADED, f"{what} waits for an approval; approve or reject it in Railway's dashboard"
    if newest.status is DeploymentStatus.UNKNOWN:
        return Status.UNKNOWN, f"{what} has a status that this version does not know; see Railway's dashboard"
    if not newest.status.over:
        minutes = (now - (newest.status_updated_at or newest.created_at)).total_seconds() / 60
        if minutes * 60 > limits.deploying_seconds:
            expected = f"expected at most {limits.deploying_seconds / 60:g}"
            return Status.DEGRADED, f"{what} is {newest.status} for {minutes:.0f} min, {expected}; {log}, cancel it"
        return Status.OK, f"{service.name} is being deployed ({newest.status})"
    return _running(service, what, log)


def _running(service: ServiceInstance, what: str, log: str) -> tuple[Status, str]:
    """The same of one that is active, as far as its status goes."""
    newest = service.latest
    assert newest is not None  # noqa: S101 - judged by the caller
    if newest.status is DeploymentStatus.SLEEPING or service.cron_schedule:
        return Status.OK, f"{service.name} runs when it is needed"
    states = [one.status for one in newest.instances]
    bad = [one for one in states if one in (InstanceStatus.CRASHED, InstanceStatus.RESTARTING, InstanceStatus.EXITED)]
    if newest.stopped or (bad and InstanceStatus.RUNNING not in states):
        return Status.DOWN, f"no container of {service.name} runs any more; {log}, then deploy it"
    if bad:
        return Status.DEGRADED, f"a container of {service.name} is {bad[0]}, expected RUNNING; {log}"
    if newest.image and service.image and newest.image != service.image:
        expected = f"expected {service.image} as it is configured"
        return (
            Status.DEGRADED,
            f"{service.name} runs {newest.image}, {expected}; deploy it (a redeployment reruns the old image)",
        )
    return Status.OK, f"{what} runs"


def _judge(services: Mapping[str, ServiceInstance], found: Findings, limits: Limits) -> None:
    now = datetime.now(UTC)
    for name, one in services.items():
        if judged := judge_deployment(one, limits, now):
            found.add("deployment", judged[0], judged[1], service=name)
        if one.volume is not None:
            _volume(name, one.volume, found, limits)


def _volume(name: str, volume: VolumeInstance, found: Findings, limits: Limits) -> None:
    title = SERVICES[name].title
    if volume.pending_deletion or volume.state in ("ERROR", "DELETING", "DELETED"):
        state = "about to be deleted" if volume.pending_deletion else str(volume.state)
        todo = "see it in Railway's dashboard now: a deleted one can be brought back for 48 hours"
        found.add("volume-state", Status.DEGRADED, f"the volume of {title} is {state}, expected READY; {todo}", service=name)
    else:
        found.add("volume-state", Status.OK, f"the volume of {title} is there", service=name)
    if volume.size_mb <= 0:
        return
    percent, limit = round(100 * volume.used_mb / volume.size_mb, 1), limits.volume_percent
    text = f"the volume of {title} is {percent:g} % full ({volume.used_mb / 1000:.1f} of {volume.size_mb / 1000:g} GB)"
    todo = "grow it in Railway's dashboard, which works while it is in use, then find what fills it"
    status = Status.OK if percent <= limit else Status.DEGRADED if percent < limits.disk_full_percent else Status.DOWN
    sentence = f"{text}, expected at most {limit:g} %" + ("" if status is Status.OK else f"; {todo}")
    found.add("volume", status, sentence, service=name, value=percent, limit=limit, unit="%")


def _memory(metrics: Any, services: Mapping[str, ServiceInstance], found: Findings, limits: Limits) -> None:
    series = [Series.model_validate(one) for one in metrics]
    used, most = ({one.service_id: one.last for one in series if one.measurement == kind} for kind in _MEASUREMENTS)
    for name, one in services.items():
        now, limit = used.get(one.service_id), most.get(one.service_id)
        if now is None or not limit:
            continue
        percent, title = round(100 * now / limit, 1), SERVICES[name].title
        text = f"{title} uses {now:.2f} of {limit:g} GB of memory, expected at most {limits.container_percent:g} %"
        todo = "raise its limit or find what uses it: at 100 % it is killed"
        status = Status.OK if percent <= limits.container_percent else Status.DEGRADED
        sentence = text if status is Status.OK else f"{text}; {todo}"
        found.add("container-memory", status, sentence, service=name, value=percent, limit=limits.container_percent, unit="%")
    found.add("metrics", Status.OK, f"Railway's API has measurements of {len(used)} services")


_MEASUREMENTS = ("MEMORY_USAGE_GB", "MEMORY_LIMIT_GB")


def _wanted() -> dict[str, Any]:
    return {
        "serviceId": None,
        "startDate": (datetime.now(UTC) - _WINDOW).isoformat(),
        "sampleRateSeconds": _SAMPLE_SECONDS,
        "measurements": list(_MEASUREMENTS),
        "groupBy": ["SERVICE_ID"],
    }


async def _ask(api: Web, target: Railway, document: Document, variables: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
    """Send a document; what the API says about an error is not repeated: it may be anything.

    Returns: the data, and the milliseconds it took.
    """
    body = json.dumps({"query": document.text, "variables": variables, "operationName": document.name})
    answer = await api.post(target.url, body, headers={"Content-Type": "application/json"})
    if answer.status == 429:
        raise NoAnswer("asks us to wait, as its limit of requests an hour is used up: a larger CHECK_INTERVAL asks less")
    found = answer.json()
    if answer.status in (401, 403) or _DENIED.search(json.dumps(found.get("errors") or "")):
        raise SettingsError(
            f"railway: the {target.kind} token may not read the {document.name.lower()}, so nobody looked; expected a living "
            "one of the workspace: set RAILWAY_API_TOKEN instead of RAILWAY_TOKEN"
        )
    data = found.get("data")
    if answer.status >= 300 or found.get("errors") or not isinstance(data, dict):
        raise NoAnswer(f"answers {answer.status} with an error")
    return data, answer.latency_ms


def _complete(target: Railway) -> None:
    for variable, value in (("PROJECT", target.project_id), ("ENVIRONMENT", target.environment_id)):
        if not value:
            raise SettingsError(
                f"setting RAILWAY_{variable}_ID is not set, so nobody looked; outside Railway it is not set by itself"
            )


def _name(name: str) -> str:
    """The stack's name for a service: the dashboard likes `Postgres` and `Langfuse Web`."""
    return re.sub(r"[ _]+", "-", name.strip().lower())
