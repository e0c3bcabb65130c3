"""Starting a service again that ended because of what a runbook has just mended."""

from __future__ import annotations

from collections.abc import Callable

from blocks.railway import RailwayApi
from flows.runbook.environment import instance_of
from flows.runbook.frame import Action
from flows.runbook.restarting import Await, Redeploy, Waits

__all__ = ["start_again"]


def start_again(api: RailwayApi | None, service: str, well: Callable[[], str], waits: Waits) -> tuple[Action, ...]:
    """Make the rungs: wait for a deployment that is under way, then run the newest one again in a new container.

    Args:
        api: None where there is no Railway: then the service starts by itself, or a person starts it.
        well: says that it need not be, a sentence, or empty; asked right before.
    """
    there = instance_of(api, service) if api is not None else None
    if api is None or there is None or there.latest is None:
        return ()
    given = (api, service, there.service_id, well, waits)
    first = () if there.latest.status.over else (Await(*given, there.latest.id),)
    return (*first, Redeploy(*given, there.latest.id))
