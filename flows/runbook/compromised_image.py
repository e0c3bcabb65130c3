"""compromised-image: a service runs a release that others have tampered with, or not the image that was pinned."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from prefect import flow
from pydantic import Field

from blocks.errors import GuardRefused, SettingsError
from blocks.image_name import ImageName
from blocks.railway import PROTECTED, RailwayApi
from blocks.railway_api.models import ServiceInstance
from blocks.registry import Registries
from flows.deploy.flow import environment_of
from flows.health.observation import Status
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.environment import environment_if_any, instance_of
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.going_back import Pin, is_denied, known_good, pinned
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services
from flows.runbook.restarting import CHANGING, Waits
from flows.runbook.running import carry_out
from flows.runbook.securing import secure_today
from flows.stack import Stack
from railway.stack import SERVICES

__all__ = ["CompromisedRequest", "Known", "Tampered", "compromised_image", "decide", "faults_of"]

GATEWAY = "litellm"
ASPECTS = ("version",)
_SECRET = re.compile(r"KEY|SECRET|PASSWORD|TOKEN|DATABASE_URL|CONNECTION_STRING")


class CompromisedRequest(RunbookRequest):
    """Which service, and what it shall run."""

    service: str = Field(default="", description="Name of the service; empty: the incident's, else litellm")
    image: str = Field(
        default="",
        max_length=300,
        description="What to run instead, with exact tag or digest; empty: what ran before and is not known to be bad",
    )


@flow(name="compromised-image", validate_parameters=True, timeout_seconds=4 * 3600)
def compromised_image(request: CompromisedRequest = CompromisedRequest()) -> str:
    """Replace an image that must not run, pinned to a digest that is known.

    Symptom: the sweep says that LiteLLM's version is a compromised release (1.82.7, 1.82.8, 1.107.0), `images/daily` that a tag
    leads elsewhere than it did, or Railway runs another digest than the one that the service is pinned to.

    Diagnosis: what the service is configured with, what it runs, by tag and digest as far as Railway says; what its registry
    has now; which of its earlier deployments ran something that nobody warns of; which secrets the image has seen, by name.

    Remedy: see that the other image is in its registry; take a backup set, unless there is one of today; then, approved by a
    person, pin the service to the other image by digest and deploy it. Afterwards, by a person: everything that the image has
    seen is in others' hands. Change all the keys that the report names, the providers' first (`rotate-secret`); look through
    the spend and the keys in its database; only the salt key stays, and so every credential that it sealed is entered anew.

    When not to: an image that was only built anew under its tag (repairs of what it is built on) is no attack: read why, and
    pin the new digest. An older release on a newer schema needs a look into UPGRADE.md first.

    Args:
        request: which service, and what it shall run.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why. SettingsError: there is no such service, or no token of Railway's API.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    patient = request.patient()
    service = request.service or (patient.service if patient else GATEWAY)
    if service not in SERVICES:
        raise SettingsError(f"compromised-image: there is no service {service!r}; expected one of {', '.join(SERVICES)}")
    if request.incident and environment_if_any(stack.settings) is None:
        line(f"{service} is left to people: there is no token of Railway's API; deploy another image by hand")
        return Verdict.PERSON.value
    with environment_of(stack.settings).open() as api, Registries(stack.settings.registry_url) as registries:
        runbook = Tampered(
            api=api,
            registries=registries,
            targets=Targets.from_settings(stack.settings),
            busy=lambda: at_work(stack),
            secure=partial(secure_today, stack),
            service=service,
            image=request.image,
        )
        return carry_out(runbook, request, stack, Pace(settle=90))


@dataclass(frozen=True)
class Known:
    """What is known of a service.

    Attributes:
        wrong: what the checks and the digests say. there: as Railway has it, None where it has none of that name.
        good: what it shall run, with digest, or empty. why: there is none. secrets: names of variables that it has seen.
        at_work: the flow that holds the stack's lock, or empty.
    """

    service: str
    wrong: Sequence[str]
    there: ServiceInstance | None
    good: str = ""
    why: str = ""
    secrets: Sequence[str] = ()
    at_work: str = ""


