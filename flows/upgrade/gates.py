"""What an upgrade does not begin. Decides on values alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from blocks.railway_api.deployment import DeploymentStatus
from blocks.railway_api.models import Inventory, ServiceInstance
from flows.upgrade.data import needs_snapshot
from flows.upgrade.orders import ServiceChange
from flows.upgrade.outside import Fault

__all__ = ["ROOM", "SNAPSHOT_ROOM", "of_railway", "of_the_stack"]

ROOM = 0.8
"""So full a volume may be: a migration writes tables anew."""
SNAPSHOT_ROOM = 0.5
"""Railway backs up by hand what is half a volume at most (facts: railway.md 4.2)."""


def of_railway(inventory: Inventory, services: Sequence[str]) -> Iterator[str]:
    """Say what on Railway keeps an upgrade from beginning, before anything else is known."""
    if inventory.unmerged_changes:
        yield (
            f"railway: {inventory.unmerged_changes} changes wait in the dashboard for somebody to apply them, expected none; "
            "apply or discard them, then upgrade"
        )
    for name in services:
        instance = inventory.services.get(name)
        if instance is None:
            there = ", ".join(sorted(inventory.services)) or "none"
            yield f"{name}: there is no such service in this environment; there are: {there}; see RAILWAY_ENVIRONMENT_ID"
        else:
            yield from _state(name, instance)


def of_the_stack(changes: Sequence[ServiceChange], inventory: Inventory, faults: Sequence[Fault]) -> Iterator[str]:
    """Say what about the stack keeps it from beginning: health, and room."""
    for one in faults:
        if one.down:
            yield f"{one.service} is down: {one.sentence}; mend that first"
    for change in changes:
        volume = inventory.services[change.service].volume
        if volume is None or not volume.size_mb:
            continue
        used = volume.used_mb / volume.size_mb
        if used > ROOM:
            yield f"{change.service}: its volume is {used:.0%} full, expected {ROOM:.0%} at most; grow it first"
        elif needs_snapshot(change) and used > SNAPSHOT_ROOM:
            yield (
                f"{change.service}: its volume is {used:.0%} full, and Railway backs up {SNAPSHOT_ROOM:.0%} at most, without "
                "which there is no way back; grow it first"
            )


def _state(name: str, instance: ServiceInstance) -> Iterator[str]:
    latest = instance.latest
    if instance.image is None or latest is None:
        yield f"{name}: nothing is deployed there from an image; deploy it first"
    elif not latest.status.over:
        yield f"{name}: a deployment is under way ({latest.status}); wait for its end"
    elif latest.status is not DeploymentStatus.SUCCESS or latest.stopped:
        state = "stopped" if latest.stopped else f"{latest.status}"
        yield f"{name}: its deployment is {state}, expected one that runs; deploy it as it is first"
    elif latest.image is not None and latest.image != instance.image:
        yield f"{name}: {latest.image} runs, and {instance.image} is configured; deploy one of them first"
