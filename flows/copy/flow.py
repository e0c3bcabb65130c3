"""Send committed sets to a second store off the stack, everything encrypted; and bring them back from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import IntegrityError, ObjectMissing
from blocks.retry import retrying
from flows import catalogue
from flows.approval import approve
from flows.catalogue import Catalogue
from flows.copy import catalogue as copies
from flows.copy.choose import due, named, policy_of_copies, with_bases
from flows.copy.landing import remove_left_over
from flows.copy.progress import forget_others
from flows.copy.pruning import Pruned, prune_copies
from flows.copy.records import copied_sets
from flows.copy.sending import Copied
from flows.copy.tasks import bring_back_set, copy_set, verify_copies
from flows.copy.undelete import markers, undelete
from flows.copy.views import show_copy, show_plan
from flows.lease import Lease
from flows.report import Progress, line
from flows.stack import Stack

__all__ = ["CopyRequest", "copy"]


class CopyRequest(BaseModel):
    """What to copy, or what to fetch back."""

    action: Literal["copy", "bring-back", "undelete"] = Field(
        default="copy",
        description="copy: send sets to the second store. bring-back: make sets again in the stack's own store. undelete: take "
        "back deletions in the second store, whose bucket must keep versions",
    )
    sets: list[str] = Field(
        default=[],
        description="latest, ids or times; empty: every good one that is missing there (copy: and worth keeping)",
    )
    verify: bool = Field(
        default=False, description="Read copies back and compare every hash: the named ones, or all (this costs their traffic)"
    )
    dry_run: bool = Field(default=False, description="Only say what would happen")
    confirm: str = Field(default="", description="For bring-back and undelete: the stack's name approves at once; empty: asks")


@flow(name="copy", validate_parameters=True, timeout_seconds=24 * 3600)
def copy(request: CopyRequest = CopyRequest()) -> list[str]:
    """Send committed sets to the second store, each after its base; then apply that store's own retention.

    Args:
        request: which sets, or what else to do.
    Returns: ids of the sets that were copied or brought back (with `dry_run`: that would be).
    Raises:
        SettingsError: there is no second store.
        IntegrityError: objects of a set, or of a copy, are not what was written; names them. The other sets were copied.
        StoreError: one of the stores failed; the next run goes on where this one ended.
        LeaseHeld: a backup, restore, upgrade or prune of this stack is under way.
    """
    stack = Stack.load()
    stack.need_copy()
    if request.action == "bring-back":
        return bring_back(stack, request)
    if request.action == "undelete":
        return take_back_deletions(stack, request)
    with stack.exclusive("copy") as lease:
        known = catalogue.read(stack.store, stack.keys)
        there = copied_sets(stack.need_copy())
        copied_before = copies_known(stack)
        ids = choose(stack, known, there, copied_before, request.sets)
        if request.dry_run:
            pruned = prune_copies(stack, lease, copied_before, dry_run=True) if copied_before else None
            line(f"would copy: {', '.join(ids) or 'nothing'}")
            show_plan(stack, known, ids, pruned)
            return ids
        copied, failed = send_all(stack, lease, known, ids)
        meant = [one if one in there else known.find(one).id for one in request.sets]
        fresh = [one.list for one in copied.values()]
        damaged = verify_copies(stack, read_back(meant, {*there, *copied}), fresh) if request.verify else {}
        pruned = None if failed or damaged else clean_up(stack, lease, known, meant)
    show_copy(stack, copied, failed, damaged, pruned)
    refuse_bad(failed, damaged)
    return list(copied)


def copies_known(stack: Stack) -> Catalogue | None:
    """Read the copies' manifests, which takes the age identity; None without it."""
    if stack.keys.identity is None:
        line("no age identity here: copies can be made, but not read, so retention deletes nothing in the second store")
        return None
    return copies.read(stack)


def choose(stack: Stack, known: Catalogue, there: set[str], copied: Catalogue | None, named_sets: Sequence[str]) -> list[str]:
    """Choose what is sent, in this order."""
    if named_sets:
        return named(known, named_sets, there)
    facts = [e.facts() for e in (copied.entries if copied else known.entries) if e.id in there]
    return due(known, there, facts, policy_of_copies(stack.settings))