def decide(known: Known, ladder: Callable[[ServiceInstance, str], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts = {"checks and digests": "; ".join(known.wrong) or "green", "at work on the stack": known.at_work or "nobody"}
    if known.there is not None and known.there.latest is not None:
        newest = known.there.latest
        facts["configured"] = known.there.image or "none"
        facts["runs"] = f"{newest.image or 'unknown'}, digest {newest.image_digest or 'unknown'}"
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, f"nothing is known against the image of {known.service}", facts)
    facts["instead"] = known.good or known.why
    facts["change afterwards"] = ", ".join(known.secrets) or "nothing"
    if known.service in PROTECTED:
        todo = "it operates the stack, and a run must not end itself: deploy another image in Railway's dashboard"
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {todo}", facts)
    if known.at_work in CHANGING:
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {known.at_work} is under way: wait for its end", facts)
    if known.there is None:
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; Railway has no service {known.service} here", facts)
    if not known.good:
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {known.why}", facts)
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, ladder(known.there, known.good))


def faults_of(service: str, there: ServiceInstance | None) -> list[str]:
    """Say what Railway itself shows to be wrong: a denied tag, or another digest than the pinned one."""
    found: list[str] = []
    if there is None:
        return found
    running = next((one for one in there.active if not one.stopped), there.latest)
    for image in dict.fromkeys(one for one in (there.image, running.image if running else None) if one):
        with suppress(SettingsError):
            name = ImageName.parse(image)
            if is_denied(service, name):
                found.append(f"{service}: {name} is a compromised release")
            digest = running.image_digest if running is not None and running.image == image else None
            if name.digest and digest and digest != name.digest:
                found.append(f"{service} runs the digest {digest}, and is pinned to {name.digest}")
    return found


@dataclass
class Tampered(Runbook):
    """One service.

    Attributes:
        registries: asked for what shall run. busy: names the flow that holds the stack's lock. secure: takes a backup set
            under a label. image: that a person wants; empty: what ran before.
    """

    api: RailwayApi
    registries: Registries
    targets: Targets
    busy: Callable[[], str]
    secure: Callable[[str], str]
    service: str = GATEWAY
    image: str = ""
    waits: Waits = field(default_factory=Waits)
    name: str = "compromised-image"

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        there = instance_of(self.api, self.service)
        known = Known(self.service, self._wrong(there), there, at_work=self.busy())
        if there is None or not known.wrong:
            return decide(known, self._ladder)
        seen = sorted(name for name in self._variables(there) if _SECRET.search(name))
        good, why = self._instead(there)
        return decide(replace(known, good=good, why=why, secrets=seen), self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: what the gateway says of its version, and what Railway says of the image."""
        return self._wrong(instance_of(self.api, self.service))

    def _wrong(self, there: ServiceInstance | None) -> list[str]:
        found = faults_of(self.service, there)
        if self.service == GATEWAY and self.targets.litellm is not None:
            seen = observe_services(self.targets, {GATEWAY})
            found += [one.sentence for one in seen if one.aspect in ASPECTS and one.status is Status.DOWN]
        return found

    def _variables(self, there: ServiceInstance) -> list[str]:
        """Their names, of the sealed ones, too."""
        return [one.name for one in self.api.variable_meta() if one.service_id == there.service_id]

    def _instead(self, there: ServiceInstance) -> tuple[str, str]:
        """Name what it shall run, with the digest that the registry has of it; or say why there is nothing."""
        bad = {there.image, there.latest.image if there.latest else None} if faults_of(self.service, there) else set()
        name = (
            ImageName.parse(self.image)
            if self.image
            else known_good(self.service, self.api.deployments(there.service_id, 30), bad)
        )
        if name is None:
            return "", "none of its earlier deployments is one to go back to: give an image with an exact tag"
        if is_denied(self.service, name):
            raise GuardRefused(f"compromised-image: {name} is a compromised release itself; give another one")
        image, why = pinned(self.registries, name)
        return image, f"{why}; give another image with an exact tag" if why else ""

    def _ladder(self, there: ServiceInstance, good: str) -> tuple[Action, ...]:
        take = partial(self.secure, f"before compromised-image {self.service}")
        return (
            Pin(
                self.api,
                self.service,
                there.service_id,
                there.image or "",
                good,
                there.healthcheck_timeout or 0,
                take,
                self.waits,
            ),
        )
