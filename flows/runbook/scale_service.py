"""scale-service: a service is too small, or larger than it need be."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError
from blocks.railway_api.models import ServiceInstance
from flows.deploy.flow import environment_of
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.resizing import PutBack, Scale, Sized
from flows.runbook.running import carry_out
from flows.runbook.scaling import SCALABLE, Ceiling, Known, Scaled, Size, decide
from flows.stack import Stack
from railway.stack import SERVICES

__all__ = ["MEMORY", "ScaleRequest", "TooSmall", "is_called", "scale_service", "service_of", "wanted_of"]

MEMORY = "container-memory"
_TIMES = 2.0
"""So much memory as before is asked for where an incident says that it is too little, and a person does not say how much."""


class ScaleRequest(RunbookRequest):
    """Which service, and how large."""

    service: str = Field(default="", description="litellm, langfuse-web or langfuse-worker; empty: the incident's")
    replicas: int | None = Field(default=None, ge=1, description="So many containers; empty: as many as now")
    memory_gb: float | None = Field(
        default=None, ge=0.5, description="GB of memory for each; empty: as now, and twice that where an incident calls for it"
    )
    cpus: float | None = Field(default=None, ge=0.25, description="Virtual CPUs for each; empty: as now")
    back: bool = Field(default=False, description="Go back to the size before the last time it was scaled by this")


@flow(name="scale-service", validate_parameters=True, timeout_seconds=2 * 3600)
def scale_service(request: ScaleRequest = ScaleRequest()) -> str:
    """Change how many containers a service has, and how much each may use.

    Symptom: a container is near its memory limit or is killed at it; requests wait though the databases are idle; Langfuse's
    queues grow although its worker works. Or a service is larger than it need be.

    Diagnosis: its size now, what its checks say, what the change costs at most, how many of Postgres' connections are used
    (each further container opens more), and whether Railway would deploy anything else along with it.

    Remedy: after an approval: replicas start from the image that runs, without a deployment; other limits need one, of the same
    image. The size before is noted on the service (STACK_SCALED): where it is down afterwards it is put back, and `back` does
    so at any time. At most SCALE_MOST_REPLICAS, SCALE_MOST_MEMORY_GB and SCALE_MOST_CPUS.

    When not to: Postgres, ClickHouse, Redis and the object store have a volume and run once. Langfuse's heap has a limit of its
    own, in NODE_OPTIONS: more memory alone does not raise it. For good the size belongs into railway/services/: the next deploy
    brings the limits back to what stands there, and says so in its plan.

    Args:
        request: which service.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why, and what was put back.
        ApprovalMissing: nobody approved; nothing was changed.
        SettingsError: there is no such service, nothing is asked for, or there is no token of Railway's API.
    """
    stack = Stack.load()
    name = service_of(request)
    if request.incident and environment_if_any(stack.settings) is None:
        line(f"{name} is left to people, who have been told: there is no token of Railway's API, so nothing can be scaled")
        return Verdict.PERSON.value
    with environment_of(stack.settings).open() as api:
        runbook = TooSmall(stack, Sized(api, name), Targets.from_settings(stack.settings), request)
        # measurements of a new container are minutes late
        return carry_out(runbook, request, stack, Pace(settle=900 if runbook.aspects else 120, longest=900))


def service_of(request: ScaleRequest) -> str:
    """Name the service to scale.

    Raises:
        SettingsError: there is none of that name, or nothing is asked for.
    """
    patient = request.patient()
    name = request.service or (patient.service if patient else "")
    if name not in SERVICES:
        raise SettingsError(f"scale-service: there is no service {name!r}; expected one of {', '.join(SCALABLE)}")
    asked = (request.replicas, request.memory_gb, request.cpus)
    if not request.back and all(one is None for one in asked) and not is_called(request):
        raise SettingsError(f"scale-service: nothing is asked of {name}; give replicas, memory_gb or cpus, or back")
    return name


def is_called(request: ScaleRequest) -> bool:
    """Whether an incident about memory calls for it, and nobody says how much."""
    patient, asked = request.patient(), (request.replicas, request.memory_gb, request.cpus)
    return patient is not None and patient.aspect == MEMORY and not request.back and all(one is None for one in asked)


def wanted_of(request: ScaleRequest, now: Size, noted: Scaled | None, ceiling: Ceiling) -> Size:
    """Work out the size that is asked for.

    Args:
        now: its size. noted: what an earlier run has noted on the service.
    Raises:
        SettingsError: it is to go back, and was never scaled.
    """
    if request.back:
        if noted is None:
            raise SettingsError(f"scale-service: {service_of(request)} was never scaled by this, so there is no way back")
        return noted.after if noted.back and not noted.done else noted.before
    memory = request.memory_gb
    if is_called(request):
        if noted is not None and not noted.done:
            return noted.after  # what a run that died had begun for it
        memory = None if now.memory_gb is None else min(_TIMES * now.memory_gb, max(ceiling.memory_gb, now.memory_gb))
    return Size(
        replicas=request.replicas or now.replicas,
        memory_gb=now.memory_gb if memory is None else memory,
        cpus=now.cpus if request.cpus is None else request.cpus,
    )


@dataclass
class TooSmall(Runbook):
    """One service at Railway.

    Attributes:
        at: where it is.
    """

    stack: Stack
    at: Sized
    targets: Targets
    request: ScaleRequest
    name: str = "scale-service"
    service: str = field(init=False)
    _wanted: Size | None = None

    def __post_init__(self) -> None:
        self.service = self.at.service

    @property
    def aspects(self) -> Collection[str]:
        """Of the incident: what has to be ok again, beside the service as a whole."""
        patient = self.request.patient()
        return (patient.aspect,) if patient is not None and patient.service == self.service else ()

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        there, ceiling = self.at.there(), Ceiling.from_settings(self.stack.settings)
        now, noted = (Size(), None) if there is None else (self.at.size(there), self.at.noted(there))
        self._wanted = wanted_of(self.request, now, noted, ceiling)
        found = observe_services(self.targets, {self.service, "postgres"})
        used = next((one for one in found if (one.service, one.aspect) == ("postgres", "connections")), None)
        known = Known(
            service=self.service,
            there=there,
            now=now,
            wanted=self._wanted,
            ceiling=ceiling,
            noted=noted,
            wrong=wrong_with(found, self.service, self.aspects),
            connections=(used.value, used.limit) if used and used.value is not None and used.limit is not None else None,
            at_work=at_work(self.stack),
            called=is_called(self.request),
        )
        return decide(known, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: it has the size that was asked for, it is not down, and the incident's aspect is ok."""
        there = self.at.there()
        if there is None:
            return [f"there is no {self.service} in this Railway environment any more"]
        noted, now = self.at.noted(there), self.at.size(there)
        if self._wanted is not None and not now.like(self._wanted):
            return [f"{self.service} has {now}, expected {self._wanted}", *self.down()]
        if noted is not None and not noted.done:
            return [f"{self.service} is configured as {now}, but that does not run yet", *self.down()]
        return wrong_with(observe_services(self.targets, {self.service}), self.service, self.aspects)

    def down(self) -> list[str]:
        """What is down about it, a sentence each."""
        return wrong_with(observe_services(self.targets, {self.service}), self.service)

    def _ladder(self, there: ServiceInstance) -> tuple[Action, ...]:
        now, noted = self.at.size(there), self.at.noted(there)
        assert self._wanted is not None  # noqa: S101 - worked out right before
        back = self.request.back
        resumes = noted is not None and not noted.done and noted.back == back
        before = noted.before if noted is not None and resumes else now
        return (Scale(self.at, before, self._wanted, back), PutBack(self.at, before, self._wanted, self.down))
