"""A model of a Railway environment that plans are applied to: what is configured, and what really runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from flows.deploy.actions import (
    LIMITS,
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
from flows.deploy.present import DEPLOYED, PENDING, SETUP, SETUP_DONE, Present, PresentService, PresentVolume
from railway.stack import Secret, Stack

_MARKS = {DEPLOYED, SETUP_DONE}


@dataclass
class World:
    """One environment.

    Attributes:
        services: as configured, `variables` with all values. sealed: service and name of variables that nobody can read.
        runs: of each service what its container was started with. made: what SETUP was last run with.
        deploys_itself: a new image starts a deployment at once, as some reports of Railway say.
    """

    services: dict[str, PresentService] = field(default_factory=dict)
    sealed: set[tuple[str, str]] = field(default_factory=set)
    buckets: set[str] = field(default_factory=set)
    runs: dict[str, Any] = field(default_factory=dict)
    made: Any = None
    deploys_itself: bool = False
    numbers: Any = field(default_factory=count)

    def present(self) -> Present:
        """What the API shows of it."""
        shown = {}
        for name, service in self.services.items():
            hidden = frozenset(variable for owner, variable in self.sealed if owner == name)
            visible = {key: value for key, value in service.variables.items() if key not in hidden}
            shown[name] = replace(service, variables=visible, sealed=hidden)
        return Present(shown, frozenset(self.buckets))

    def change(self, name: str, **fields: Any) -> None:
        """Change a service's configuration."""
        self.services[name] = replace(self.services[name], **fields)

    def assign(self, name: str, variable: str, value: str | None) -> None:
        """Set a variable, or (None) delete it."""
        merged = {**self.services[name].variables, variable: value}
        self.change(name, variables={key: text for key, text in merged.items() if text is not None})

    def start(self, name: str) -> None:
        """Deploy a service as it is configured: what a person, or the platform, does."""
        service = self.services[name]
        variables = {key: self.rendered(name, key) for key in service.variables if key not in _MARKS}
        volume = service.volume.id if service.volume else None
        self.runs[name] = (service.image, service.shape, volume, variables)
        self.change(name, state="SUCCESS", running=True, runs=service.image)

    def rendered(self, name: str, variable: str) -> str:
        """A variable's value as a container gets it."""
        text = self.services[name].variables[variable]
        for owner, service in self.services.items():
            for other in service.variables:
                marks = [f"${{{{{owner}.{other}}}}}", *([f"${{{{{other}}}}}"] if owner == name else [])]
                for mark in marks:
                    if mark in text:
                        text = text.replace(mark, self.rendered(owner, other))
            if service.domains:
                text = text.replace(f"${{{{{owner}.RAILWAY_PUBLIC_DOMAIN}}}}", service.domains[0])
        return text

    def apply(self, action: Action, *, killed: bool = False) -> None:
        """Do a step; `killed`: only what has happened when the program dies in the middle of it."""
        work: Mapping[type[Action], Callable[[Any], None]] = {
            CreateService: lambda one: self.services.update({one.service: PresentService(one.service, one.service)}),
            CreateBucket: lambda one: self.buckets.add(one.service),
            RemoveSetup: lambda one: self.services.__delitem__(one.service),
            Announce: lambda one: self.assign(one.service, DEPLOYED, PENDING),
            SetVariables: self._set_variables,
            CreateDomain: lambda one: self.change(one.service, domains=(f"{one.service}-{next(self.numbers)}.up.railway.app",)),
            CreateVolume: self._create_volume,
            GrowVolume: self._grow_volume,
            Configure: lambda one: self._reshape(one, limits=False),
            SetLimits: lambda one: self._reshape(one, limits=True),
            SetImage: self._set_image,
            Deploy: lambda one: self._deploy(one, killed=killed),
            RunSetup: lambda one: self._run_setup(one, killed=killed),
        }
        work[type(action)](action)

    def _set_variables(self, action: SetVariables) -> None:
        for one in action.assignments:
            if not isinstance(one.value, Secret):
                self.assign(action.service, one.name, one.value.text)
            elif one.name not in self.services[action.service].variables:
                self.assign(action.service, one.name, f"secret {next(self.numbers)}")

    def _create_volume(self, action: CreateVolume) -> None:
        self.change(action.service, volume=PresentVolume(f"volume {next(self.numbers)}", action.mount, action.size_gb))

    def _grow_volume(self, action: GrowVolume) -> None:
        volume = self.services[action.service].volume
        assert volume is not None
        self.change(action.service, volume=replace(volume, size_gb=action.size_gb))

    def _reshape(self, action: Configure | SetLimits, *, limits: bool) -> None:
        fields = {key: value for key, value in vars(action.shape).items() if (key in LIMITS) is limits}
        self.change(action.service, shape=replace(self.services[action.service].shape, **fields))

    def _set_image(self, action: SetImage) -> None:
        self.change(action.service, image=action.image)
        if self.deploys_itself:
            self.start(action.service)

    def _deploy(self, action: Deploy, *, killed: bool) -> None:
        present = self.present()
        mark = fingerprint(present.services[action.service], action.names, present)
        self.start(action.service)
        if not killed:
            self.assign(action.service, DEPLOYED, mark)

    def _run_setup(self, action: RunSetup, *, killed: bool) -> None:
        self.assign(action.home, SETUP_DONE, PENDING)
        self.services[SETUP] = PresentService(SETUP, SETUP)
        if killed:
            return
        self.made = self.to_make(action)
        self.services.pop(SETUP)
        present, home = self.present(), self.services[action.home]
        volumes = [volume.id for name in action.holders if (volume := self.services[name].volume)]
        self.assign(
            action.home, SETUP_DONE, setup_fingerprint(present.services[home.name], dict(action.variables), volumes, present)
        )

    def to_make(self, action: Any) -> Any:
        """What SETUP creates, and where."""
        home = self.services[action.home]
        texts = {}
        for name, text in action.variables:
            self.assign(home.name, "probe", text)
            texts[name] = self.rendered(home.name, "probe")
            self.assign(home.name, "probe", None)
        return texts, [volume.id for name in action.holders if (volume := self.services[name].volume)]


def faults(world: World, stack: Stack) -> list[str]:
    """Say in what the world is not what the stack wants, looking at what really runs."""
    found = []
    for name, service in stack.services.items():
        there = world.services.get(name)
        if there is None or name not in world.runs or not there.running:
            found.append(f"{name} does not run")
            continue
        image, shape, volume, variables = world.runs[name]
        if image != service.image:
            found.append(f"{name} runs {image}")
        if service.start_command and shape.start_command != service.start_command:
            found.append(f"{name} was started with {shape.start_command}")
        if service.limits and shape.memory_gb != service.limits.gigabytes:
            found.append(f"{name} has {shape.memory_gb} GB")
        if bool(service.volume) and (there.volume is None or volume != there.volume.id):
            found.append(f"{name} runs without its volume")
        for key, value in service.variables.items():
            if not isinstance(value, Secret) and (name, key) not in world.sealed and there.variables.get(key) != value.text:
                found.append(f"{name}.{key} is configured as {there.variables.get(key)}")
            elif key not in there.variables or variables.get(key) != world.rendered(name, key):
                found.append(f"{name}.{key} runs as {variables.get(key)}")
        if service.public and not there.domains:
            found.append(f"{name} has no address")
    return found
