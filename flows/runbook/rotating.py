"""Changing one secret: the new one beside the old one, shown to all who use it, proven, and only then the old one gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from blocks.errors import GuardRefused, StackError
from blocks.railway import PROTECTED, RailwayApi
from blocks.railway_api.models import ServiceInstance
from flows.deploy.rollout import deploy_now
from flows.report import line
from flows.runbook.doors import Door
from flows.runbook.environment import instance_of
from flows.runbook.frame import Action
from flows.runbook.restarting import Waits
from flows.runbook.rotation import AFTER, BEFORE, How, Rotation, users_of

__all__ = ["HandOver", "Rotate", "order", "unrendered"]


def unrendered(api: RailwayApi) -> dict[str, dict[str, str]]:
    """Read the variables of all services, with references as they are written."""
    found = api.inventory().services
    return {"-".join(name.lower().split()): dict(api.variables(one.service_id)) for name, one in found.items()}


def order(rotation: Rotation, variables: dict[str, dict[str, str]]) -> list[str]:
    """Name the services to deploy, in order; Prefect's own are not among them."""
    users = [one for one in users_of(rotation.service, rotation.variable, variables) if one not in PROTECTED]
    others = [one for one in users if one != rotation.service]
    if rotation.how is How.POSTGRES:
        return others
    return [*others, rotation.service] if rotation.how is How.REDIS else [rotation.service, *others]


@dataclass(frozen=True)
class Rotate(Action):
    """Changes the secret, or goes on with a change that a run died of. Where a service does not come up it changes it back.

    While it lasts the old value stands in a second variable, so whoever comes next knows both.

    Attributes:
        services: to deploy, in order. make: the new value. prove: what is wrong with the services that use it.
        finished: is called once all of it is done.
    """

    api: RailwayApi
    rotation: Rotation
    services: Sequence[str]
    door: Door
    make: Callable[[], SecretStr]
    prove: Callable[[], list[str]]
    finished: Callable[[], None]
    waits: Waits

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "whoever still has the old one is refused afterwards"

    @property
    def settles(self) -> bool:
        """As in `Action`: what it proves it proves itself."""
        return False

    def describe(self) -> str:
        """As in `Action`."""
        note = f"; {self.rotation.note}" if self.rotation.note else ""
        return f"change {self.rotation.name}, deploy {', '.join(self.services)} in this order, see that they are well{note}"

    def do(self) -> str:
        """As in `Action`."""
        there = self.api.variables(self._owner().service_id)
        if given_up := there.get(self.rotation.variable + AFTER):
            old = SecretStr(there[self.rotation.variable])
            raise self._back(SecretStr(given_up), old, self.services, GuardRefused("an earlier run gave it up, and died"))
        new, old = self._both(there)
        begun: list[str] = []
        try:
            said = self.door.take(new, old)
            for service in self.services:
                if service == self.rotation.service and self.rotation.how is How.REDIS:
                    self._well()
                    self.door.retire(old)
                begun.append(service)
                self._deploy(service)
            self._well()
        except StackError as error:
            raise self._back(new, old, begun, error) from None
        self._set({self.rotation.variable + BEFORE: ""})
        self.finished()
        return f"{self.rotation.name} is another; {f'{said}; ' if said else ''}deployed: {', '.join(self.services)}"

    def _both(self, there: Mapping[str, str]) -> tuple[SecretStr, SecretStr]:
        """The new value and the old one; made and written down where no run before this one has done so."""
        variable = self.rotation.variable
        if before := there.get(variable + BEFORE):
            line(f"{self.rotation.name}: an earlier run has begun to change it; this one goes on")
            return SecretStr(there[variable]), SecretStr(before)
        if not there.get(variable):
            raise GuardRefused(f"{self.rotation.name}: it is not set, or sealed, so nobody could go back; set it by hand")
        new, old = self.make(), SecretStr(there[variable])
        if new == old:
            raise GuardRefused(f"{self.rotation.name}: the new value is the old one; give another one")
        self._set({variable: new.get_secret_value(), variable + BEFORE: old.get_secret_value()})
        return new, old

    def _back(self, new: SecretStr, old: SecretStr, begun: Sequence[str], error: StackError) -> StackError:
        """Change it back, and deploy again what had been deployed; says what came of it."""
        what = f"{self.rotation.name}: {error}"
        try:
            both = {self.rotation.variable: old.get_secret_value(), self.rotation.variable + AFTER: new.get_secret_value()}
            self._set({**both, self.rotation.variable + BEFORE: ""})
            self.door.take(old, new)
            for service in begun:
                self._deploy(service)
            self.door.retire(new)
            self._set({self.rotation.variable + AFTER: ""})
        except StackError as again:
            return StackError(f"{what}; going back broke off, too ({again}): run this again, it knows both values")
        return StackError(f"{what}; changed back, nothing is different from before")

    def _deploy(self, service: str) -> None:
        there = self._owner() if service == self.rotation.service else instance_of(self.api, service)
        if there is None:
            raise GuardRefused(f"{service}: Railway has no such service any more; look at the project")
        made = deploy_now(self.api, there.service_id)
        timeout = self.waits.deployment + (there.healthcheck_timeout or 0)
        self.api.wait_for_deployment(made, timeout=timeout, poll=self.waits.poll, settle=self.waits.settle)

    def _well(self) -> None:
        if wrong := self.prove():
            raise GuardRefused(f"with the new value {wrong[0]}")

    def _owner(self) -> ServiceInstance:
        there = instance_of(self.api, self.rotation.service)
        if there is None:
            raise GuardRefused(f"{self.rotation.name}: Railway has no service {self.rotation.service} here")
        return there

    def _set(self, values: dict[str, str]) -> None:
        self.api.set_variables(self._owner().service_id, values)


@dataclass
class HandOver(Action):
    """Deploys this worker, which has the old value in its environment; the run is ended with its container, so it is last.

    Attributes:
        changed: says whether there is anything to hand over. done: it was asked for.
    """

    api: RailwayApi
    service: str
    changed: Callable[[], bool]
    done: bool = False

    def describe(self) -> str:
        """As in `Action`."""
        return f"deploy {self.service}, which uses it, too; this run may end with its container"

    def needless(self) -> str:
        """As in `Action`."""
        return "" if self.changed() else "nothing was changed"

    def do(self) -> str:
        """As in `Action`."""
        there = instance_of(self.api, self.service)
        if there is None:
            raise GuardRefused(f"{self.service}: Railway has no such service; deploy it by hand")
        made = deploy_now(self.api, there.service_id)
        self.done = True
        return f"deployment {made} has begun"
