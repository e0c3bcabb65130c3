"""What a deploy does not begin: it would break something, or take somebody else's work along. Decides alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

from flows.deploy.plan import Order
from flows.deploy.present import SETUP, Present, PresentService
from flows.deploy.variables import not_given
from railway.stack import Service

__all__ = ["major", "reasons"]

SETUP_PROGRAM = "flows.deploy.setup"
_NUMBER = re.compile(r"v?(\d+)")
_UPGRADED = frozenset({"langfuse-web", "langfuse-worker"})
"""Without a volume of their own, but their migrations cannot be taken back (facts: apps.md 2.5)."""


def reasons(order: Order, present: Present) -> list[str]:
    """Say why this must not be deployed here, a line each; none where it may be.

    Whether the stack can work at all is asked before (`railway/rules/`, in `asked.py`).

    Args:
        order: what is asked for. present: what is there.
    """
    found = []
    if present.unmerged:
        found.append(
            f"railway: {present.unmerged} changes wait in the dashboard for somebody to apply them, expected none; "
            "apply or discard them, then deploy"
        )
    left = present.services.get(SETUP)
    if left is not None and SETUP not in order.stack.services and not _is_ours(left):
        found.append(f"{SETUP}: a service of this name is there that a deploy did not make; rename it")
    for name, service in order.stack.services.items():
        there = present.services.get(name) or PresentService(id="", name=name)
        found += not_given(service, there, order.given, required=True)
        if name in present.services:
            found += _of_service(service, present.services[name])
    return found


def major(image: str) -> int | None:
    """Return the first number of an image's tag, None where it has none."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    match = _NUMBER.match(tag)
    return int(match[1]) if match else None


def _of_service(service: Service, there: PresentService) -> Iterator[str]:
    if service.volume and there.volume and there.volume.mount != service.volume.mount:
        yield (
            f"{service.name}: its volume is mounted at {there.volume.mount}, expected {service.volume.mount}; data that is not "
            "found there looks like none, so nothing is changed; correct the mount path by hand"
        )
    now, then = (major(image) if image else None for image in (there.runs or there.image, service.image))
    if (there.volume or service.name in _UPGRADED) and None not in (now, then) and now != then and there.state:
        yield (
            f"{service.name}: {now} runs and the stack wants {then}: another major version does not start on the same data, or "
            f"cannot go back; that is an upgrade with a backup before it (docs/UPGRADE.md), or --image {service.name}=..."
        )


def _is_ours(left: PresentService) -> bool:
    """A deploy that was killed may have left it without command, and then without image, too."""
    command = left.shape.start_command or ""
    return SETUP_PROGRAM in command or (left.image is None and not command)
