"""The keys that applications seal their secrets with: whose there are, who knows them, and putting the right one back."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from blocks.railway import RailwayApi
from blocks.settings import Settings
from flows import catalogue
from flows.deploy.rollout import deploy_now
from flows.runbook.environment import instance_of
from flows.runbook.frame import Action
from flows.runbook.restarting import Waits
from flows.runbook.stored_secrets import Application
from flows.stack import Stack

__all__ = ["EFFECTIVE", "MASTER", "PENDING", "WORKER", "PutBack", "Whose", "history", "pending", "worker_keys"]

EFFECTIVE = "the service's own"
WORKER = "this worker's"
MASTER = "the master key"

PENDING = "RUNBOOK_PENDING"
"""A variable of a service on Railway: the name of one that was changed, and that it has not been deployed with yet."""


@dataclass(frozen=True)
class Whose:
    """An application and its key.

    Attributes:
        variable: of the service that has the key. services: that have to be deployed for another one, in order.
    """

    application: Application
    variable: str
    database: str
    services: tuple[str, ...]

    @property
    def service(self) -> str:
        """The first, whose variable it is."""
        return self.services[0]


def worker_keys(one: Whose, settings: Settings) -> dict[str, SecretStr]:
    """The keys that this worker knows, by what they are called for people."""
    own = settings.litellm_salt_key if one.application == "litellm" else settings.encryption_key
    master = settings.litellm_master_key if one.application == "litellm" else None
    return {name: key for name, key in ((WORKER, own), (MASTER, master)) if key is not None}


def history(stack: Stack) -> str:
    """Say of the newest sets whether they were written with the keys that this worker has; a line for people."""
    said = []
    for entry in catalogue.read(stack.store, stack.keys).entries[:10]:
        if entry.manifest is None or entry.manifest.fingerprints is None:
            continue
        prints = entry.manifest.fingerprints
        differing = stack.keys.differing_keys(prints.wrapped_key, prints.values)
        said.append(f"{entry.id}: {'other ' + ' and '.join(differing) if differing else 'the same keys'}")
    return "; ".join(said) or "none with fingerprints"


def pending(api: RailwayApi | None, whose: Whose) -> list[str]:
    """Name the services that a run has not deployed with their new key yet, in order."""
    if api is None:
        return []
    there = [(one, instance_of(api, one)) for one in whose.services]
    return [name for name, one in there if one is not None and api.variables(one.service_id).get(PENDING) == whose.variable]


@dataclass(frozen=True)
class PutBack(Action):
    """Sets the variable to the key that opens everything, and deploys those that use it.

    Attributes:
        key: the right one; None: the variable has it, and deployments are missing. name: what it is called, for people.
    """

    api: RailwayApi
    whose: Whose
    key: SecretStr | None
    name: str
    waits: Waits

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "it changes the key that stored secrets are read with" if self.key else ""

    def describe(self) -> str:
        """As in `Action`."""
        one = self.whose
        if self.key is None:
            return f"deploy those of {' and '.join(one.services)} that still run with another {one.variable}"
        return f"set {one.variable} of {one.service} to {self.name}, which opens all, and deploy {' and '.join(one.services)}"

    def do(self) -> str:
        """As in `Action`."""
        there = {one: found for one in self.whose.services if (found := instance_of(self.api, one)) is not None}
        if self.key is not None:
            for service, instance in reversed(there.items()):  # the key comes last: whoever dies before it begins anew
                mine = {self.whose.variable: self.key.get_secret_value()} if service == self.whose.service else {}
                self.api.set_variables(instance.service_id, {**mine, PENDING: self.whose.variable})
        left = pending(self.api, self.whose)
        for service in left:
            made = deploy_now(self.api, there[service].service_id)
            timeout = self.waits.deployment + (there[service].healthcheck_timeout or 0)
            self.api.wait_for_deployment(made, timeout=timeout, poll=self.waits.poll, settle=self.waits.settle)
            self.api.set_variables(there[service].service_id, {PENDING: ""})
        return f"{self.whose.variable} is right; deployed: {', '.join(left) or 'nothing'}"
