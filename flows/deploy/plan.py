"""From a stack and what is there to the steps between them. Decides alone: no network, no clock, no Prefect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import SecretStr

from flows.deploy.actions import (
    KEPT,
    Action,
    Announce,
    Configure,
    CreateBucket,
    CreateDomain,
    CreateService,
    CreateVolume,
    Deploy,
    GrowVolume,
    RemoveSetup,
    RunSetup,
    SetImage,
    SetLimits,
    SetVariables,
)
from flows.deploy.fingerprint import fingerprint, setup_fingerprint
from flows.deploy.present import DEPLOYED, PENDING, SETUP, SETUP_DONE, Present, PresentService
from flows.deploy.reach import reached_by, touched
from flows.deploy.variables import assignments, not_given
from flows.deploy.wanted import overlaid, shape_of
from flows.deploy.waves import wave
from railway.stack import Secret, Service, Stack

__all__ = ["Order", "Plan", "make_plan"]

_LIMITS = ("memory_gb", "cpus")


@dataclass(frozen=True)
class SetupOrder:
    """What SETUP does, as `setup_service.py` words it.

    Attributes:
        image: of the worker. variables: of its service. home: the service that keeps the note. holders: on whose volumes.
    """

    image: str
    variables: tuple[tuple[str, str], ...]
    home: str
    holders: tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Attributes:
        stack: as it shall be. setup: None leaves SETUP out. repeat_setup: do it even where the note says that it was done.
        deploys: False only configures, for a template. own_service: name of the one that this program runs in, or empty.
        given: secrets that only a person has, by variable. bucket_region: of new buckets: sjc, iad, ams or sin.
    """

    stack: Stack
    setup: SetupOrder | None = None
    repeat_setup: bool = False
    deploys: bool = True
    own_service: str = ""
    given: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    bucket_region: str = "ams"


