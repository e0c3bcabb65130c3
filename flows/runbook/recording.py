"""Writing into the audit trail from a program that knows its stack by name: a flow, or a command that a person types."""

from __future__ import annotations

from blocks.object_store import BackupStore
from flows.documents import optional
from flows.report import line
from flows.runbook.audit import Entry, Trail

__all__ = ["record"]


def record(stack: str, entry: Entry) -> None:
    """Write one entry into the trail of a stack, where there is a store; a store that fails keeps nobody from anything.

    Args:
        stack: its name, by which its block is found.
    """
    store = optional(BackupStore, stack)
    if store is None:
        line(f"audit: there is no store, so this stands here only: {entry.what}: {entry.result}, by {entry.by}")
        return
    trail = Trail(store)
    trail.add(entry)
    trail.close()