def send_all(stack: Stack, lease: Lease, known: Catalogue, ids: Sequence[str]) -> tuple[dict[str, Copied], dict[str, str]]:
    """Copy sets one after the other; one that is damaged does not stop the others, but those that are a difference to it.

    Returns: what was copied, and why others were not, both by id.
    """
    progress = Progress(f"copy-progress-{stack.name}", f"Copy of {stack.name}", len(ids))
    bases = {entry.id: entry.manifest.bases for entry in known.entries if entry.manifest}
    copied: dict[str, Copied] = {}
    failed: dict[str, str] = {}
    for set_id in ids:
        missing = sorted(bases.get(set_id, set()) & failed.keys())
        if missing:
            failed[set_id] = f"it is a difference to {missing[0]}, which could not be copied"
            continue
        try:
            copied[set_id] = copy_set(stack, lease, set_id)
        except (IntegrityError, ObjectMissing) as error:
            failed[set_id] = str(error)
            line(f"NOT copied: {set_id}: {error}")
        progress.step()
    return copied, failed


def read_back(meant: Sequence[str], there: set[str]) -> list[str]:
    """Choose the copies that are read back: those that are meant, else all, newest first."""
    return sorted((set(meant) or there) & there, reverse=True)


def clean_up(stack: Stack, lease: Lease, known: Catalogue, wanted: Sequence[str]) -> Pruned | None:
    """Apply the second store's retention, and remove what dead runs have left in both.

    Args:
        wanted: ids that somebody named: their copies stay this time, whatever the rules say.
    """
    forget_others(stack.store, {entry.id for entry in known.entries})
    remove_left_over(stack.store, seconds=stack.settings.backup_lease_seconds)
    if stack.keys.identity is None:
        return None
    return prune_copies(stack, lease, copies.read(stack), wanted=wanted)


def refuse_bad(failed: dict[str, str], damaged: dict[str, list[str]]) -> None:
    """End the run as failed where something is not as it should be.

    Raises:
        IntegrityError: what, and what to do.
    """
    for set_id, why in failed.items():
        raise IntegrityError(f"copy: {len(failed)} sets were not copied; {set_id}: {why}")
    for set_id, problems in damaged.items():
        raise IntegrityError(
            f"copy: {len(damaged)} copies are damaged; {set_id}: {problems[0]}; nothing was deleted "
            "in the second store; see who writes there"
        )


def bring_back(stack: Stack, request: CopyRequest) -> list[str]:
    """Make sets again in the stack's own store."""
    there = copies.read(stack)
    whole = {entry.id for entry in catalogue.read(stack.store, stack.keys).entries if entry.good}
    chosen = [there.find(one).id for one in request.sets] or [entry.id for entry in there.entries if entry.good]
    ids = with_bases(there, [set_id for set_id in chosen if set_id not in whole], whole)
    text = f"Brought back from the second store, and put into the stack's own: {', '.join(ids) or 'nothing'}."
    line(text)
    if request.dry_run or not ids:
        return ids
    approve(stack.name, request.confirm, text)
    with stack.exclusive("copy") as lease:
        progress = Progress(f"copy-progress-{stack.name}", f"Bring back to {stack.name}", len(ids))
        for set_id in ids:
            bring_back_set(stack, lease, set_id)
            progress.step()
    return ids


def take_back_deletions(stack: Stack, request: CopyRequest) -> list[str]:
    """Make visible again what was deleted in the second store.

    Returns: ids of the copies that are there now and were not before.
    """
    second = stack.need_copy()
    hidden, before = retrying(lambda: markers(second)), copied_sets(second)
    text = f"{len(hidden)} deleted objects of {stack.name} in the second store become visible again."
    line(text)
    if request.dry_run or not hidden:
        return []
    approve(stack.name, request.confirm, text)
    with stack.exclusive("copy"):
        count = undelete(second)
    again = sorted(copied_sets(second) - before, reverse=True)
    line(f"undeleted {count} objects; copies that are there again: {', '.join(again) or 'none'}")
    return again
