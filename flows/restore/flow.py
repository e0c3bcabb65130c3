"""Restore beside the live data, compare, and only then swap; keep what was there for undo."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from prefect import flow
from pydantic import BaseModel, Field

from flows import catalogue
from flows.approval import approve
from flows.backup.manifest import Manifest
from flows.copy.view import Source, reading_from
from flows.health.maintenance import swapping
from flows.lease import Lease
from flows.report import Progress, line
from flows.restore import undo as undoing
from flows.restore.checks import refuse_changed, refuse_unfit
from flows.restore.choose import Parts, chosen
from flows.restore.journal import RestoreJournal
from flows.restore.objects import plan_buckets, refuse_overwriting
from flows.restore.plan import RestorePlan, describe, plan_restore
from flows.restore.steps import begin, check_stored, discard_staged_on_failure, empty_redis_after, stage, swap_all
from flows.restore.views import show_plan, show_restore
from flows.stack import Stack


class RestoreRequest(BaseModel):
    """What to restore, or which restore to take back."""

    action: Literal["restore", "undo", "finish", "forget"] = Field(
        default="restore",
        description="restore: from a set. undo: put back what was there before a restore. finish: only settle a restore that "
        "died. forget: drop what a restore kept for undo",
    )
    set_id: str = Field(default="latest", description="latest, the id of a set, or a time (the newest set not younger)")
    source: Source = Field(default="store", description="The stack's own store, or the copy off the stack")
    components: list[str] = Field(
        default=[], description="postgres, clickhouse, bucket, or one of them such as postgres/langfuse; empty: everything"
    )
    replace: bool = Field(default=False, description="Swap out live databases that are not empty; they are kept for undo")
    restore_id: str = Field(default="latest", description="For undo and forget: which restore")
    accept_other_keys: bool = Field(
        default=False, description="Restore although LITELLM_SALT_KEY or ENCRYPTION_KEY differ from those of the backup"
    )
    dry_run: bool = Field(default=False, description="Only say exactly what would happen")
    confirm: str = Field(default="", description="The stack's name approves at once; empty: the run pauses and asks")


@flow(name="restore", validate_parameters=True, timeout_seconds=24 * 3600)
def restore(request: RestoreRequest = RestoreRequest()) -> RestoreJournal | None:
    """Restore beside the live data, compare, and only then swap; keep what was there for undo.

    Args:
        request: what to restore, and whether to do it at all.
    Returns: the journal of what was done; None for a dry run.
    Raises:
        RestoreRefused: it does not fit; nothing was changed.
        ApprovalMissing: nobody approved; nothing was changed.
        RestoreFailed: it broke off; says what state the live data is in.
    """
    stack = Stack.load()
    if request.action != "restore":
        return undoing.run(stack, request.action, request.restore_id, dry_run=request.dry_run, confirm=request.confirm)
    with reading_from(stack, request.source) as source:  # locks and journals stay in the own store
        manifest = catalogue.read(source.store, source.keys).need(request.set_id)
        manifest = catalogue.with_definitions(source.store, source.keys, manifest)
        parts = chosen(manifest, request.components)
        plan = plan_restore(stack, manifest, parts)
        plan = replace(plan, buckets=plan_buckets(stack, source.store, manifest, parts.buckets))
        refuse_unfit(stack, manifest, plan, replace=request.replace, accept_other_keys=request.accept_other_keys)
        refuse_overwriting(plan.buckets, replace=request.replace)
        show_plan(stack, plan, dry_run=request.dry_run)
        if request.dry_run:
            return None
        approve(stack.name, request.confirm, describe(plan))
        with stack.exclusive("restore") as lease:
            journal = carry_out(stack, source, manifest, parts, plan, lease)
    line(f"restored {manifest.id}; undo with action: undo, restore_id: {journal.id}")
    show_restore(stack, journal)
    return journal


def carry_out(stack: Stack, source: Stack, manifest: Manifest, parts: Parts, plan: RestorePlan, lease: Lease) -> RestoreJournal:
    """Stage, compare and swap, under the stack's lock; what the flow does, and an upgrade whose data has to go back.

    Args:
        source: the stack as it reads the set. plan: as it was approved.
    Raises: as the flow.
    """
    undoing.settle(stack)  # a restore that died before this one
    refuse_changed(plan, plan_restore(stack, manifest, parts, plan.id))  # since it was approved
    check_stored(source, manifest, parts)  # hashes of stored bytes, before anything is fed to an engine
    journal = begin(stack, plan)
    with discard_staged_on_failure(stack, journal):
        progress = Progress(f"restore-progress-{stack.name}", f"Restore {plan.id}: staging", len(plan.steps))
        for step in plan.steps:
            stage(source, manifest, step)  # side by side, then compared with the manifest; the live one keeps serving
            progress.step()
        lease.check()
        with swapping(stack.name, journal.parts, f"restore {journal.id}"):  # the watch alerts nobody meanwhile
            swap_all(stack, source.store, manifest, journal)
    empty_redis_after(stack, journal)
    return journal
