"""What is there on Railway, as far as a deploy looks at it. Values only: `look.py` fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["DEPLOYED", "PENDING", "SETUP", "SETUP_DONE", "Present", "PresentService", "PresentVolume", "Shape"]

DEPLOYED = "STACK_DEPLOYED"
"""A variable of each service: the fingerprint of the configuration that was last deployed, and came up. Railway cannot be asked
whether what runs is older than what is configured, and a deploy that was killed in between must not take one for the other."""
PENDING = "pending"
"""Stands there from before the first change on until what was changed is deployed."""
SETUP_DONE = "STACK_SETUP_DONE"
"""A variable of Postgres: the fingerprint of what SETUP last created."""
SETUP = "stack-setup"
"""The service that creates roles, databases and buckets from inside the private network, and is deleted afterwards."""


@dataclass(frozen=True)
class Shape:
    """How a service runs, apart from its image and variables.

    Attributes:
        start_command: instead of the image's, or None. health_path: asked while it is deployed, or None.
        health_timeout: seconds until the deployment is given up. restart_policy: ALWAYS, ON_FAILURE or NEVER.
        restart_retries: for ON_FAILURE. draining_seconds: between SIGTERM and SIGKILL.
        overlap_seconds: the old one runs on for so long. memory_gb, cpus: limits, None for those of the plan.
    """

    start_command: str | None = field(default=None, repr=False)
    health_path: str | None = None
    health_timeout: int | None = None
    restart_policy: str | None = None
    restart_retries: int | None = None
    draining_seconds: int | None = None
    overlap_seconds: int | None = None
    memory_gb: float | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class PresentVolume:
    """A volume of a service. size_gb: what it can hold."""

    id: str
    mount: str
    size_gb: float


@dataclass(frozen=True, repr=False)
class PresentService:
    """One service of the environment.

    Attributes:
        image: configured; None for a service that was only created. runs: image of the latest deployment, where known.
        variables: unrendered, so references are text. sealed: names of variables whose values nobody can read.
        state: the latest deployment's status, empty where there is none. running: it succeeded and was not stopped.
        domains: public ones that Railway made.
    """

    id: str
    name: str
    image: str | None = None
    runs: str | None = None
    shape: Shape = field(default_factory=Shape)
    volume: PresentVolume | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    sealed: frozenset[str] = frozenset()
    domains: tuple[str, ...] = ()
    state: str = ""
    running: bool = False


@dataclass(frozen=True)
class Present:
    """One environment.

    Attributes:
        services: by name, also those that are nobody's business here. buckets: names.
        unmerged: changes that a person has made in the dashboard and not applied yet.
    """

    services: Mapping[str, PresentService] = field(default_factory=dict)
    buckets: frozenset[str] = frozenset()
    unmerged: int = 0
