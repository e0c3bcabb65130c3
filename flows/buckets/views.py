"""What a restore of objects shows in the Prefect UI, and asks approval for."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.backup.manifest import BucketContents
from flows.buckets.compare import Wanted, compare_bucket
from flows.buckets.plan import Action, Plan, need_plan
from flows.buckets.restore import Restored
from flows.catalogue import size
from flows.report import Summary, line
from flows.stack import Stack

__all__ = ["Preview", "describe", "describe_undo", "preview", "preview_plan", "show", "show_plan"]

_SHOWN = 500
"""Rows of the table; the plan in the store has them all."""
_DOES = {"add": "missing, put back", "replace": "different, overwritten", "delete": "extra, deleted"}


class _Deletes(Protocol):
    delete_extra: bool


@dataclass
class Preview:
    """What a restore would do.

    Attributes:
        bucket: its name. wanted: which objects were meant. counts, bytes: by action. actions: the first of them.
        extra: objects that were not there then and are left alone.
    """

    bucket: str
    wanted: Wanted
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_DOES, 0))
    bytes: int = 0
    actions: list[Action] = field(default_factory=list)
    extra: int = 0

    def add(self, action: Action) -> None:
        """Count an action."""
        self.counts[action.action] += 1
        self.bytes += action.entry.bytes if action.entry else 0
        if len(self.actions) < _SHOWN:
            self.actions.append(action)


def preview(
    source: SourceBucket, store: BackupStore, prefix: str, component: BucketContents, wanted: Wanted, request: _Deletes
) -> Preview:
    """Work out what a restore would do; writes nothing."""
    seen = Preview(source.name, wanted)
    with closing(compare_bucket(source, store, prefix, component, wanted)) as findings:
        for finding in findings:
            if finding.kind == "extra" and not request.delete_extra:
                seen.extra += 1
            else:
                seen.add(Action.of(finding))
    return seen


def preview_plan(plan: Plan, bucket: str, wanted: Wanted) -> Preview:
    """Read what a restore will do from its plan."""
    seen = Preview(bucket, wanted)
    for action in plan.actions():
        seen.add(action)
    return seen


def describe(planned: Preview, set_id: str, restore_id: str) -> str:
    """Say in one paragraph what will happen and how it is taken back."""
    counts = planned.counts
    return (
        f"Restore of objects in bucket {planned.bucket} ({planned.wanted}) from set {set_id}: {counts['add']} are missing and "
        f"put back, {counts['replace']} are different and overwritten, {counts['delete']} were not there then and are deleted; "
        f"{size(planned.bytes)} in all. What is overwritten or deleted is kept first. "
        f"Way back: the same flow with action undo and restore_id {restore_id}."
    )


def describe_undo(store: BackupStore, bucket: str, restore_id: str, action: str) -> str:
    """Say in one paragraph what taking a restore back, or forgetting it, does."""
    if action == "forget":
        return f"Forget restore {restore_id} of bucket {bucket}: what it kept is removed for good. There is no undo after that."
    with need_plan(store, restore_id, bucket, None) as plan:
        counts = preview_plan(plan, bucket, Wanted()).counts
        return (
            f"Undo of restore {restore_id} of bucket {bucket} (set {plan.set_id}): up to {counts['add']} objects that it added "
            f"are removed, {counts['replace']} that it overwrote and {counts['delete']} that it deleted are put back. "
            "An object that was written since is left alone."
        )


def show_plan(stack: Stack, planned: Preview, set_id: str, *, dry_run: bool) -> None:
    """Publish what will happen, and log it."""
    what = ", ".join(f"{count} {_DOES[name]}" for name, count in planned.counts.items())
    line(f"bucket {planned.bucket}: {what}")
    title = f"Restore of bucket {planned.bucket} from {set_id}{' (dry run: nothing was changed)' if dry_run else ''}"
    summary = Summary(title, ("object", "now", "what happens", "bytes"))
    for action in planned.actions:
        now = f"{action.was_bytes} bytes" if action.was else "nothing"
        summary.row(repr(action.key), now, _DOES[action.action], action.entry.bytes if action.entry else 0)
    total = sum(planned.counts.values())
    if total > len(planned.actions):
        summary.note(f"And {total - len(planned.actions)} more.")
    summary.note(f"In all: {what}.")
    if planned.extra:
        summary.note(f"{planned.extra} objects were not there then and are left alone; delete_extra would delete them.")
    summary.publish(f"restore-bucket-plan-{stack.name}")


def show(stack: Stack, done: Restored, what: str, *, undo: bool) -> None:
    """Publish what a restore or its undoing has done."""
    summary = Summary(f"Restore {done.id} of bucket {done.bucket}: {what}", ("what", "objects", "for example"))
    for outcome, count in done.counts.items():
        summary.row(outcome, count, ", ".join(map(repr, done.examples[outcome])))
    if not done.counts:
        summary.note("Nothing had to be done.")
    if undo:
        parameters = f'{{"request": {{"action": "undo", "bucket": "{done.bucket}", "restore_id": "{done.id}"}}}}'
        summary.note(f"Undo: `prefect deployment run restore-bucket/on-demand --params '{parameters}'`")
    summary.publish(f"restore-bucket-{stack.name}")
