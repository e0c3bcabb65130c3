"""The steps of a deploy, each with the lines that tell a person what it changes. Values only; `carry_out.py` does them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass

from flows.deploy.present import SETUP, Shape
from railway.stack import Secret, Value

__all__ = [
    "Action",
    "Announce",
    "Configure",
    "CreateBucket",
    "CreateDomain",
    "CreateService",
    "CreateVolume",
    "Deploy",
    "GrowVolume",
    "RemoveSetup",
    "RunSetup",
    "SetImage",
    "SetLimits",
    "SetVariables",
    "shown",
]

MADE_HERE = "(secret, made here)"
GIVEN = "(secret, as given)"
KEPT = "(secret, kept)"
HIDDEN = "(another value)"
_LONG = 80
_HARMLESS = re.compile(r"-?[0-9.]*|true|false|True|False|\$\{\{[A-Za-z0-9_.-]+\}\}")
"""What may be shown of a value that somebody else has put there: anything else could be a password."""


@dataclass(frozen=True)
class Action(ABC):
    """One step.

    Attributes:
        service: whose, or the bucket's name.
    """

    service: str

    @abstractmethod
    def lines(self) -> list[str]:
        """Say what changes, a line each: `+` is new, `~` is changed, `-` goes, `>` is done."""

    def keys(self) -> frozenset[tuple[str, ...]]:
        """What is approved when this is: a plan that is made again after a fault may not want more."""
        return frozenset({(type(self).__name__, self.service)})


@dataclass(frozen=True)
class RemoveSetup(Action):
    """Delete the SETUP service that a deploy left behind which was killed."""

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"- service {self.service}, left over from a deploy that did not end"]

    def keys(self) -> frozenset[tuple[str, ...]]:
        """As in `Action`: who may run SETUP may clean up after it."""
        return frozenset({("RunSetup", SETUP)})


@dataclass(frozen=True)
class Announce(Action):
    """Note on a service, before anything is changed, that it will have to be deployed: also if this program is killed."""

    def lines(self) -> list[str]:
        """As in `Action`: nothing that a person needs to know."""
        return []

    def keys(self) -> frozenset[tuple[str, ...]]:
        """As in `Action`."""
        return frozenset({("Deploy", self.service)})


@dataclass(frozen=True)
class CreateBucket(Action):
    """Create a bucket of Railway's. region: where; it cannot be moved later."""

    region: str

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"+ bucket {self.service} in {self.region}, private"]


@dataclass(frozen=True)
class CreateService(Action):
    """Create a service, empty: nothing is deployed before its variables are there.

    Attributes:
        image: it will have.
    """

    image: str

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"+ service {self.service}, {self.image}"]


@dataclass(frozen=True, repr=False)
class Assignment:
    """One variable.

    Attributes:
        name: of the variable. value: as the stack has it. before: what is there now, None for nothing.
        given: a secret that somebody gives, and that is not made here.
    """

    name: str
    value: Value
    before: str | None = None
    given: bool = False


@dataclass(frozen=True)
class SetVariables(Action):
    """Set variables of a service. Secrets that are missing are made at that moment; none that is there is touched."""

    assignments: tuple[Assignment, ...]

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [self._line(one) for one in self.assignments]

    def keys(self) -> frozenset[tuple[str, ...]]:
        """As in `Action`: one for each variable."""
        return frozenset(("SetVariables", self.service, one.name) for one in self.assignments)

    def _line(self, one: Assignment) -> str:
        if isinstance(one.value, Secret):
            return f"+ {self.service}.{one.name} = {GIVEN if one.given else MADE_HERE}"
        if one.before is None:
            return f"+ {self.service}.{one.name} = {shown(one.value.text)}"
        before = one.before if _HARMLESS.fullmatch(one.before) else HIDDEN
        return f"~ {self.service}.{one.name}: {before or '(empty)'} -> {shown(one.value.text)}"


