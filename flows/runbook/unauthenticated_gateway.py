"""unauthenticated-gateway: LiteLLM serves requests without a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from prefect import flow
from pydantic import SecretStr

from blocks.errors import GuardRefused
from blocks.railway import RailwayApi
from blocks.railway_api.models import ServiceInstance
from flows.deploy.rollout import deploy_now
from flows.health.targets import Targets
from flows.report import line
from flows.runbook.environment import environment_if_any, instance_of
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.restarting import CHANGING, Waits
from flows.runbook.running import carry_out
from flows.stack import Stack
from railway.secret_values import generate
from railway.stack import Secret, SecretKind

__all__ = ["Known", "OpenGateway", "SetKey", "UnauthenticatedRequest", "decide", "unauthenticated_gateway"]

SERVICE = "litellm"
ASPECTS = ("authentication",)
VARIABLE = "LITELLM_MASTER_KEY"
PERMITS = "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"
"""Lets newer releases start without a key (facts: apps.md 1.2)."""
UNSET = ("missing", "empty")
_WEAK = frozenset({"sk-1234", "sk-12345", "sk-test-1234"})
"""Keys of LiteLLM's documentation, which everybody knows."""


class UnauthenticatedRequest(RunbookRequest):
    """Nothing but what every runbook is told."""


@flow(name="unauthenticated-gateway", validate_parameters=True, timeout_seconds=3 * 3600)
def unauthenticated_gateway(request: UnauthenticatedRequest = UnauthenticatedRequest()) -> str:
    """Close a gateway that answers whoever asks.

    Symptom: `/v1/models` or `/health/readiness/details` without a key answer 200; LiteLLM up to 1.105 starts without a master
    key and says nothing about it (facts: apps.md 1.2). Whoever finds it spends your money, and may make keys for later.

    Diagnosis: what the gateway answers to real requests without a key; whether the variable LITELLM_MASTER_KEY is there on
    Railway, empty, a word from the documentation, or only not deployed yet; whether another variable lets it start without.

    Remedy: where the variable is missing or empty, set it to the key that this worker was deployed with, or else to a new
    one, which then stands in Railway's variables only; deploy LiteLLM as it is configured; see that it answers 401. Virtual
    keys in its database go on working. Afterwards, by a person: delete keys that nobody of yours made (`/key/list`), look at
    the spend since it was open, change every provider key (`rotate-secret` says how), and deploy the services that refer to a
    new master key.

    When not to: a gateway behind another one that asks for keys may be open on purpose; say so by a maintenance window, or by
    RUNBOOK_SWITCHES `litellm/critical=ask`. Where a custom authentication hook is what lets everybody in, no key helps.

    Args:
        request: what every runbook is told.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why.
    """
    stack = Stack.load()
    place = environment_if_any(stack.settings)
    if place is None:
        line(f"{SERVICE} is left to people: there is no token of Railway's API; set {VARIABLE} on the service, and restart it")
        return Verdict.PERSON.value
    with place.open() as api:
        targets = Targets.from_settings(stack.settings)
        runbook = OpenGateway(api, targets, lambda: at_work(stack), stack.settings.litellm_master_key)
        return carry_out(runbook, request, stack, Pace(settle=60))


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check says. there: the service on Railway, None where it has none of that name.
        variable: good, empty, missing, weak, or sealed: nobody can read it. permits: a variable lets it start without a key.
        at_work: who holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    there: ServiceInstance | None
    variable: str = "missing"
    permits: bool = False
    at_work: str = ""


