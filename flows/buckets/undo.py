"""A restore of objects taken back, from its plan and from what it kept; and what it kept, dropped."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from blocks.errors import IntegrityError, RestoreFailed, RestoreRefused
from blocks.object_fetch import ObjectFetcher
from blocks.object_store import BackupStore
from blocks.retry import retrying
from blocks.source_bucket import SourceBucket
from flows.buckets.plan import Action, kept_folder, need_plan, phase_name, phase_of, plan_name, save_phase
from flows.buckets.restore import WRITERS, Restored
from flows.buckets.steps import Outcome, Steps

__all__ = ["forget_objects", "undo_objects"]

_AT_ONCE = 1_000


def undo_objects(
    source: SourceBucket, store: BackupStore, restore_id: str, *, folder: Path | None = None, progress: Callable[[str], None]
) -> Restored:
    """Put back what a restore overwrote or deleted, and remove what it added; also one that died half-way.

    An object that is not what the restore put there was written since, and is left alone. Safe to run again.

    Args:
        source: the live bucket. store: with the plan and what was kept. restore_id: of the restore.
        folder: for temporary files; None for the system's own. progress: told about each thousand in a line.
    Raises:
        RestoreRefused: there is no such restore.
        RestoreFailed: something that was kept is gone; says what. All else was taken back.
    """
    undone = Restored(restore_id, source.name)
    with ExitStack() as stack:
        if not phase_of(store, restore_id, source.name):
            raise RestoreRefused(f"bucket {source.name}: no restore {restore_id!r} has changed anything here")
        plan = stack.enter_context(need_plan(store, restore_id, source.name, folder))
        save_phase(store, restore_id, source.name, "undoing")
        fetcher = stack.enter_context(ObjectFetcher(source))
        steps = Steps(source, store, fetcher, restore_id)
        pool = stack.enter_context(ThreadPoolExecutor(WRITERS, thread_name_prefix="undo"))
        actions = plan.actions()
        done = 0
        while some := list(islice(actions, _AT_ONCE)):
            for action, outcome in zip(some, pool.map(lambda one: _undo(steps, one), some), strict=True):
                if isinstance(outcome, str):
                    undone.add(outcome, action.key)
                else:
                    undone.not_restored.append(str(outcome))
            done += len(some)
            progress(f"bucket {source.name}: {done} of {plan.count} objects taken back")
    if undone.not_restored:
        raise RestoreFailed(
            f"bucket {source.name}: {len(undone.not_restored)} objects could not be put back: "
            f"{'; '.join(undone.not_restored[:3])}; all others were"
        )
    save_phase(store, restore_id, source.name, "undone")
    return undone


def _undo(steps: Steps, action: Action) -> Outcome | IntegrityError:
    try:
        return steps.undo(action)
    except IntegrityError as error:
        return error


def forget_objects(store: BackupStore, restore_id: str, bucket: str) -> int:
    """Drop what a restore kept, and its plan: from then on there is no undo.

    Returns: how many kept objects were removed.
    """
    folder = kept_folder(store, restore_id, bucket)
    for upload in retrying(lambda: list(store.uploads(folder))):
        store.abort(upload)
    count = retrying(lambda: store.remove_below(folder))
    store.remove([store.root + plan_name(restore_id, bucket), store.root + phase_name(restore_id, bucket)])
    return count
