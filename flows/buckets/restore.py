"""Objects put back from a set: what is missing or different, one object, those below a prefix, or all.

Written down before it begins (the plan), what is overwritten or deleted is kept first, and nothing is put whose bytes are not
those of the index. Every step looks at what is there before it acts, so that a run that died is simply run again.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import IO, Any, cast

from blocks.errors import IntegrityError, ObjectMissing, RestoreFailed, RestoreRefused
from blocks.keys import BackupKeys
from blocks.object_fetch import ObjectFetcher
from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.backup.manifest import BucketContents
from flows.backup.pipes import CHUNK
from flows.buckets.compare import Wanted, compare_bucket
from flows.buckets.objects import SPOOL
from flows.buckets.packs import Member, PackEntry, read_pack, read_packs_list
from flows.buckets.plan import Action, Plan, open_plan, phase_of, save_phase, save_plan
from flows.buckets.steps import Outcome, Steps

__all__ = ["Restored", "plan_objects", "restore_objects"]

WRITERS = 8
_AHEAD_BYTES = 32 * 1024 * 1024
_AHEAD_OBJECTS = 4 * WRITERS
EXAMPLES = 20


@dataclass
class Restored:
    """What a restore of objects, or its undoing, has done.

    Attributes:
        id: of the restore. bucket: its name.
        counts: how many objects were added, replaced, deleted, `as wanted` (by an earlier run of the same restore),
            `left alone` (somebody wrote them meanwhile), or put back and removed by an undo.
        examples: some keys of each. not_restored: what could not be read from the set, one sentence each.
    """

    id: str
    bucket: str
    counts: dict[Outcome, int] = field(default_factory=dict)
    examples: dict[Outcome, list[str]] = field(default_factory=dict)
    not_restored: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome, key: str) -> None:
        """Count an object."""
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        examples = self.examples.setdefault(outcome, [])
        if len(examples) < EXAMPLES:
            examples.append(key)


def plan_objects(
    source: SourceBucket,
    store: BackupStore,
    prefix: str,
    component: BucketContents,
    *,
    set_id: str,
    restore_id: str,
    wanted: Wanted,
    delete_extra: bool = False,
    folder: Path | None = None,
    origin: BackupStore | None = None,
) -> None:
    """Compare a live bucket with a set and write down what will be done about it; changes nothing in the bucket.

    Args:
        source: the live bucket. store: where the plan goes. prefix: key prefix of the set, with slash.
        component: what its manifest says of the bucket. set_id: of the set. restore_id: of the restore.
        wanted: which objects. delete_extra: also delete what was not there then.
        folder: for temporary files; None for the system's own. origin: where the set is, if not in `store`.
    """
    with closing(compare_bucket(source, origin or store, prefix, component, wanted, folder)) as findings:
        meant = (finding for finding in findings if delete_extra or finding.kind != "extra")
        save_plan(store, restore_id, source.name, set_id, meant, folder)


def restore_objects(
    source: SourceBucket,
    store: BackupStore,
    keys: BackupKeys,
    prefix: str,
    component: BucketContents,
    *,
    set_id: str,
    restore_id: str,
    wanted: Wanted,
    delete_extra: bool = False,
    folder: Path | None = None,
    origin: BackupStore | None = None,
    progress: Callable[[str], None],
) -> Restored:
    """Put back what is missing or different in a live bucket; run again under the same id, it goes on where it was.

    Args:
        source, store, prefix, component, set_id, restore_id, wanted, delete_extra, folder, origin: as in `plan_objects`; where
            a plan is there already, of a run that died or of one that was approved, that is what is carried out.
        keys: what opens the packs. progress: told about each pack in a line.
    Returns: what was done.
    Raises:
        RestoreRefused: the restore was taken back already, or its plan is that of another set; nothing was changed.
        RestoreFailed: some objects could not be read from the set; says which packs. All others were put back.
        StoreError: the bucket or the store failed; run it again under the same id.
    """
    if phase_of(store, restore_id, source.name) in ("undoing", "undone"):
        raise RestoreRefused(f"bucket {source.name}: restore {restore_id} was taken back; begin a new one")
    with ExitStack() as stack:
        plan = stack.enter_context(open_plan(store, restore_id, source.name, folder))
        if plan is None:
            chosen: dict[str, Any] = {
                "set_id": set_id,
                "restore_id": restore_id,
                "wanted": wanted,
                "delete_extra": delete_extra,
                "origin": origin,
            }
            plan_objects(source, store, prefix, component, **chosen, folder=folder)
            plan = stack.enter_context(open_plan(store, restore_id, source.name, folder))
        if plan is None or plan.set_id != set_id:
            raise RestoreRefused(f"bucket {source.name}: restore {restore_id} has no plan for set {set_id}; begin a new one")
        packs = read_packs_list(origin or store, prefix, component, folder)
        save_phase(store, restore_id, source.name, "restoring")
        restored = Restored(restore_id, source.name)
        fetcher = stack.enter_context(ObjectFetcher(source))
        with _Work(Steps(source, store, fetcher, restore_id), restored) as work:
            _carry_out(plan, packs, origin or store, keys, work, progress)
        if restored.not_restored:
            raise RestoreFailed(
                f"bucket {source.name}: {len(restored.not_restored)} packs could not be restored from whole: "
                f"{'; '.join(restored.not_restored[:3])}; all other objects were put back"
            )
        save_phase(store, restore_id, source.name, "done")
    return restored


def _carry_out(
    plan: Plan, packs: dict[str, PackEntry], store: BackupStore, keys: BackupKeys, work: _Work, progress: Callable[[str], None]
) -> None:
    for pack_id, group in groupby(plan.actions(), key=lambda action: action.entry.pack if action.entry else ""):
        if not pack_id:
            for action in group:
                work.submit(action, 0, lambda action=action: work.steps.delete(action))  # type: ignore[misc]  # bound now
            continue
        missing = {action.entry.member: action for action in group if action.entry is not None}
        count = len(missing)
        try:
            _from_pack(packs, pack_id, missing, store, keys, work)
        except (IntegrityError, ObjectMissing) as error:
            keys_left = ", ".join(repr(action.key) for action in list(missing.values())[:3])
            work.restored.not_restored.append(f"{error} ({len(missing)} objects, for example {keys_left})")
        progress(f"bucket {work.restored.bucket}: pack {pack_id}: {count - len(missing)} of {count} objects")


def _from_pack(
    packs: dict[str, PackEntry], pack_id: str, missing: dict[str, Action], store: BackupStore, keys: BackupKeys, work: _Work
) -> None:
    """Put back the members of a pack that are wanted, each once its bytes are proven; what is done leaves `missing`."""
    if pack_id not in packs:
        raise IntegrityError(f"pack {pack_id}: is not in the set's list of packs; use another set")
    with closing(read_pack(store, keys, packs[pack_id])) as members:
        for member in members:
            action = missing.get(member.name)
            if action is None:
                continue
            work.put(action, member)
            del missing[member.name]
            if not missing:
                return
    raise IntegrityError(f"pack {pack_id}: lacks members that the index says are in it; use another set")


class _Work:
    """Objects written side by side, in bounded memory; left with an error, what has not begun is not begun."""

    def __init__(self, steps: Steps, restored: Restored) -> None:
        self.steps, self.restored = steps, restored
        self._pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="restore")
        self._pending: deque[tuple[str, int, Future[Outcome]]] = deque()

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait(0, 0)
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def put(self, action: Action, member: Member) -> None:
        """Put a member where it belongs, if it is what the index says: small ones side by side, a large one at once.

        Raises:
            IntegrityError: it is not; nothing was put.
        """
        entry = action.entry
        assert entry is not None  # noqa: S101 - only actions with an entry have a member
        if member.size != entry.bytes:
            raise IntegrityError(f"pack {entry.pack}: {member.name!r} in it has {member.size} bytes, expected {entry.bytes}")
        if entry.bytes <= SPOOL:
            data = member.file.read()
            _prove(action, hashlib.sha256(data).hexdigest())
            self.submit(action, len(data), lambda: self.steps.put(action, io.BytesIO(data)))
            return
        with tempfile.SpooledTemporaryFile(SPOOL) as file:
            digest = hashlib.sha256()
            while data := member.file.read(CHUNK):
                digest.update(data)
                file.write(data)
            _prove(action, digest.hexdigest())
            self.restored.add(self.steps.put(action, cast(IO[bytes], file)), action.key)

    def submit(self, action: Action, size: int, work: Callable[[], Outcome]) -> None:
        """Do a step in another thread, when there is room for its bytes."""
        self._wait(_AHEAD_BYTES - size, _AHEAD_OBJECTS)
        self._pending.append((action.key, size, self._pool.submit(work)))

    def _wait(self, most_bytes: int, most: int) -> None:
        while self._pending and (len(self._pending) > most or sum(size for _, size, _ in self._pending) > most_bytes):
            key, _, future = self._pending.popleft()
            self.restored.add(future.result(), key)
        if most == 0:
            for key, _, future in self._pending:
                self.restored.add(future.result(), key)


def _prove(action: Action, sha256: str) -> None:
    if action.entry is None or sha256 != action.entry.sha256:
        pack = action.entry.pack if action.entry else ""
        raise IntegrityError(
            f"pack {pack}: the bytes of {action.key!r} in it are not those that were backed up; use another set"
        )
