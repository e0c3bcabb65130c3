"""Delete the sets that no rule keeps, and what dead runs have left behind."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import ServiceError
from blocks.retry import retrying
from flows import catalogue
from flows.backup.clickhouse import start_all_merges
from flows.catalogue import manifest_key, set_prefix
from flows.lease import Lease, utc_now
from flows.prune import leftovers, retention
from flows.prune.packs import unneeded
from flows.prune.policy import policy_of
from flows.prune.retention import RetentionPolicy
from flows.report import Summary, line
from flows.stack import Stack

PACKS_AT_ONCE = 100
"""Packs removed between two looks at the lock."""


class PruneRequest(BaseModel):
    """What to keep."""

    policy: RetentionPolicy | None = Field(default=None, description="How many sets to keep; empty: as the settings say")
    grace_hours: float | None = Field(
        default=None, ge=0, description="Age of half sets and uploads; empty: as the settings say"
    )
    dry_run: bool = Field(default=False, description="Only say what would be deleted")


@flow(name="prune", validate_parameters=True, timeout_seconds=6 * 3600)
def prune(request: PruneRequest = PruneRequest()) -> list[str]:
    """Delete the sets that no rule keeps, and what dead runs have left behind.

    Args:
        request: what to keep, and whether to delete at all.
    Returns: ids of the sets that were deleted (with `dry_run`: that would be).
    Raises:
        LeaseHeld: a backup, restore, upgrade or copy of this stack is under way.
        LeaseLost: the lock was lost half-way; what is deleted is deleted whole or not visible any more.
    """
    stack = Stack.load()
    with stack.exclusive("prune") as lease:
        known = catalogue.read(stack.store, stack.keys)
        policy = request.policy or policy_of(stack.settings)
        hours = stack.settings.backup_grace_hours if request.grace_hours is None else request.grace_hours
        plan = retention.plan([entry.facts() for entry in known.entries], policy)
        left = leftovers.find(stack.store, known, stack.store.now(), timedelta(hours=hours))
        if not request.dry_run:
            start_merges(stack)
            delete_sets(stack, lease, plan.delete)
            remove_leftovers(stack, lease, left)
        packs = packs_to_go(stack, known, plan, hours)
        if not request.dry_run:
            remove_packs(stack, lease, packs)
    line(f"packs that no kept set needs: {len(packs)}{' (would go)' if request.dry_run and packs else ''}")
    summarise(stack, known, plan, left, dry_run=request.dry_run)
    return plan.delete


def start_merges(stack: Stack) -> None:
    """Start ClickHouse's merges again, which a backup that was killed may have left stopped."""
    if stack.clickhouse is None:
        return
    try:
        start_all_merges(stack.clickhouse, stack.clickhouse_databases())
    except ServiceError as error:
        line(f"merges were not looked after: {error}")  # a server that is down forgets that they were stopped


def delete_sets(stack: Stack, lease: Lease, ids: list[str]) -> None:
    """Delete sets, the manifest of each first: from then on the set does not exist, whatever happens next."""
    for set_id in ids:
        lease.check()
        stack.store.remove([manifest_key(stack.store, set_id)])
        count = stack.store.remove_below(set_prefix(stack.store, set_id))
        line(f"deleted set {set_id} ({count + 1} objects)")


def remove_leftovers(stack: Stack, lease: Lease, left: leftovers.Leftovers) -> None:
    """Remove half sets and abort stale uploads."""
    for upload in left.uploads:
        lease.check()
        stack.store.abort(upload)
        line(f"aborted the unfinished upload of {upload.key}")
    for set_id in left.halves:
        lease.check()
        count = stack.store.remove_below(set_prefix(stack.store, set_id))
        line(f"removed {count} objects of {set_id}, which was never committed")


def packs_to_go(stack: Stack, known: catalogue.Catalogue, plan: retention.RetentionPlan, grace_hours: float) -> list[str]:
    """List the packs of bucket objects that no set needs any more."""
    listed = retrying(lambda: list(stack.store.list(f"{stack.store.root}packs/")))
    return unneeded(listed, known.entries, plan.keep, stack.store.now(), timedelta(hours=grace_hours))


def remove_packs(stack: Stack, lease: Lease, keys: list[str]) -> None:
    """Remove packs, after the manifests that referred to them."""
    for begin in range(0, len(keys), PACKS_AT_ONCE):
        lease.check()
        stack.store.remove(keys[begin : begin + PACKS_AT_ONCE])


def summarise(
    stack: Stack, known: catalogue.Catalogue, plan: retention.RetentionPlan, left: leftovers.Leftovers, *, dry_run: bool
) -> None:
    """Publish what was deleted and what is kept why."""
    verb = "would go" if dry_run else "deleted"
    summary = Summary(f"Prune of {stack.name}{' (dry run)' if dry_run else ''}", ("set", "taken", "verdict"))
    for entry in known.entries:
        reasons = plan.keep.get(entry.id)
        summary.row(entry.id, f"{entry.created_at:%Y-%m-%d %H:%M}", ", ".join(reasons) if reasons else verb)
    for set_id in left.halves:
        summary.row(set_id, "", f"never committed: {verb}")
    for set_id in left.young:
        summary.row(set_id, "", "never committed, but too young to touch")
    for upload in left.uploads:
        summary.row(upload.key, f"{upload.begun:%Y-%m-%d %H:%M}", f"unfinished upload: {verb}")
    summary.publish(f"prune-{stack.name}")
    line(f"{verb}: {', '.join([*plan.delete, *left.halves]) or 'nothing'}; kept: {', '.join(plan.keep) or 'nothing'}")
    survivors = [entry for entry in known.entries if dry_run or entry.id in plan.keep]
    catalogue.publish(stack.name, survivors, plan.keep, utc_now())
