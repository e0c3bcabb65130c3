"""How the platform behaves where one may choose, or where the sources do not agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

__all__ = ["DEPLOYMENTS_ONLY", "PLANS", "Behaviour", "Pace", "Plan", "RateLimit"]


@dataclass(frozen=True)
class RateLimit:
    """How much a token may ask (facts: railway.md 2.1).

    Attributes:
        per_hour, per_second: requests.
    """

    per_hour: int
    per_second: int


@dataclass(frozen=True)
class Plan:
    """What a subscription gives (facts: railway.md 2.1, 2.5, 7).

    Attributes:
        name: free, hobby or pro. rate: of requests. retention: how long the image of a removed deployment is kept.
        volumes: in a project. volume_mb: size of a new one. memory_gb, vcpus: at most for a service.
    """

    name: str
    rate: RateLimit
    retention: timedelta
    volumes: int
    volume_mb: int
    memory_gb: float
    vcpus: float


PLANS = {
    "free": Plan("free", RateLimit(100, 10), timedelta(hours=24), 1, 500, 0.5, 1),
    "hobby": Plan("hobby", RateLimit(1000, 10), timedelta(hours=72), 10, 5000, 48, 48),
    "pro": Plan("pro", RateLimit(10_000, 50), timedelta(hours=120), 20, 50_000, 1000, 1000),
}


@dataclass(frozen=True)
class Pace:
    """How fast the platform is, in seconds of this machine.

    Attributes:
        build: what preparing a deployment takes. poll: between two looks at a container, and two health checks.
        health: what a second of `healthcheckTimeout` lasts; 0.01 makes the default, 300 s, three.
        restart: between the end of a container and its next start.
        workflow: what a workflow takes before it is even found, and again before it is done.
    """

    build: float = 0.05
    poll: float = 0.05
    health: float = 1.0
    restart: float = 0.5
    workflow: float = 0.05


DEPLOYMENTS_ONLY = frozenset(
    {
        "project",
        "environment",
        "environments",
        "serviceInstance",
        "serviceCreate",
        "environmentCreate",
        "serviceInstanceUpdate",
        "variableUpsert",
        "variableCollectionUpsert",
        "variableDelete",
    }
)
"""What users were refused with a project token, or may be: it then only deploys (facts: railway.md 2.1)."""


@dataclass(frozen=True)
class Behaviour:
    """What the sources leave open, or report both ways (facts: railway.md 8).

    Attributes:
        plan: of the workspace.
        project_token_refuses: fields of queries and mutations that a project token may not ask for, beyond those that none may.
        source_update_deploys: changing the source of a service deploys it by itself.
        restart_starts_stopped: `deploymentRestart` works on a deployment that was stopped.
        meta_has_digest: deployments say the digest of their image.
    """

    plan: Plan = field(default_factory=lambda: PLANS["pro"])
    project_token_refuses: frozenset[str] = frozenset()
    source_update_deploys: bool = False
    restart_starts_stopped: bool = False
    meta_has_digest: bool = True
