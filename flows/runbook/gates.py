"""What keeps a runbook from acting: something else of this project is at work on the same stack."""

from __future__ import annotations

from blocks.errors import IntegrityError, StoreError
from flows.lease import holder_of
from flows.report import line
from flows.stack import Stack

__all__ = ["at_work"]


def at_work(stack: Stack) -> str:
    """Name the flow that holds the stack's lock, empty where none does.

    The lock is in the store, which may be the patient itself: one that cannot be read keeps nobody from healing.
    """
    try:
        found = holder_of(stack.store, stack.settings.backup_lease_seconds)
    except (StoreError, IntegrityError) as error:
        line(f"nobody knows whether another flow is at work: {error}")
        return ""
    return found.flow if found else ""
