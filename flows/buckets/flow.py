"""Put objects of a bucket back from a set, one, those below a prefix, or all that are missing or different; or undo that."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import ApprovalMissing, RestoreRefused, SettingsError
from blocks.source_bucket import SourceBucket
from flows import catalogue
from flows.approval import approve
from flows.backup.manifest import BucketContents, Manifest
from flows.backup.sets import new_set_id
from flows.buckets.compare import Wanted
from flows.buckets.plan import need_plan, open_plan, restores_of
from flows.buckets.restore import Restored, plan_objects, restore_objects
from flows.buckets.undo import forget_objects, undo_objects
from flows.buckets.views import describe, describe_undo, preview, preview_plan, show, show_plan
from flows.catalogue import set_prefix
from flows.lease import utc_now
from flows.report import line
from flows.stack import Stack


class BucketRestoreRequest(BaseModel):
    """Which objects to put back, or which restore of objects to take back."""

    action: Literal["restore", "undo", "forget"] = Field(
        default="restore",
        description="restore: put back what is missing or different. undo: take a restore back. forget: drop what it kept",
    )
    bucket: str = Field(default="", description="Name of the bucket; empty where the stack has only one")
    set_id: str = Field(default="latest", description="latest, the id of a set, or a time (the newest set not younger)")
    key: str = Field(default="", description="Only the object with this key")
    prefix: str = Field(default="", description="Only objects whose keys begin so")
    delete_extra: bool = Field(default=False, description="Also delete what was not there then; it is kept for undo")
    restore_id: str = Field(
        default="",
        description="undo, forget: which restore; empty: the latest. restore: one that died, to be finished; empty: a new one",
    )
    dry_run: bool = Field(default=False, description="Only say exactly what would happen")
    confirm: str = Field(default="", description="The stack's name approves at once; empty: the run pauses and asks")


@flow(name="restore-bucket", validate_parameters=True, timeout_seconds=24 * 3600)
def restore_bucket(request: BucketRestoreRequest = BucketRestoreRequest()) -> Restored | None:
    """Put objects of a bucket back from a set; what is overwritten or deleted is kept for undo.

    Args:
        request: which objects, and whether to do it at all.
    Returns: what was done; None for a dry run, and for forget.
    Raises:
        RestoreRefused: it does not fit; nothing was changed.
        ApprovalMissing: nobody approved; nothing was changed.
        RestoreFailed: some objects could not be read from the set, or from what was kept; says which.
    """
    stack = Stack.load()
    source = _source(stack, request.bucket)
    wanted = Wanted(request.key, request.prefix)
    if request.action != "restore":
        return _take_back(stack, source, request)
    manifest = catalogue.read(stack.store, stack.keys).need(_set_of(stack, source, request))
    component, prefix = _component(manifest, source.name), set_prefix(stack.store, manifest.id)
    stack.keys.own_recipient()  # without an identity nothing can be read: better said before somebody approves
    if request.dry_run:
        show_plan(stack, preview(source, stack.store, prefix, component, wanted, request), manifest.id, dry_run=True)
        return None
    restore_id = request.restore_id or new_set_id(utc_now())
    with open_plan(stack.store, restore_id, source.name, None) as unfinished:
        if unfinished is None:
            plan_objects(
                source,
                stack.store,
                prefix,
                component,
                set_id=manifest.id,
                restore_id=restore_id,
                wanted=wanted,
                delete_extra=request.delete_extra,
            )
    with need_plan(stack.store, restore_id, source.name, None) as plan:
        planned = preview_plan(plan, source.name, wanted)
    show_plan(stack, planned, manifest.id, dry_run=False)
    try:
        approve(stack.name, request.confirm, describe(planned, manifest.id, restore_id))
    except ApprovalMissing:
        if not request.restore_id:
            forget_objects(stack.store, restore_id, source.name)
        raise
    with stack.exclusive("restore"):
        restored = restore_objects(
            source,
            stack.store,
            stack.keys,
            prefix,
            component,
            set_id=manifest.id,
            restore_id=restore_id,
            wanted=wanted,
            delete_extra=request.delete_extra,
            progress=line,
        )
    line(f"bucket {source.name}: restored from {manifest.id}; undo with action: undo, restore_id: {restore_id}")
    show(stack, restored, "restored", undo=True)
    return restored


def _take_back(stack: Stack, source: SourceBucket, request: BucketRestoreRequest) -> Restored | None:
    known = restores_of(stack.store, source.name)
    restore_id = request.restore_id or (known[-1] if known else "")
    if restore_id not in known:
        latest = ", ".join(known[-3:]) or "none"
        raise RestoreRefused(f"bucket {source.name}: there is no restore {restore_id!r} to act on; the latest are: {latest}")
    text = describe_undo(stack.store, source.name, restore_id, request.action)
    line(text)
    if request.dry_run:
        return None
    approve(stack.name, request.confirm, text)
    with stack.exclusive("restore"):
        if request.action == "forget":
            line(f"dropped {forget_objects(stack.store, restore_id, source.name)} objects that restore {restore_id} kept")
            return None
        undone = undo_objects(source, stack.store, restore_id, progress=line)
    show(stack, undone, "taken back", undo=False)
    return undone


def _source(stack: Stack, bucket: str) -> SourceBucket:
    names = [source.name for source in stack.sources]
    if not bucket and len(names) == 1:
        return stack.sources[0]
    for source in stack.sources:
        if source.name == bucket:
            return source
    raise SettingsError(f"there is no bucket {bucket!r} to restore; give one of: {', '.join(names) or 'none is set up'}")


def _set_of(stack: Stack, source: SourceBucket, request: BucketRestoreRequest) -> str:
    """Return which set is meant: a restore that died names its own."""
    if request.restore_id:
        with open_plan(stack.store, request.restore_id, source.name, None) as plan:
            if plan is not None:
                return plan.set_id
        raise RestoreRefused(f"bucket {source.name}: no restore {request.restore_id!r} to finish; leave restore_id empty")
    return request.set_id


def _component(manifest: Manifest, bucket: str) -> BucketContents:
    for component in manifest.buckets:
        if component.name == bucket:
            return component
    names = ", ".join(component.name for component in manifest.buckets) or "none"
    raise RestoreRefused(f"set {manifest.id} does not hold the bucket {bucket!r}; the buckets in it are: {names}")
