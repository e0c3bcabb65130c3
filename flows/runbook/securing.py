"""A way back, before a runbook changes what nobody can make again: a protected backup set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from flows import catalogue
from flows.backup.flow import BackupRequest, take
from flows.lease import utc_now
from flows.report import line
from flows.stack import Stack

__all__ = ["FRESH", "secure", "secure_today"]

FRESH = timedelta(hours=6)
"""A set that an earlier, killed run took for the same reason is used while it is younger than this."""
TODAY = timedelta(hours=26)
"""A set of everything that is younger does: what must not run is not left running while another one is taken."""


def secure(stack: Stack, label: str, components: Sequence[str], recent: timedelta = timedelta()) -> str:
    """Take a set of some components, unless a run of the same runbook has taken it already.

    Args:
        label: says why, and tells one reason from another: `before dirty-migration 38`.
        components: as of a backup, for example `clickhouse`, `postgres/litellm`; empty: everything.
        recent: a good set of everything that is younger does as well.
    Returns: the set's id.
    Raises:
        BackupFailed: a component failed; nothing was committed. LeaseHeld: something else is at work.
    """
    for entry in catalogue.read(stack.store, stack.keys).entries:
        old = utc_now() - entry.created_at
        if not entry.good or entry.manifest is None:
            continue
        whole = bool(entry.manifest.postgres and entry.manifest.clickhouse)
        if (entry.manifest.label == label and old < FRESH) or (whole and old < recent):
            line(f"set {entry.id} stands for this, taken {catalogue.age(old)} ago")
            return entry.id
    manifest = take(stack, BackupRequest(components=list(components), label=label, protect=True))
    line(f"committed {manifest.id}: {catalogue.size(manifest.stored_bytes)} in {len(manifest.components)} components")
    return manifest.id


def secure_today(stack: Stack, label: str) -> str:
    """Take a set of everything, unless there is one of today; as `secure`."""
    return secure(stack, label, [], TODAY)
