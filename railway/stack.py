"""What the services of the stack are, said once: their names, in words for people, and who needs whom.

From here come the order in which things are stopped and started, and which incident is the cause of which.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["PRODUCTION", "SERVICES", "STARTER", "Service", "depends_on", "start_order"]


@dataclass(frozen=True)
class Service:
    """One service.

    Attributes:
        name: on Railway, and in every message. title: for people. needs: services that it does not work without.
    """

    name: str
    title: str
    needs: tuple[str, ...] = ()


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
"""By name, each after those that it needs."""

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