@dataclass(frozen=True)
class CreateDomain(Action):
    """Give a service a public address. port: of the service."""

    port: int

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"+ {self.service}: a public address for port {self.port}"]


@dataclass(frozen=True)
class CreateVolume(Action):
    """Give a service a volume. mount: where the container sees it. size_gb: what it shall hold."""

    mount: str
    size_gb: float

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"+ {self.service}: a volume of {self.size_gb:g} GB at {self.mount}"]


@dataclass(frozen=True)
class GrowVolume(Action):
    """Grow a volume; it runs on meanwhile. before_gb, size_gb: what it holds and shall hold."""

    volume_id: str
    before_gb: float
    size_gb: float

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"~ {self.service}: its volume {self.before_gb:g} GB -> {self.size_gb:g} GB"]


@dataclass(frozen=True)
class Configure(Action):
    """Change how a service runs: all but its image, variables and limits. before, shape: now and then."""

    before: Shape
    shape: Shape

    def lines(self) -> list[str]:
        """As in `Action`."""
        return _differences(self.service, self.before, self.shape, limits=False)


@dataclass(frozen=True)
class SetLimits(Action):
    """Change how much memory and how many CPUs a service may use. before, shape: now and then."""

    before: Shape
    shape: Shape

    def lines(self) -> list[str]:
        """As in `Action`."""
        return _differences(self.service, self.before, self.shape, limits=True)


@dataclass(frozen=True)
class SetImage(Action):
    """Change which image is deployed next. before: what is configured now, None for nothing."""

    image: str
    before: str | None

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"~ {self.service}: image {self.before} -> {self.image}" if self.before else f"+ {self.service}: {self.image}"]


@dataclass(frozen=True)
class Deploy(Action):
    """Deploy a service as it is configured, and wait until it is up.

    Attributes:
        why: for people. wave: those of one wave are started together. names: the variables that count, for the fingerprint.
        last_word: the run that deploys this one ends with it: it works there.
    """

    why: str
    wave: int
    names: tuple[str, ...]
    last_word: bool = False

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"> deploy {self.service} ({self.why})"]


@dataclass(frozen=True)
class RunSetup(Action):
    """Create roles, databases and buckets, from inside the private network.

    Attributes:
        image: of the worker. why: for people. variables: of the service that does it, references to others'.
        home: the service that keeps the note that it was done. holders: services on whose volumes things are created.
    """

    image: str
    why: str
    variables: tuple[tuple[str, str], ...]
    home: str
    holders: tuple[str, ...]

    def lines(self) -> list[str]:
        """As in `Action`."""
        return [f"> create roles, databases and private buckets by a service {self.service}, deleted afterwards ({self.why})"]


def shown(text: str) -> str:
    """Shorten a value of the stack's own for one line."""
    first, *more = text.splitlines() or [""]
    cut = first if len(first) <= _LONG else first[:_LONG] + "..."
    return f"{cut} (and {len(more)} lines)" if more else cut


_NAMES = {
    "start_command": "start command",
    "health_path": "health check",
    "health_timeout": "health check timeout (s)",
    "restart_policy": "restart policy",
    "restart_retries": "restarts",
    "draining_seconds": "draining (s)",
    "overlap_seconds": "overlap (s)",
    "memory_gb": "memory (GB)",
    "cpus": "CPUs",
}
LIMITS = frozenset({"memory_gb", "cpus"})


def _differences(service: str, before: Shape, shape: Shape, *, limits: bool) -> list[str]:
    lines = []
    for name, words in _NAMES.items():
        old, new = getattr(before, name), getattr(shape, name)
        if old == new or (name in LIMITS) is not limits:
            continue
        if name == "start_command":  # one that a person wrote may hold a password
            old, new = old and "(another command)", new and shown(new)
        lines.append(f"+ {service}: {words} {new}" if old is None else f"~ {service}: {words} {old} -> {new}")
    return lines
