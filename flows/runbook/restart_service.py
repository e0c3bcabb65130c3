"""restart-service: a service is down or hangs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError
from blocks.railway import RailwayApi
from blocks.railway_api.models import Deployment, ServiceInstance
from flows.deploy.flow import environment_of
from flows.health.dependencies import needs_of
from flows.health.observation import Status
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.bad_image import serving
from flows.runbook.environment import environment_if_any, instance_of
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.going_back import Pin, way_back
from flows.runbook.heal import Pace
from flows.runbook.look import down_needs, observe_services, wrong_with
from flows.runbook.restarting import Await, Known, Redeploy, Restart, Waits, WayBack, decide
from flows.runbook.running import carry_out
from flows.runbook.securing import secure_today
from flows.stack import Stack
from railway.stack import SERVICES, start_order

__all__ = ["RestartRequest", "ServiceDown", "restart_service"]

DEPLOYMENT = "deployment"
"""The aspect that says how the newest deployment is, which may have failed while the one before it serves."""
_MIGRATES = ("litellm", "langfuse-web")
"""What changes its database when it starts: before another release of it does, there is a backup set."""


class RestartRequest(RunbookRequest):
    """Which service."""

    service: str = Field(default="", description="Name of the service, for example litellm; empty: the incident's")
    dependents: bool = Field(
        default=False, description="Afterwards also restart the services that need it and are still down, in their order"
    )
    even_if_well: bool = Field(default=False, description="Restart it although its checks are green")


@flow(name="restart-service", validate_parameters=True, timeout_seconds=3 * 3600)
def restart_service(request: RestartRequest = RestartRequest()) -> list[str]:
    """Start a service again that is down or hangs.

    Symptom: a service does not answer, answers with errors, or its container has ended; its incident is open, those that need
    it are listed as casualties.

    Diagnosis: what its checks say now; whether something that it needs is down, which comes first then; how its newest
    deployment on Railway is; whether a restore, upgrade or deploy is under way, which starts what it stops by itself. Where
    the newest deployment failed, or crashed within an hour: which image that was, whether its registry has it, what ran before.

    Remedy: wait for a deployment that is under way; restart the containers, as they are; restart them again, with twice the
    time to come up; run the same deployment again in a new container. Where only the newest deployment failed and the one
    before it serves well, that one is not restarted, which would only interrupt it. Where another image than before failed, or
    the same one whose tag the registry has lost: approved by a person, what ran before is configured again by its digest, and
    deployed; for LiteLLM and langfuse-web, which migrate, with a backup set of today. Afterwards, by a person: find out what
    is wrong with the new image before it is deployed again. Then it gives up: the run fails, and people are told.

    When not to: where a new variable is the cause: a restart brings back the same. Change it, and deploy. A database whose new
    release has written to its files already may not start with the old one: restore a set then. Where langfuse-web's log says
    `no migration found for version N` and nothing newer ran before: go forward. Prefect's server and worker are not restarted
    by this: their own restart would end the run.

    Args:
        request: which service.
    Returns: how it ended, a line for each service.
    Raises:
        NotHealed: a person is needed; says why.
        SettingsError: there is no such service, or a person asks where there is no token of Railway's API.
    """
    stack = Stack.load()
    name = service_of(request)
    if request.incident and environment_if_any(stack.settings) is None:
        line(f"{name} is left to people, who have been told: there is no token of Railway's API, so nothing can be restarted")
        return [f"{name}: {Verdict.PERSON}"]
    with environment_of(stack.settings).open() as api:
        ended = []
        for service in [name, *dependents_of(name, request.dependents)]:
            asked, aspects = request.even_if_well and service == name, aspects_of(request, service)
            runbook = ServiceDown(stack, api, Targets.from_settings(stack.settings), service, aspects, asked)
            ended.append(f"{service}: {carry_out(runbook, request, stack, Pace(settle=90))}")
    return ended


def service_of(request: RestartRequest) -> str:
    """Name the service to restart.

    Raises:
        SettingsError: there is none of that name.
    """
    patient = request.patient()
    name = request.service or (patient.service if patient else "")
    if name not in SERVICES:
        raise SettingsError(f"restart-service: there is no service {name!r}; expected one of {', '.join(SERVICES)}")
    return name


def dependents_of(name: str, wanted: bool) -> list[str]:
    """Name the services that need one, also through others, in the order in which they are started."""
    return start_order(one for one in SERVICES if name in needs_of(one)) if wanted else []


def aspects_of(request: RestartRequest, service: str) -> tuple[str, ...]:
    """Of the incident: what has to be ok again, beside the service as a whole."""
    patient = request.patient()
    return (patient.aspect,) if patient is not None and patient.service == service else ()


@dataclass
class ServiceDown(Runbook):
    """One service at Railway.

    Attributes:
        aspects: that have to be ok again. asked: restart it even if it is well. waits: for what Railway does.
        secure: takes a backup set of a stack under a label, unless there is one of today.
    """

    stack: Stack
    api: RailwayApi
    targets: Targets
    service: str
    aspects: Collection[str] = ()
    asked: bool = False
    waits: Waits = field(default_factory=Waits)
    name: str = "restart-service"
    secure: Callable[[Stack, str], str] = secure_today
    _restarted: bool = False

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        found = observe_services(self.targets, {self.service, *needs_of(self.service)})
        wrong, there = wrong_with(found, self.service, self.aspects), instance_of(self.api, self.service)
        is_down = bool(wrong_with(found, self.service, [one for one in self.aspects if one != DEPLOYMENT]))
        back = way_back(self.api, self.stack, self.service, there) if wrong and there is not None else None
        known = Known(
            service=self.service,
            wrong=wrong,
            seen=any(one.service == self.service and one.status is not Status.UNKNOWN for one in found),
            needs_down=start_order(down_needs(found, self.service)),
            there=there,
            at_work=at_work(self.stack),
            asked=self.asked,
            back=back,
        )
        return decide(known, partial(self._ladder, back, is_down))

    def wrong(self) -> list[str]:
        """As in `Runbook`: the same checks, and Railway's word."""
        return wrong_with(observe_services(self.targets, {self.service}), self.service, self.aspects)

    def _ladder(self, back: WayBack | None, is_down: bool, there: ServiceInstance, newest: Deployment) -> tuple[Action, ...]:
        """Wait for what is under way; restart, and again with twice the patience; the same in a new container; what ran before.

        Args:
            is_down: the service itself, and not only its newest deployment.
        """
        # one that hangs is given its draining time first, in which its container is not running
        waits = replace(self.waits, settle=self.waits.settle + (there.draining_seconds or 0))
        given = (self.api, self.service, there.service_id, self._well, waits)
        serves = serving(there)
        as_configured = not (newest.status.active and there.image and newest.image != there.image)
        rungs: list[Action] = []
        if not newest.status.over:
            rungs.append(Await(*given, newest.id))
        if serves is not None and (is_down or self.asked or (as_configured and serves.id == newest.id)):
            rungs += [Restart(*given, serves.id)] * 2
        in_vain = back is not None and (back.only or (bool(back.image) and not newest.status.over))
        if (is_down or self.asked or as_configured) and not in_vain:
            rungs.append(Redeploy(*given, (serves or newest).id))
        if back is not None and back.image:
            rungs.append(self._pin(there, back.image, waits))
        return tuple(rungs)

    def _pin(self, there: ServiceInstance, image: str, waits: Waits) -> Pin:
        """Go back to what ran before."""
        take = partial(self.secure, self.stack, f"before restart-service {self.service}")
        secured = take if self.service in _MIGRATES else None
        seconds, old = there.healthcheck_timeout or 0, there.image or "what is configured"
        return Pin(self.api, self.service, there.service_id, old, image, seconds, secured, waits, self._well)

    def _well(self) -> str:
        """Say so where it has become well by itself; a person who wants a restart gets it once all the same."""
        if self.asked and not self._restarted:
            self._restarted = True
            return ""
        return "" if self.wrong() else f"{self.service} is well by now"