@dataclass(frozen=True)
class Plan:
    """The steps, in order.

    Attributes:
        actions: none when everything is as it should be. notes: what is left as it is, and why.
    """

    actions: tuple[Action, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def lines(self) -> list[str]:
        """The plan as a diff, for people."""
        return [line for action in self.actions for line in action.lines()]

    def keys(self) -> frozenset[tuple[str, ...]]:
        """What is approved with it."""
        return frozenset().union(*(action.keys() for action in self.actions))


def make_plan(order: Order, present: Present) -> Plan:
    """Work out the steps from what is there to what the stack says.

    A plan is worth making again at any moment: nothing but Railway's own state says what was done already, so a deploy that was
    killed is continued by planning anew.

    Args:
        order: what is asked for. present: what is there.
    """
    services = order.stack.services
    names = sorted(services, key=lambda name: _wave(order, name))
    actions: list[Action] = [RemoveSetup(SETUP)] if SETUP in present.services and SETUP not in services else []
    actions += [CreateBucket(name, order.bucket_region) for name in order.stack.buckets if name not in present.buckets]
    actions += [CreateService(name, services[name].image) for name in names if name not in present.services]
    for name in names:
        actions += _variables(order, services[name], _there(present, name))
    for name in names:
        actions += _configuration(services[name], _there(present, name))
    if order.deploys:
        deploys = [one for name in names for one in _deploy(order, services[name], present, actions)]
        actions = [*_announcements(deploys, present), *_in_order(order, [*actions, *deploys, *_setup(order, present)])]
    return Plan(tuple(actions), tuple(_notes(order, present)))


def _there(present: Present, name: str) -> PresentService:
    return present.services.get(name) or PresentService(id="", name=name)


def _wave(order: Order, name: str) -> int:
    return wave(order.stack, name)


def _variables(order: Order, service: Service, there: PresentService) -> Iterator[Action]:
    if found := assignments(service, there, order.given):
        yield SetVariables(service.name, found)
    if service.public and service.port and not there.domains:
        yield CreateDomain(service.name, service.port)


def _configuration(service: Service, there: PresentService) -> Iterator[Action]:
    """The volume before the image: a container that starts without its volume writes where nothing is kept."""
    if service.volume is not None:
        if there.volume is None:
            yield CreateVolume(service.name, service.volume.mount, service.volume.gigabytes)
        elif there.volume.size_gb < service.volume.gigabytes:
            yield GrowVolume(service.name, there.volume.id, there.volume.size_gb, service.volume.gigabytes)
    shape = overlaid(there.shape, shape_of(service))
    if any(getattr(shape, name) != value for name, value in vars(there.shape).items() if name not in _LIMITS):
        yield Configure(service.name, there.shape, shape)
    if any(getattr(shape, name) != getattr(there.shape, name) for name in _LIMITS):
        yield SetLimits(service.name, there.shape, shape)
    if there.image != service.image:
        yield SetImage(service.name, service.image, there.image)


def _deploy(order: Order, service: Service, present: Present, before: Sequence[Action]) -> Iterator[Action]:
    if why := _why_deploy(order, service, present, before):
        names = tuple(sorted(service.variables))
        yield Deploy(service.name, why, _wave(order, service.name), names, last_word=service.name == order.own_service)


def _why_deploy(order: Order, service: Service, present: Present, before: Sequence[Action]) -> str:
    """Say why a service has to be deployed, empty when it need not be."""
    there = _there(present, service.name)
    if not there.state:
        return "new"
    if any(one.service == service.name and not isinstance(one, GrowVolume) for one in before):
        return "changed"
    if reached_by(order.stack, service.name) & touched(before):
        return "a variable that it refers to changes"
    if not there.running:
        return "was stopped" if there.state == "SUCCESS" else f"is {there.state.lower()}"
    if there.runs and there.runs != service.image:
        return f"runs {there.runs}"
    if DEPLOYED not in there.variables:
        return "was not deployed from here: what runs may be older than its settings"
    if there.variables[DEPLOYED] != fingerprint(there, service.variables, present):
        return "was configured, but not deployed since"
    return ""


def _announcements(deploys: Sequence[Action], present: Present) -> Iterator[Action]:
    for deploy in deploys:
        if _there(present, deploy.service).variables.get(DEPLOYED, PENDING) != PENDING:
            yield Announce(deploy.service)


def _setup(order: Order, present: Present) -> list[Action]:
    setup = order.setup
    if setup is None:
        return []
    why = _why_setup(order, setup, present)
    return [RunSetup(SETUP, setup.image, why, setup.variables, setup.home, setup.holders)] if why else []


def _why_setup(order: Order, setup: SetupOrder, present: Present) -> str:
    holders = [_there(present, name) for name in setup.holders]
    home = _there(present, setup.home)
    volumes = [holder.volume.id for holder in holders if holder.volume]
    wanted = [name for name in setup.holders if order.stack.services[name].volume]
    if len(volumes) < len(wanted) or SETUP_DONE not in home.variables:
        return "not done yet"
    if home.variables[SETUP_DONE] != setup_fingerprint(home, dict(setup.variables), volumes, present):
        return "passwords, buckets or volumes have changed"
    return "asked for" if order.repeat_setup else ""


def _in_order(order: Order, actions: Sequence[Action]) -> Iterator[Action]:
    """Put steps on what has to be there first; then each wave; SETUP when everything that needs nothing is up."""

    def place(action: Action) -> tuple[int, int]:
        if isinstance(action, RunSetup):
            return (1, 1)  # after wave 0
        if action.service in order.stack.services and not isinstance(action, CreateService | SetVariables | CreateDomain):
            number = _wave(order, action.service)
            return (1 + number if number == 0 else 2 + number, 0)
        return (0, 0)

    return iter(sorted(actions, key=place))


def _notes(order: Order, present: Present) -> Iterator[str]:
    """Say what is left as it is."""
    for name, service in order.stack.services.items():
        there = _there(present, name)
        kept = [one for one, value in service.variables.items() if isinstance(value, Secret) and _has(there, one)]
        if kept:
            yield f"{name}: {', '.join(kept)} = {KEPT}"
        added = sorted(set(there.variables) - set(service.variables) - {DEPLOYED, SETUP_DONE} - _platform(there))
        if added:
            yield f"{name}: {', '.join(added)} are not the stack's, and stay as they are"
        yield from not_given(service, there, order.given, required=False)
        if service.volume and there.volume and there.volume.size_gb > service.volume.gigabytes:
            yield f"{name}: its volume has {there.volume.size_gb:g} GB and stays so: volumes do not shrink"
    others = sorted(set(present.services) - set(order.stack.services) - {SETUP})
    if others:
        yield f"not of this stack, and left alone: {', '.join(others)}"


def _has(there: PresentService, name: str) -> bool:
    return name in there.variables or name in there.sealed


def _platform(there: PresentService) -> set[str]:
    return {name for name in there.variables if name.startswith("RAILWAY_")}