def decide(known: Known, ladder: Callable[[ServiceInstance, bool], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here.

    Args:
        ladder: makes the actions for a service, and whether its variable has to be set.
    """
    facts = {"checks": "; ".join(known.wrong) or "green", f"variable {VARIABLE}": known.variable}
    facts["at work on the stack"] = known.at_work or "nobody"
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "the gateway refuses requests without a key", facts)
    if known.there is not None and known.there.latest is not None:
        facts["runs since"] = f"{known.there.latest.created_at:%Y-%m-%d %H:%M} UTC"
        facts["image"] = f"runs {known.there.latest.image or 'unknown'}, configured is {known.there.image or 'none'}"
    if known.at_work in CHANGING:
        return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; {known.at_work} is under way: wait for its end", facts)
    if known.there is None or known.there.latest is None:
        return Diagnosis(
            Verdict.PERSON, f"{known.wrong[0]}; Railway has no deployment of {SERVICE}: set the key by hand", facts
        )
    if known.permits:
        facts["afterwards"] = f"delete the variable {PERMITS}"
    else:
        facts["afterwards"] = "delete keys that nobody of yours made, look at the spend, change every provider key"
    if known.variable == "weak":
        facts[f"{VARIABLE} itself"] = "everybody knows it, or it is short: change it (rotate-secret)"
    return Diagnosis(Verdict.HEALS, known.wrong[0], facts, ladder(known.there, known.variable in UNSET))


@dataclass
class OpenGateway(Runbook):
    """The gateway.

    Attributes:
        busy: names the flow that holds the stack's lock. key: that this worker knows; None where it knows none.
    """

    api: RailwayApi
    targets: Targets
    busy: Callable[[], str]
    key: SecretStr | None = None
    waits: Waits = field(default_factory=Waits)
    name: str = "unauthenticated-gateway"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong = self.wrong()
        there = instance_of(self.api, SERVICE)
        known = Known(wrong, there, at_work=self.busy())
        if there is not None:
            permits = bool(self.api.variables(there.service_id, rendered=True).get(PERMITS))
            known = replace(known, variable=variable_of(self.api, there.service_id), permits=permits)
        return decide(known, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: requests without a key."""
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS)

    def _ladder(self, there: ServiceInstance, sets: bool) -> tuple[Action, ...]:
        key = self.key if self.key is not None and quality(self.key.get_secret_value()) == "good" else None
        first = (SetKey(self.api, there.service_id, key),) if sets else ()
        return (*first, Deploy(self.api, there.service_id, there.healthcheck_timeout or 0, self.waits))


def variable_of(api: RailwayApi, service_id: str) -> str:
    """Say how the variable is on Railway: good, empty, missing or weak, or sealed: nobody can read it."""
    if any(one.sealed for one in api.variable_meta() if (one.service_id, one.name) == (service_id, VARIABLE)):
        return "sealed"
    return quality(api.variables(service_id, rendered=True).get(VARIABLE))


def quality(value: str | None) -> str:
    """Say what a master key is worth: good, empty, missing or weak."""
    if value is None:
        return "missing"
    if not value.strip():
        return "empty"
    return "weak" if value in _WEAK or not value.startswith("sk-") or len(value) < 16 else "good"


@dataclass(frozen=True)
class SetKey(Action):
    """Sets the variable; what runs keeps the old value until it is deployed.

    Attributes:
        key: None: a new one is made.
    """

    api: RailwayApi
    service_id: str
    key: SecretStr | None

    @property
    def settles(self) -> bool:
        """As in `Action`."""
        return False

    def describe(self) -> str:
        """As in `Action`."""
        whose = "a new key, which stands in Railway's variables only" if self.key is None else "the key that this worker has"
        return f"set {VARIABLE} of {SERVICE} to {whose}"

    def needless(self) -> str:
        """As in `Action`."""
        there = variable_of(self.api, self.service_id)
        return "" if there in UNSET else f"{VARIABLE} is set by now"

    def do(self) -> str:
        """As in `Action`."""
        value = self.key.get_secret_value() if self.key else generate(Secret(SecretKind.SK))
        self.api.set_variables(self.service_id, {VARIABLE: value})
        return f"{VARIABLE} is set"


@dataclass(frozen=True)
class Deploy(Action):
    """Deploys LiteLLM as it is configured, with its variables of now."""

    api: RailwayApi
    service_id: str
    health_timeout: float
    waits: Waits

    def describe(self) -> str:
        """As in `Action`."""
        return f"deploy {SERVICE} as it is configured"

    def do(self) -> str:
        """As in `Action`."""
        if (there := variable_of(self.api, self.service_id)) in UNSET:
            raise GuardRefused(f"{SERVICE}: {VARIABLE} is {there}: what is deployed would be as open; set it first")
        made = deploy_now(self.api, self.service_id)
        timeout = self.waits.deployment + self.health_timeout
        self.api.wait_for_deployment(made, timeout=timeout, poll=self.waits.poll, settle=self.waits.settle)
        return f"its container runs (deployment {made})"
