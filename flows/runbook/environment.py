"""What runbooks ask of Railway beside restarts: whether there is one, and how a service is configured there."""

from __future__ import annotations

from blocks.railway import RailwayApi, RailwayEnvironment, from_settings
from blocks.railway_api.models import ServiceInstance
from blocks.settings import Settings
from flows.documents import optional

__all__ = ["environment_if_any", "instance_of"]


def environment_if_any(settings: Settings) -> RailwayEnvironment | None:
    """Return the environment that the stack runs in; None where nobody has configured one."""
    return optional(RailwayEnvironment, settings.stack_name) or from_settings(settings)


def instance_of(api: RailwayApi, service: str) -> ServiceInstance | None:
    """Find a service by the stack's name for it: the dashboard likes `Postgres` and `Langfuse Web`."""
    found = {"-".join(one.name.lower().replace("_", " ").split()): one for one in api.inventory().services.values()}
    return found.get(service)
