"""What the services of the stack are, said once: their names, in words for people, who needs whom, and what describes one.

From here come the order in which things are stopped and started, and which incident is the cause of which. What each service
consists of - image, variables, volume - is built in `railway/variants.py`, so that this module stays cheap to import.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType

__all__ = [
    "PRODUCTION",
    "SERVICES",
    "STARTER",
    "Health",
    "LangfuseMajor",
    "Limits",
    "Literal",
    "ObjectStore",
    "Reference",
    "Restart",
    "Secret",
    "SecretKind",
    "Service",
    "Stack",
    "Value",
    "Variant",
    "Volume",
    "depends_on",
    "start_order",
]

Variant = typing.Literal["starter", "production"]
LangfuseMajor = typing.Literal[3, 4]
ObjectStore = typing.Literal["minio", "bucket"]
"""Langfuse's objects and the backups are in the stack's own S3 service, or in buckets of Railway's."""
Restart = typing.Literal["ALWAYS", "ON_FAILURE", "NEVER"]

_REFERENCE = re.compile(r"\$\{\{\s*(?:([^.{}]+?)\s*\.\s*)?([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


@dataclass(frozen=True)
class Literal:
    """A value that anybody may read."""

    text: str


@dataclass(frozen=True)
class Reference:
    """A value that Railway puts together from other variables, `${{service.NAME}}` or `${{NAME}}` of the service itself."""

    text: str

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield service and variable of each reference in the text; the service is empty for the service's own."""
        yield from _REFERENCE.findall(self.text)

    def replaced(self, value: Callable[[str, str], str]) -> str:
        """Put something in the place of each reference.

        Args:
            value: of a service, empty for the own one, and a variable.
        """
        return _REFERENCE.sub(lambda match: value(match[1] or "", match[2]), self.text)


class SecretKind(StrEnum):
    """What a secret has to look like; `railway/secret_values.py` makes them."""

    PASSWORD = "password"  # noqa: S105 - letters and digits: fit for URLs, shells and configuration files as they are
    HEX = "hex"
    SK = "sk"
    """`sk-` and letters and digits: what LiteLLM takes for a key."""
    LANGFUSE_PUBLIC_KEY = "pk-lf"
    LANGFUSE_SECRET_KEY = "sk-lf"  # noqa: S105 - the name of a kind
    AUTH_STRING = "auth-string"
    """`user:password`, as Prefect wants it."""
    FERNET = "fernet"
    AGE_IDENTITY = "age-identity"
    AGE_RECIPIENT = "age-recipient"
    """The public key of an identity, which stands in another variable of the service."""
    GIVEN = "given"
    """Nobody can make it up: somebody has to give it, as a provider's key."""


@dataclass(frozen=True)
class Secret:
    """A value that is made where the stack is deployed from, once, and never changed or shown afterwards.

    Attributes:
        kind: what it looks like. length: characters that are drawn (hexadecimal digits for HEX).
        of: for an AGE_RECIPIENT, the variable of the same service that has the identity.
        required: for what is GIVEN: the stack does not work without it. what: for people who have to give it, and for the docs.
        outlives: data and backups were written with it, so whoever builds the stack again has to bring it.
    """

    kind: SecretKind
    length: int = 40
    of: str = ""
    required: bool = True
    what: str = ""
    outlives: bool = False


Value = Literal | Reference | Secret


@dataclass(frozen=True)
class Health:
    """What Railway asks while a deployment starts, and never afterwards.

    Attributes:
        path: GET on the service's port; only 200 is well. timeout: seconds until the deployment has failed.
    """

    path: str
    timeout: int = 300


@dataclass(frozen=True)
class Volume:
    """A disk that outlives deployments.

    Attributes:
        mount: path in the container. gigabytes: its size.
    """

    mount: str
    gigabytes: int


@dataclass(frozen=True)
class Limits:
    """What a service may use at most; Railway bills what it does use.

    Attributes:
        cpus: virtual ones. gigabytes: of memory.
    """

    cpus: float
    gigabytes: float


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        name: on Railway, and in every message. title: for people. needs: services that it does not work without.
        image: registry, repository and exact tag, with digest where one is known. port: that it listens on, or None.
        health: what tells Railway that it is up; None where it speaks no HTTP. volume: its disk, or None.
        variables: by name. public: whether it has a domain. limits: what it may use at most.
        draining_seconds: between SIGTERM and SIGKILL. overlap_seconds: that the old deployment serves beside the new one.
        start_command: instead of the image's, or None. restart: when Railway starts it again.
        about: what it is there for, one sentence. documents: where its vendor describes what is set here.
    """

    name: str
    title: str
    needs: tuple[str, ...] = ()
    image: str = ""
    port: int | None = None
    health: Health | None = None
    volume: Volume | None = None
    variables: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    public: bool = False
    limits: Limits | None = None
    draining_seconds: int = 0
    overlap_seconds: int = 0
    start_command: str | None = None
    restart: Restart = "ALWAYS"
    about: str = ""
    documents: tuple[str, ...] = ()

    def with_variables(self, **values: Value | None) -> Service:
        """Return it with some variables changed; None takes one away."""
        merged = {**self.variables, **values}
        return replace(self, variables={name: value for name, value in merged.items() if value is not None})

    def references(self) -> frozenset[str]:
        """Name what its variables refer to besides itself: services, and Railway's buckets."""
        texts = (value for value in self.variables.values() if isinstance(value, Reference))
        return frozenset(service for value in texts for service, _ in value.names() if service) - {self.name}


@dataclass(frozen=True)
class Stack:
    """All services of one environment.

    Attributes:
        variant, langfuse_major, object_store: what was chosen. services: by name, in the order of SERVICES.
        buckets: Railway's, by name in the project; none where the object store is a service.
        name: of the stack, `STACK_NAME`.
    """

    variant: Variant
    langfuse_major: LangfuseMajor
    object_store: ObjectStore
    services: Mapping[str, Service]
    buckets: tuple[str, ...] = ()
    name: str = "stack"

    def with_service(self, service: Service) -> Stack:
        """Return the stack with one service changed or added."""
        return replace(self, services={**self.services, service.name: service})

    def start_order(self) -> list[str]:
        """Name its services so that each comes after those that it needs or refers to; stop them in the opposite order.

        Services that refer to each other in a circle keep the order of SERVICES; `railway/rules.py` refuses them.
        """
        ordered: list[str] = []

        def visit(name: str, above: frozenset[str]) -> None:
            if name in ordered or name in above or name not in self.services:
                return
            service = self.services[name]
            wanted = {*service.needs, *service.references()}
            for other in self.services:
                if other in wanted:
                    visit(other, above | {name})
            ordered.append(name)

        for name in self.services:
            visit(name, frozenset())
        return ordered


_ALL = (
    Service("postgres", "Postgres"),
    Service("clickhouse", "ClickHouse"),
    Service("redis", "Redis"),
    Service("minio", "Object store"),
    Service("litellm", "LiteLLM gateway", ("postgres", "redis")),
    Service("langfuse-web", "Langfuse web", ("postgres", "clickhouse", "redis", "minio")),
    Service("langfuse-worker", "Langfuse worker", ("postgres", "clickhouse", "redis", "minio")),
    Service("prefect-server", "Prefect server"),
    Service("prefect-worker", "Prefect worker", ("prefect-server",)),
)

SERVICES: Mapping[str, Service] = {service.name: service for service in _ALL}
"""By name, each after those that it needs; without what they consist of."""

PRODUCTION: tuple[str, ...] = tuple(SERVICES)
"""The nine services of the production variant."""

STARTER: tuple[str, ...] = tuple(name for name in SERVICES if not name.startswith("prefect-"))
"""The seven services of the starter variant."""


def depends_on(name: str) -> frozenset[str]:
    """Name every service that this one does not work without, also through others.

    Raises:
        KeyError: there is no such service.
    """
    needed = set(SERVICES[name].needs)
    return frozenset(needed.union(*(depends_on(one) for one in needed)))


def start_order(names: Iterable[str]) -> list[str]:
    """Sort services so that each comes after those that it needs; stop them in the opposite order.

    Raises:
        KeyError: there is no such service.
    """
    wanted = {SERVICES[name].name for name in names}
    return [name for name in SERVICES if name in wanted]
