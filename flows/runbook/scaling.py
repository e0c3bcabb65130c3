"""How large a service is and shall be, what that costs at most, and whether it may. Decides on values alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from blocks.railway_api.models import ServiceInstance
from blocks.settings import Settings
from flows.runbook.frame import Action, Diagnosis, Verdict
from flows.runbook.restarting import CHANGING

__all__ = ["SCALABLE", "Ceiling", "Known", "Scaled", "Size", "dearer", "decide"]

SCALABLE = ("litellm", "langfuse-web", "langfuse-worker")
"""They keep nothing on a disk of their own: any number of them can serve. What has a volume runs once, and never more."""
MEMORY_PRICE = 10.0
"""Dollars a GB and month (facts: railway.md 7)."""
CPU_PRICE = 20.0
"""Dollars a virtual CPU and month."""
_NEAR = 0.08
"""Memory is asked for in GB and answered in bytes, and nobody says whether a GB has 1000 or 1024 MB."""


class Size(BaseModel):
    """How large a service is. None: as Railway's plan has it.

    Attributes:
        memory_gb, cpus: that each of its replicas may use at most.
    """

    model_config = ConfigDict(frozen=True)

    replicas: int = Field(default=1, ge=1)
    memory_gb: float | None = None
    cpus: float | None = None

    def like(self, other: Size) -> bool:
        """Whether it is the same, but for what Railway rounds."""
        return self.replicas == other.replicas and self.limited_like(other)

    def limited_like(self, other: Size) -> bool:
        """Whether each replica may use the same, but for what Railway rounds."""
        if self.cpus != other.cpus or self.memory_gb is None or other.memory_gb is None:
            return (self.memory_gb, self.cpus) == (other.memory_gb, other.cpus)
        return abs(self.memory_gb / other.memory_gb - 1) < _NEAR

    def dollars(self) -> float | None:
        """What it costs a month where all of it is used all the time; None where it has no limit."""
        if self.memory_gb is None or self.cpus is None:
            return None
        return self.replicas * (self.memory_gb * MEMORY_PRICE + self.cpus * CPU_PRICE)

    def __str__(self) -> str:
        memory = "the plan's memory" if self.memory_gb is None else f"{self.memory_gb:g} GB"
        cpus = "the plan's CPUs" if self.cpus is None else f"{self.cpus:g} CPUs"
        return f"{self.replicas} x {memory}, {cpus}"


class Scaled(BaseModel):
    """What is noted on the service itself, before anything is changed: a run that dies is found by it, and so is the way back.

    Attributes:
        before, after: sizes. back: it was asked to go back. done: what was asked for runs.
    """

    model_config = ConfigDict(frozen=True)

    before: Size
    after: Size
    back: bool = False
    done: bool = False


@dataclass(frozen=True)
class Ceiling:
    """The most that a run may ask for, of one service."""

    replicas: int
    memory_gb: float
    cpus: float

    @classmethod
    def from_settings(cls, settings: Settings) -> Ceiling:
        """Read it from the settings."""
        return cls(settings.scale_most_replicas, settings.scale_most_memory_gb, settings.scale_most_cpus)

    def over(self, size: Size) -> str:
        """Say what is too much of a size, empty where nothing is."""
        for asked, most, what, setting in (
            (size.replicas, self.replicas, "replicas", "SCALE_MOST_REPLICAS"),
            (size.memory_gb or 0, self.memory_gb, "GB", "SCALE_MOST_MEMORY_GB"),
            (size.cpus or 0, self.cpus, "CPUs", "SCALE_MOST_CPUS"),
        ):
            if asked > most:
                return f"{asked:g} {what} is more than {setting} allows, which is {most:g}"
        return ""


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        there: as Railway has the service; None where it has none of that name. now, wanted: sizes.
        noted: what an earlier run has noted. wrong: what the checks say of the service.
        connections: percent of Postgres' connections that are used, and the limit; None where nobody looked.
        at_work: the flow that holds the stack's lock, or empty. called: an incident calls for it, and nobody says how much.
    """

    service: str
    there: ServiceInstance | None
    now: Size
    wanted: Size
    ceiling: Ceiling
    noted: Scaled | None = None
    wrong: Sequence[str] = ()
    connections: tuple[float, float] | None = None
    at_work: str = ""
    called: bool = False


def dearer(before: Size, after: Size) -> str:
    """Say what a change costs at most."""
    old, new = before.dollars(), after.dollars()
    if old is None or new is None:
        return "what it costs at most cannot be said, as one of them has no limit of its own; Railway bills what is used"
    sign = "more" if new >= old else "less"
    return f"at most ${abs(new - old):.0f} {sign} a month (${old:.0f} -> ${new:.0f}); Railway bills what is used"


def decide(known: Known, ladder: Callable[[ServiceInstance], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known.

    Args:
        ladder: makes the actions.
    """
    facts = _facts(known)

    def needs_a_person(why: str) -> Diagnosis:
        return Diagnosis(Verdict.PERSON, why, facts)

    if known.service not in SCALABLE:
        return needs_a_person(
            f"{known.service} is never scaled: only {', '.join(SCALABLE)} are; what has a volume runs once, and its limits are "
            "changed in railway/services/ and deployed"
        )
    there = known.there
    if there is None or there.latest is None:
        return needs_a_person(
            f"there is no {known.service} that was deployed in this environment: deploy it (deploy/on-demand)"
        )
    unfinished = known.noted is not None and not known.noted.done
    if known.now.like(known.wanted) and not unfinished:
        if known.called and known.wrong:
            return needs_a_person(
                f"{known.wrong[0]}; it has {known.now}, and no run asks for more: raise SCALE_MOST_MEMORY_GB, or find what "
                "uses it"
            )
        return Diagnosis(Verdict.NOTHING, f"{known.service} has that size already: {known.now}", facts)
    if there.volume is not None:
        return needs_a_person(f"{known.service} has a volume here, expected none: a service with a volume cannot have replicas")
    if why := known.ceiling.over(known.wanted):
        return needs_a_person(f"{known.service}: {why}; nothing was asked of Railway")
    if known.at_work in CHANGING:
        return needs_a_person(f"{known.at_work} is under way: scale {known.service} after its end")
    if not there.latest.status.over and not unfinished:
        return needs_a_person(f"a deployment of {known.service} is under way ({there.latest.status}): wait for its end")
    if there.latest.image and there.image and there.latest.image != there.image:
        return needs_a_person(
            f"{known.service} runs {there.latest.image}, configured is {there.image}: to scale it would bring that along; "
            "deploy or upgrade it first"
        )
    if known.connections and known.wanted.replicas > known.now.replicas and known.connections[0] > known.connections[1]:
        used, limit = known.connections
        return needs_a_person(
            f"{used:g} % of Postgres' connections are used, expected at most {limit:g} %: each further {known.service} opens "
            "more; free connections or raise max_connections first"
        )
    return Diagnosis(Verdict.HEALS, f"{known.service}: {known.now} -> {known.wanted}", facts, ladder(there))


def _facts(known: Known) -> dict[str, str]:
    facts = {
        "checks": "; ".join(known.wrong) or "green",
        "size now": str(known.now),
        "size wanted": str(known.wanted),
        "cost": dearer(known.now, known.wanted),
        "at work on the stack": known.at_work or "nobody",
    }
    if known.connections:
        facts["Postgres' connections"] = f"{known.connections[0]:g} % used, expected at most {known.connections[1]:g} %"
    if known.noted is not None:
        state = "" if known.noted.done else ", which did not come to its end"
        facts["scaled before"] = f"{known.noted.before} -> {known.noted.after}{state}"
    return facts
