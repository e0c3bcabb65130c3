"""Giving one service at Railway another size, and its old one back; what is done is noted on the service itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from blocks.errors import NotHealed
from blocks.railway import RailwayApi
from blocks.railway_api.models import ServiceInstance, ServiceSettings
from flows.deploy.rollout import deploy_now
from flows.report import line
from flows.runbook.environment import instance_of
from flows.runbook.frame import Action
from flows.runbook.restarting import Waits
from flows.runbook.scaling import Scaled, Size, dearer

__all__ = ["NOTE", "PutBack", "Scale", "Sized"]

NOTE = "STACK_SCALED"
"""A variable of the service: what was changed, from before the change on. Railway keeps no record of a size."""
_GB = 1_000_000_000


@dataclass(frozen=True)
class Sized:
    """One service at Railway.

    Attributes:
        waits: for what Railway does.
    """

    api: RailwayApi
    service: str
    waits: Waits = field(default_factory=Waits)

    def there(self) -> ServiceInstance | None:
        """Find it; None where there is none of that name."""
        return instance_of(self.api, self.service)

    def need(self) -> ServiceInstance:
        """Find it.

        Raises:
            NotHealed: somebody has deleted it.
        """
        there = self.there()
        if there is None or there.latest is None:
            raise NotHealed(f"{self.service}: it is not in this Railway environment any more; who deleted it?")
        return there

    def size(self, there: ServiceInstance) -> Size:
        """Read its size."""
        caps = self.api.current_limits(there.service_id).get("containers") or {}
        memory = caps.get("memoryBytes")
        return Size(replicas=there.replicas or 1, memory_gb=memory / _GB if memory else None, cpus=caps.get("cpu"))

    def noted(self, there: ServiceInstance) -> Scaled | None:
        """Read what an earlier run has noted; None where there is nothing, or nothing that can be read."""
        text = self.api.variables(there.service_id).get(NOTE, "")
        try:
            return Scaled.model_validate_json(text) if text else None
        except ValidationError:
            line(f"{self.service}: {NOTE} holds no size, as if it had never been scaled")
            return None

    def note(self, there: ServiceInstance, scaled: Scaled) -> None:
        """Write down what is done; nothing is deployed for it."""
        self.api.set_variables(there.service_id, {NOTE: scaled.model_dump_json()})

    def resize(self, there: ServiceInstance, before: Size, size: Size) -> str:
        """Have Railway give it a size, and wait until that runs; whatever of it is done already is not done again.

        Args:
            before: what its containers may still have: other limits count from the next deployment on.
        """
        assert there.latest is not None  # noqa: S101 - as `need` says
        waits, deployment, now = self.waits, there.latest.id, self.size(there)
        if not there.latest.status.over:  # of a run that died
            self.api.wait_for_deployment(deployment, timeout=waits.deployment, poll=waits.poll, settle=waits.settle)
        if now.replicas != size.replicas:
            self._replicate(there, size.replicas)
        if not now.limited_like(size):
            self._limit(there, now, size)
        if not before.limited_like(size) or (before.replicas != size.replicas and not there.region):
            deployment = deploy_now(self.api, there.service_id)
        self.api.wait_for_deployment(deployment, timeout=waits.deployment, poll=waits.poll, settle=waits.settle)
        return f"{size} runs (deployment {deployment})"

    def _limit(self, there: ServiceInstance, now: Size, size: Size) -> None:
        """Set its limits; one that goes back to the plan's cannot be set, and is taken away."""
        if (size.memory_gb, size.cpus).count(None) <= (now.memory_gb, now.cpus).count(None):
            self.api.limits(there.service_id, memory_gb=size.memory_gb, vcpus=size.cpus)
            return
        left = {"memoryBytes": int(size.memory_gb * _GB) if size.memory_gb else None, "cpu": size.cpus}
        limits = (
            {"containers": {name: value for name, value in left.items() if value is not None}} if any(left.values()) else None
        )
        self.api.patch({"services": {there.service_id: {"deploy": {"limitOverride": limits}}}}, f"{self.service}: {size}")

    def _replicate(self, there: ServiceInstance, count: int) -> None:
        if not there.region:
            self.api.update_service(there.service_id, ServiceSettings(replicas=count))
            return
        regions = {"multiRegionConfig": {there.region: {"numReplicas": count}}}
        self.api.patch({"services": {there.service_id: {"deploy": regions}}}, f"{self.service}: {count} replicas")


@dataclass(frozen=True)
class Scale(Action):
    """Gives the service another size."""

    at: Sized
    before: Size
    after: Size
    back: bool = False

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return f"{dearer(self.before, self.after)}; way back: scale-service with back"

    def describe(self) -> str:
        """As in `Action`."""
        return f"scale {self.at.service}: {self.before} -> {self.after}"

    def do(self) -> str:
        """As in `Action`. Railway keeps no record of a size, so that it is noted before anything is changed.

        Raises:
            NotHealed: somebody has deleted the service.
        """
        there = self.at.need()
        scaled = Scaled(before=self.before, after=self.after, back=self.back)
        self.at.note(there, scaled)
        said = self.at.resize(there, self.before, self.after)
        self.at.note(there, scaled.model_copy(update={"done": True}))
        return said


@dataclass(frozen=True)
class PutBack(Action):
    """Gives it back the size that it had: it is down with the new one.

    Attributes:
        down: says what is down about it.
    """

    at: Sized
    before: Size
    after: Size
    down: Callable[[], list[str]]

    def describe(self) -> str:
        """As in `Action`."""
        return f"put {self.at.service} back to {self.before}, where it is down with its new size"

    def needless(self) -> str:
        """As in `Action`."""
        there = self.at.need()
        noted = self.at.noted(there)
        if noted is None or noted.done:
            return "" if self.down() else "it is up with its new size"
        return ""

    def do(self) -> str:
        """As in `Action`.

        Raises:
            NotHealed: somebody has deleted the service.
        """
        there = self.at.need()
        back = Scaled(before=self.before, after=self.before)
        self.at.note(there, back)
        said = self.at.resize(there, self.after, self.before)
        self.at.note(there, back.model_copy(update={"done": True}))
        return said
