"""Retention in the second store, after everything was copied: its own rules, the manifest first, and locks respected."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import timedelta

from blocks.errors import StackError, StoreError
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.catalogue import Catalogue, set_prefix
from flows.copy.choose import policy_of_copies
from flows.copy.records import copy_list_key, copy_manifest_key
from flows.lease import Lease
from flows.prune import leftovers
from flows.prune.packs import unneeded
from flows.prune.retention import RetentionPlan, plan
from flows.report import line
from flows.stack import Stack

__all__ = ["Pruned", "prune_copies"]

PACKS_AT_ONCE = 100
"""Packs removed between two looks at the lock."""


@dataclass
class Pruned:
    """What retention did in the second store.

    Attributes:
        plan: what is kept and why. gone: ids that were deleted (would be, in a dry run).
        refused: id -> why the second store did not delete it; tried again next time.
        packs: how many packs went. halves: ids of copies that were never finished and went.
    """

    plan: RetentionPlan = field(default_factory=RetentionPlan)
    gone: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    packs: int = 0
    halves: list[str] = field(default_factory=list)


def prune_copies(
    stack: Stack, lease: Lease, known: Catalogue, *, wanted: Collection[str] = (), dry_run: bool = False
) -> Pruned:
    """Delete the copies that no rule keeps, packs that no kept copy needs, and what dead runs have left.

    Args:
        known: the copies, as just read. wanted: ids that somebody asked for by name in this run: they stay this time.
    """
    copy, grace = stack.need_copy(), timedelta(hours=stack.settings.backup_grace_hours)
    planned = plan([entry.facts() for entry in known.entries], policy_of_copies(stack.settings))
    bases = {base for entry in known.entries if entry.manifest and entry.id in wanted for base in entry.manifest.bases}
    done = Pruned(plan=planned)
    now = retrying(copy.now)
    left = retrying(lambda: leftovers.find(copy, known, now, grace))
    for set_id in (set_id for set_id in planned.delete if set_id not in wanted and set_id not in bases):
        if dry_run or _delete(copy, lease, set_id, done.refused):
            done.gone.append(set_id)
    for set_id in left.halves:
        if dry_run or _delete(copy, lease, set_id, done.refused):
            done.halves.append(set_id)
    keep = [entry.id for entry in known.entries if entry.id not in done.gone]
    packs = unneeded(retrying(lambda: list(copy.list(f"{copy.root}packs/"))), known.entries, keep, now, grace)
    done.packs = len(packs)
    if not dry_run:
        for upload in left.uploads:
            lease.check()
            copy.abort(upload)
        _remove_packs(copy, lease, packs, done.refused)
    return done


def _delete(copy: BackupStore, lease: Lease, set_id: str, refused: dict[str, str]) -> bool:
    """Delete one copy, its manifest first: from then on it does not exist. A lock in the second store stops only this one."""
    lease.check()
    try:
        copy.remove([copy_manifest_key(copy, set_id), copy_list_key(copy, set_id)])
        copy.remove_below(set_prefix(copy, set_id))
    except StoreError as error:
        refused[set_id] = str(error)
        line(f"copy of {set_id} stays for now: {error}; tried again next time")
        return False
    line(f"deleted the copy of {set_id}")
    return True


def _remove_packs(copy: BackupStore, lease: Lease, keys: list[str], refused: dict[str, str]) -> None:
    for begin in range(0, len(keys), PACKS_AT_ONCE):
        lease.check()
        try:
            copy.remove(keys[begin : begin + PACKS_AT_ONCE])
        except StackError as error:
            refused["packs"] = str(error)
            line(f"packs that no copy needs stay for now: {error}; tried again next time")
            return
