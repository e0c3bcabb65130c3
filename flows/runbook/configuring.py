"""Changing the callbacks in LiteLLM's configuration on Railway, and all of it back where LiteLLM does not come up with them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from blocks.errors import GuardRefused
from blocks.railway import RailwayApi
from blocks.railway_api.models import DeploymentStatus, ServiceInstance
from flows.deploy.rollout import deploy_now
from flows.runbook.callbacks import fits, refitted
from flows.runbook.environment import instance_of
from flows.runbook.frame import Action
from flows.runbook.restarting import CHANGING, Waits

__all__ = ["BEFORE", "CONFIGURATION", "NOTE", "SERVICE", "Configured", "Fit", "PutBack", "begun", "hindrance"]

SERVICE = "litellm"
CONFIGURATION = "LITELLM_CONFIG"
BEFORE = "LITELLM_CONFIG_BEFORE_CALLBACK"
"""Beside it stands the text as it was: the way back, also by hand, long afterwards."""
NOTE = "STACK_CALLBACK"
"""Of which text it is the predecessor, and how far that one came; so nobody goes back over what a person has written since."""
_BEGUN, _UP = "begun", "up"


@dataclass(frozen=True)
class Configured:
    """LiteLLM on Railway.

    Attributes:
        busy: names the flow that holds the stack's lock. waits: for what Railway does.
    """

    api: RailwayApi
    busy: Callable[[], str]
    waits: Waits = field(default_factory=Waits)

    def there(self) -> ServiceInstance | None:
        """Find it; None where there is none of that name."""
        return instance_of(self.api, SERVICE)

    def need(self) -> ServiceInstance:
        """Find it.

        Raises:
            GuardRefused: somebody has deleted it.
        """
        there = self.there()
        if there is None or there.latest is None:
            raise GuardRefused(f"{SERVICE}: it is not in this Railway environment any more; who deleted it?")
        return there

    def variables(self, there: ServiceInstance) -> Mapping[str, str]:
        """Read its variables with references as they are written: that is what is written back."""
        return self.api.variables(there.service_id)

    def sealed(self, there: ServiceInstance) -> frozenset[str]:
        """Name its variables that nobody can read."""
        return frozenset(one.name for one in self.api.variable_meta() if one.sealed and one.service_id == there.service_id)

    def deploy(self, there: ServiceInstance) -> str:
        """Deploy it as it is configured, and wait until it is well; returns the deployment's id.

        Raises:
            DeploymentFailed: it did not come up.
        """
        made = deploy_now(self.api, there.service_id)
        timeout = self.waits.deployment + (there.healthcheck_timeout or 0)
        self.api.wait_for_deployment(made, timeout=timeout, poll=self.waits.poll, settle=self.waits.settle)
        return made


def hindrance(there: ServiceInstance | None, at_work: str) -> str:
    """Say what keeps anybody from deploying LiteLLM now, empty where nothing does.

    Args:
        there: as Railway has it. at_work: who holds the stack's lock, or empty.
    """
    if at_work in CHANGING:
        return f"{at_work} is under way: wait for its end"
    if there is None or (newest := there.latest) is None:
        return f"Railway has no deployment of {SERVICE}: deploy it (deploy/on-demand)"
    if newest.status is DeploymentStatus.NEEDS_APPROVAL:
        return f"a deployment of {SERVICE} waits for approval: approve or reject it in Railway's dashboard"
    if not newest.status.over:
        return f"a deployment of {SERVICE} is under way: wait for its end, and run this again if it is still so"
    if newest.image and there.image and newest.image != there.image:
        both = f"{newest.image} runs and {there.image} is configured"
        return f"{both}, and a deployment would change the release, too: upgrade it (upgrade/litellm), or set the image back"
    return ""


def begun(variables: Mapping[str, str]) -> bool:
    """Whether the present configuration was written by a run that has not seen LiteLLM come up with it."""
    return variables.get(NOTE, "") == _mark(variables, _BEGUN)


def _mark(variables: Mapping[str, str], how: str) -> str:
    text = variables.get(CONFIGURATION, "")
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {how}"


@dataclass(frozen=True)
class Fit(Action):
    """Writes the callbacks that fit, where they are not written yet, and deploys LiteLLM.

    Attributes:
        wanted: the callback. change: what is written instead of what, for people; empty: it is written, and not deployed.
        well: says that it need not be done any more, a sentence, or empty.
    """

    at: Configured
    wanted: str
    change: str
    well: Callable[[], str]

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return f"requests go on with another configuration; way back: {BEFORE}" if self.change else "it deploys the gateway"

    def describe(self) -> str:
        """As in `Action`."""
        first = f"write {self.change} into {CONFIGURATION}, leave the rest of it, and " if self.change else ""
        return f"{first}deploy {SERVICE} as it is configured"

    def needless(self) -> str:
        """As in `Action`."""
        return self.well()

    def do(self) -> str:
        """As in `Action`. The text before is written down with the new one, at once: there is no time without a way back.

        Raises:
            GuardRefused: what was diagnosed is not so any more: it may be hours since then, for somebody was asked.
        """
        there = self._free()
        variables = dict(self.at.variables(there))
        text = variables.get(CONFIGURATION, "")
        if not fits(text, self.wanted):
            new = refitted(text, self.wanted)
            if new is None or not self.change:
                raise GuardRefused(f"{CONFIGURATION} was changed meanwhile, and its callbacks do not fit; run this again")
            variables[CONFIGURATION] = new
            self.at.api.set_variables(
                there.service_id, {CONFIGURATION: new, BEFORE: text, NOTE: (mark := _mark(variables, _BEGUN))}
            )
            variables[NOTE] = mark
        made = self.at.deploy(there)
        if begun(variables):
            self.at.api.set_variables(there.service_id, {NOTE: _mark(variables, _UP)})
        return f"its container runs (deployment {made})"

    def _free(self) -> ServiceInstance:
        there = self.at.need()
        if why := hindrance(there, self.at.busy()):
            raise GuardRefused(f"by now {why}")
        return there


@dataclass(frozen=True)
class PutBack(Action):
    """Writes the text that was there before, and deploys it: LiteLLM did not come up with the new one.

    Attributes:
        down: says what is down about it.
    """

    at: Configured
    down: Callable[[], list[str]]

    def describe(self) -> str:
        """As in `Action`."""
        return f"put {CONFIGURATION} back as it was and deploy {SERVICE}, where it does not come up with the new one"

    def needless(self) -> str:
        """As in `Action`."""
        variables = self.at.variables(self.at.need())
        if begun(variables):
            return ""
        if variables.get(NOTE, "") != _mark(variables, _UP):
            return f"{CONFIGURATION} is not what this has written"
        return "" if self.down() else "it is up with the new one"

    def do(self) -> str:
        """As in `Action`."""
        there = self.at.need()
        before = self.at.variables(there).get(BEFORE)
        if not before:
            raise GuardRefused(f"{BEFORE} is empty: nobody knows what {CONFIGURATION} was; write it by hand")
        self.at.api.set_variables(there.service_id, {CONFIGURATION: before, BEFORE: "", NOTE: ""})
        return f"{CONFIGURATION} is as it was (deployment {self.at.deploy(there)})"
