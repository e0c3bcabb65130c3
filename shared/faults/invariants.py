"""What must hold after every fault, whichever flow it hit: looked at past the proxies, in store, engines and processes."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import psutil

from blocks.errors import IntegrityError, ObjectMissing, StackError
from blocks.object_store import BackupStore
from flows import catalogue
from flows.backup.clickhouse import merges_stopped
from flows.backup.clickhouse_files import load_index, verify_files
from flows.backup.manifest import Manifest
from flows.buckets.packs import pack_key, read_packs_list
from flows.catalogue import Catalogue, set_prefix
from flows.copy import catalogue as copies
from flows.copy.records import copied_sets, load_list
from flows.copy.verifying import Reader
from flows.lease import LeaseRecord, lock_key
from flows.restore.journal import load_all
from shared.faults.data import CLICKHOUSE, Fingerprint, differing
from shared.faults.flows import FlowProcess
from shared.faults.ground import LEASE, Ground

__all__ = ["Before", "Checker", "unlike"]

_IN_SWAP = ("swapping", "done", "undoing", "undone", "forgotten")
_SHOWN = 2


@dataclass(frozen=True)
class Before:
    """How everything was before the case.

    Attributes:
        sets: ids of the committed sets. stay: those that nothing may delete. objects: of the latter, key -> ETag.
        live: what was live. restored: what is live after an undisturbed restore; without buckets where that is not known.
    """

    sets: frozenset[str]
    stay: frozenset[str]
    objects: Mapping[str, str]
    live: Fingerprint
    restored: Fingerprint


@dataclass
class Checker:
    """Looks whether everything holds.

    Args:
        ground: of the campaign.
    """

    ground: Ground
    _hashed: dict[tuple[str, str], str] = field(default_factory=dict)

    def before(self, stay: frozenset[str], restored: Fingerprint) -> Before:
        """Remember how everything is."""
        store = self.ground.store
        entries = catalogue.read(store, self.ground.stack.keys).entries
        prefixes = tuple(set_prefix(store, one) for one in stay)
        needed = {pack_key(store, pack) for e in entries if e.id in stay and e.manifest for pack in _packs(store, e.manifest)}
        objects = {
            item.key: item.etag
            for item in store.list(store.root)
            if (item.key.startswith(prefixes) or item.key in needed) and not item.key.endswith("/checks.json")
        }
        return Before(frozenset(e.id for e in entries), stay, objects, self.ground.data.fingerprint(), restored)

    def after_fault(self, before: Before, *, damaged: bool = False, removed: Collection[str] = ()) -> list[str]:
        """Name what does not hold right after a flow was hit.

        Args:
            damaged: somebody changed objects of the store, so sets may be bad and may be known to be.
            removed: those that somebody took away.
        """
        problems = [] if damaged else self.bad_sets(self.ground.store)
        problems += self.bad_copies()
        problems += self._lost(before, damaged=damaged, removed=removed)
        problems += self._live(before)
        problems += self._lock()
        return problems

    def after_recovery(self, *processes: FlowProcess) -> list[str]:
        """Name what was left behind although the next run succeeded."""
        problems = self.bad_sets(self.ground.store) + self.bad_copies()
        stopped = merges_stopped(self.ground.stack.need_clickhouse(), [CLICKHOUSE])
        problems += [f"merges are still stopped after the next run: {', '.join(stopped[:_SHOWN])}"] if stopped else []
        left = sorted(path.name for path in self.ground.scratch.iterdir())
        problems += [f"scratch was left behind: {', '.join(left)}"] if left else []
        problems += [f"{name} was left behind" for name in self.ground.data.side_databases() if "__drill_" in name]
        problems += [f"a process was left behind: {name}" for process in processes for name in process.survivors()]
        problems += self._scratch_engines()
        return problems

    def after_finish(self, before: Before) -> list[str]:
        """Name what is half restored although a run settled what had died."""
        now = self.ground.data.fingerprint()
        missing = unlike(now, before.restored)
        old = not differing(now, before.live)
        return [] if old or not missing else [f"half restored: {', '.join(missing[:_SHOWN])} not"]

    def bad_sets(self, store: BackupStore) -> list[str]:
        """Name what is wrong with the sets that count as committed, every stored byte hashed."""
        problems = []
        for entry in catalogue.read(store, self.ground.stack.keys).entries:
            if not entry.good:
                problems.append(f"set {entry.id} is held to be bad: {entry.fault or entry.checks.fault}")
            if entry.manifest is not None:
                problems += [f"committed set {entry.id}: {what}" for what in self._wrong_in(store, entry.manifest)]
        return problems

    def bad_copies(self) -> list[str]:
        """Name copies in the second store that count as committed and are not whole, every stored byte hashed."""
        second, keys = self.ground.second_store, self.ground.stack.keys
        committed = copied_sets(second)
        read = copies.read(self.ground.stack) if committed else Catalogue()
        problems = [f"copy {entry.id} cannot be used: {entry.fault}" for entry in read.entries if entry.fault]
        unread = committed - {entry.id for entry in read.entries}
        problems += [f"copy {one} counts as committed, but has no manifest" for one in sorted(unread)]
        for set_id in sorted(committed):
            try:
                found = Reader(second).problems(load_list(second, keys, set_id))
            except StackError as error:
                found = [str(error)]
            problems += [f"committed copy of {set_id}: {what}" for what in found[:_SHOWN]]
        return problems

    def _wrong_in(self, store: BackupStore, manifest: Manifest) -> list[str]:
        prefix = set_prefix(store, manifest.id)
        problems = []
        for item in manifest.stored_objects():
            problems += self._wrong(store, prefix + item.key, item.sha256)
        for component in manifest.clickhouse:
            base = set_prefix(store, component.base) + component.path if component.base else None
            try:
                index = load_index(store, prefix, component.index)
                verify_files(index.files, store, prefix + component.path, base, component.name)
            except StackError as error:
                problems.append(str(error))
        for bucket in manifest.buckets:
            try:
                packs = read_packs_list(store, prefix, bucket)
            except (IntegrityError, ObjectMissing) as error:
                problems.append(str(error))
                continue
            for pack in packs.values():
                problems += self._wrong(store, pack_key(store, pack.id), pack.sha256)
        return problems[:_SHOWN]

    def _wrong(self, store: BackupStore, key: str, sha256: str) -> list[str]:
        found = store.find(key)
        if found is None:
            return [f"{key} is missing"]
        known = self._hashed.get((key, found.etag))
        if known is None:
            known = self._hashed[(key, found.etag)] = hashlib.sha256(store.get(key)).hexdigest()
        return [] if known == sha256 else [f"{key} is not what was stored"]

    def _lost(self, before: Before, *, damaged: bool, removed: Collection[str]) -> list[str]:
        now = {item.key: item.etag for item in self.ground.store.list(self.ground.store.root)}
        gone = sorted(key for key in before.objects if key not in now and key not in removed)
        changed = [] if damaged else sorted(key for key, etag in before.objects.items() if now.get(key, etag) != etag)
        problems = [f"an object of a set that must stay is gone: {key}" for key in gone[:_SHOWN]]
        return problems + [f"an object of a committed set was changed: {key}" for key in changed[:_SHOWN]]

    def _live(self, before: Before) -> list[str]:
        """Live data is as it was, unless a restore had begun to swap: then each database is the old one or the new one."""
        now = self.ground.data.fingerprint()
        changed = differing(now, before.live)
        try:
            journals = load_all(self.ground.store)
        except IntegrityError as error:  # then nobody knows whether it had begun
            return [str(error)] if changed else []
        if not journals or journals[-1].phase not in _IN_SWAP:
            return [f"live data was changed before a swap: {name}: {now.get(name, 'gone')[:80]}" for name in changed[:_SHOWN]]
        neither = [name for name in unlike(now, before.restored) if name in changed and not _is_between(name, now, before)]
        return [f"live data is neither the old nor the restored: {name}: {now.get(name, 'gone')[:80]}" for name in neither]

    def _lock(self) -> list[str]:
        store = self.ground.store
        try:
            record = LeaseRecord.model_validate_json(store.get(lock_key(store)))
        except (ObjectMissing, ValueError):
            return []  # torn: it counts as held for the length of a lease
        left = (record.expires_at - store.now()).total_seconds()
        return [] if record.released or left <= LEASE + 1 else [f"the lock of {record.flow} blocks for {left:.0f} s"]

    def _scratch_engines(self) -> list[str]:
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if str(self.ground.scratch) + "/" in words:
                found.append(f"an engine of a drill was left behind: {words[:100]}")
        return found[:_SHOWN]


def unlike(now: Fingerprint, restored: Fingerprint) -> list[str]:
    """Name what is not as after a restore, leaving out the buckets that nothing is known about."""
    return [name for name in differing(now, restored) if name in restored or not name.startswith("bucket ")]


def _is_between(name: str, now: Fingerprint, before: Before) -> bool:
    """Whether it is in the middle of its swap, which the next run finishes or takes back.

    A database takes no connections then; of a bucket each object is the old one or the new one.
    """
    if name.startswith("postgres "):
        return "not currently accepting connections" in now.get(name, "")
    if not name.startswith("bucket "):
        return False
    found, old, new = (set(one.get(name, "").split(",")) for one in (now, before.live, before.restored))
    return old & new <= found <= old | new


def _packs(store: BackupStore, manifest: Manifest) -> list[str]:
    return [pack for bucket in manifest.buckets for pack in read_packs_list(store, set_prefix(store, manifest.id), bucket)]
