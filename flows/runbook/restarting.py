"""Restarting one service on Railway: what is known of it, what follows from that, and the two ways to start it again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blocks.railway import PROTECTED, RailwayApi, certainly
from blocks.railway_api.models import Deployment, DeploymentStatus, ServiceInstance
from flows.runbook.frame import Action, Diagnosis, Verdict

__all__ = ["Await", "Known", "Redeploy", "Restart", "Waits", "WayBack", "decide"]

CHANGING = frozenset({"restore", "restore-bucket", "restore-table", "upgrade", "upgrade-postgres", "deploy"})
"""Flows that stop and start services themselves while they hold the stack's lock."""


@dataclass(frozen=True)
class Waits:
    """Seconds: `deployment`, for one to come up beyond its own health check; `settle`, for containers after SUCCESS; `poll`."""

    deployment: float = 900.0
    settle: float = 60.0
    poll: float = 5.0


@dataclass(frozen=True)
class WayBack:
    """What is known of an image that does not run, and of the way back to what ran before.

    Attributes:
        sentence: which image failed, and what ran before. image: to go back to, by its digest; empty where there is none.
        why: there is none. only: nothing smaller helps, for the failed image never came up.
    """

    sentence: str
    image: str
    why: str
    only: bool


@dataclass(frozen=True)
class Known:
    """What is known of a service.

    Attributes:
        wrong: what the checks say, a sentence each. seen: they could look. needs_down: those that it needs and that are down.
        there: as Railway has it; None where it has none of that name. at_work: the flow that holds the stack's lock, or empty.
        asked: a person wants it restarted although its checks are green. back: None where its image is not to blame.
    """

    service: str
    wrong: Sequence[str]
    seen: bool = True
    needs_down: Sequence[str] = ()
    there: ServiceInstance | None = None
    at_work: str = ""
    asked: bool = False
    back: WayBack | None = None


def decide(known: Known, ladder: Callable[[ServiceInstance, Deployment], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        ladder: makes the actions for a service whose newest deployment is known.
    """
    facts = _facts(known)

    def needs_a_person(why: str) -> Diagnosis:
        return Diagnosis(Verdict.PERSON, why, facts)

    if not known.wrong and not known.asked:
        return Diagnosis(Verdict.NOTHING, f"the checks of {known.service} are green", facts)
    if not known.seen and not known.asked:
        return needs_a_person(f"nobody knows how {known.service} is, and unknown is not down: {known.wrong[0]}")
    if known.service in PROTECTED:
        return needs_a_person(
            f"{known.service} operates the stack, and a run must not end itself: restart it in Railway's dashboard"
        )
    if known.at_work in CHANGING:
        return needs_a_person(f"{known.at_work} is under way, and starts what it stops by itself: wait for its end")
    if known.needs_down:
        first = known.needs_down[0]
        return needs_a_person(f"{', '.join(known.needs_down)} must be well first: {known.service} needs it; heal {first}")
    if known.there is None:
        return needs_a_person(f"there is no service {known.service} in this Railway environment: deploy it (deploy/on-demand)")
    newest = known.there.latest
    if newest is None:
        return needs_a_person(f"{known.service} was never deployed: deploy it (deploy/on-demand)")
    if newest.status is DeploymentStatus.NEEDS_APPROVAL:
        return needs_a_person(
            f"a deployment of {known.service} waits for approval: approve or reject it in Railway's dashboard"
        )
    sentence = known.wrong[0] if known.wrong else f"{known.service} is well, and is restarted because somebody wants that"
    if known.back is not None:
        sentence = f"{sentence}; {known.back.sentence}"
    rungs = ladder(known.there, newest)
    if rungs:
        return Diagnosis(Verdict.HEALS, sentence, facts, rungs)
    if known.back is not None:
        sentence = f"{sentence}; there is nothing to go back to: {known.back.why}; deploy an image that is there and starts"
    return needs_a_person(sentence)


def _facts(known: Known) -> dict[str, str]:
    facts = {"checks": "; ".join(known.wrong) or "green", "needs that are down": ", ".join(known.needs_down) or "none"}
    facts["at work on the stack"] = known.at_work or "nobody"
    if known.there is not None and (newest := known.there.latest) is not None:
        states = ", ".join(one.status.value for one in newest.instances) or "none"
        facts["newest deployment"] = f"{newest.id} {newest.status}, containers: {states}"
        facts["image"] = f"runs {newest.image or 'unknown'}, configured is {known.there.image or 'none'}"
    if known.back is not None:
        facts["to blame"] = known.back.sentence
        facts["instead"] = known.back.image or f"nothing: {known.back.why}"
    return facts


@dataclass(frozen=True)
class _OnRailway(Action):
    """Base: one service there.

    Attributes:
        well: says whether it has become well meanwhile, a sentence, or empty.
    """

    api: RailwayApi
    service: str
    service_id: str
    well: Callable[[], str]
    waits: Waits

    def needless(self) -> str:
        """As in `Action`."""
        return self.well()

    def _up(self, deployment_id: str) -> str:
        waits = self.waits
        self.api.wait_for_deployment(deployment_id, timeout=waits.deployment, poll=waits.poll, settle=waits.settle)
        return f"its container runs (deployment {deployment_id})"


@dataclass(frozen=True)
class Await(_OnRailway):
    """Waits for a deployment that is under way already: another run, or a person, has begun it."""

    deployment_id: str

    def describe(self) -> str:
        """As in `Action`."""
        return f"wait for the deployment of {self.service} that is under way ({self.deployment_id})"

    def do(self) -> str:
        """As in `Action`."""
        return self._up(self.deployment_id)


@dataclass(frozen=True)
class Restart(_OnRailway):
    """Restarts the containers of what is deployed: same image, same variables, same volume."""

    deployment_id: str

    def describe(self) -> str:
        """As in `Action`."""
        return f"restart the containers of {self.service} (deployment {self.deployment_id})"

    def do(self) -> str:
        """As in `Action`."""
        self.api.restart(self.deployment_id)
        return self._up(self.deployment_id)


@dataclass(frozen=True)
class Redeploy(_OnRailway):
    """Runs the newest deployment once more as it was, in a new container, whatever is configured by now."""

    deployment_id: str

    def describe(self) -> str:
        """As in `Action`."""
        return f"run the newest deployment of {self.service} again in a new container, with the same image and variables"

    def do(self) -> str:
        """As in `Action`."""
        before = {one.id for one in self.api.deployments(self.service_id)}

        def find() -> str | None:
            newest = next(iter(self.api.deployments(self.service_id, first=1)), None)
            return newest.id if newest is not None and newest.id not in before else None

        made = certainly(lambda: self.api.redeploy(self.deployment_id, same_digest=True), find)
        return self._up(made)
