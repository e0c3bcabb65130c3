"""The buckets of a whole restore: after the databases, what is missing or different in them is put back; nothing is deleted."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from blocks.errors import RestoreRefused, SettingsError
from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.backup.manifest import BucketContents, Manifest
from flows.buckets.compare import Wanted, compare_bucket
from flows.buckets.plan import phase_of
from flows.buckets.restore import restore_objects
from flows.buckets.undo import forget_objects, undo_objects
from flows.catalogue import set_prefix
from flows.report import line
from flows.stack import Stack


@dataclass(frozen=True)
class PlannedObjects:
    """What a restore does in one bucket.

    Attributes:
        bucket: its name. missing, different, extra: how many objects are.
    """

    bucket: str
    missing: int
    different: int
    extra: int

    def sentence(self) -> str:
        """Say in one sentence what happens."""
        text = f"bucket {self.bucket}: {self.missing} objects that are missing are put back"
        if self.different:
            text += f", {self.different} that are different are overwritten and kept for undo"
        return text + (f"; {self.extra} that were not there then are left alone" if self.extra else "")


def plan_buckets(stack: Stack, origin: BackupStore, manifest: Manifest, buckets: list[BucketContents]) -> list[PlannedObjects]:
    """Compare the live buckets with the set by their listings; changes nothing.

    Args:
        origin: where the set is read from.
    """
    return [_plan(source_of(stack, bucket.name), origin, set_prefix(origin, manifest.id), bucket) for bucket in buckets]


def refuse_overwriting(planned: list[PlannedObjects], *, replace: bool) -> None:
    """Refuse to overwrite objects unless that was asked for.

    Raises:
        RestoreRefused: a live bucket has objects that are different.
    """
    for one in planned:
        if one.different and not replace:
            raise RestoreRefused(
                f"bucket {one.bucket} has {one.different} objects that differ from the set's; set replace to overwrite them "
                "(they are kept for undo), or choose other components"
            )


def put_back(stack: Stack, origin: BackupStore, manifest: Manifest, bucket: str, restore_id: str) -> None:
    """Put back what is missing or different in a bucket; goes on where a run that died has stopped."""
    component = next(one for one in manifest.buckets if one.name == bucket)
    restored = restore_objects(
        source_of(stack, bucket),
        stack.store,
        stack.keys,
        set_prefix(origin, manifest.id),
        component,
        set_id=manifest.id,
        restore_id=restore_id,
        wanted=Wanted(),
        origin=origin,
        progress=line,
    )
    line(f"bucket {bucket}: {', '.join(f'{count} {what}' for what, count in restored.counts.items()) or 'nothing to do'}")


def take_back(stack: Stack, bucket: str, restore_id: str) -> None:
    """Undo what a restore did in a bucket; nothing happens where it never came so far."""
    if phase_of(stack.store, restore_id, bucket):
        undo_objects(source_of(stack, bucket), stack.store, restore_id, progress=line)


def forget(stack: Stack, bucket: str, restore_id: str) -> None:
    """Drop what a restore kept of a bucket."""
    forget_objects(stack.store, restore_id, bucket)


def source_of(stack: Stack, bucket: str) -> SourceBucket:
    """Return the live bucket of a name.

    Raises:
        SettingsError: this stack has none of that name.
    """
    for source in stack.sources:
        if source.name == bucket:
            return source
    raise SettingsError(f"bucket {bucket} is in the set, but not in SOURCE_BUCKETS here; add it, or choose other components")


def _plan(source: SourceBucket, origin: BackupStore, prefix: str, component: BucketContents) -> PlannedObjects:
    counts = {"missing": 0, "different": 0, "extra": 0}
    with closing(compare_bucket(source, origin, prefix, component, Wanted())) as findings:
        for finding in findings:
            counts[finding.kind] += 1
    return PlannedObjects(component.name, **counts)
