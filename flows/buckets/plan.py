"""What a restore of objects will do, written down in the store before it does any of it.

From the plan a run that died is finished or taken back. It ends with a line that says so: a plan without that line was cut off
while it was written, and nothing had been done by then.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from blocks.errors import IntegrityError, ObjectMissing, RestoreRefused
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.buckets.compare import Finding
from flows.buckets.index import IndexEntry
from flows.buckets.lines import Spooled, spooled, store_lines
from flows.buckets.listing import external_sort
from flows.buckets.packs import member_name

__all__ = [
    "Action",
    "Plan",
    "kept_folder",
    "kept_key",
    "need_plan",
    "open_plan",
    "phase_of",
    "restores_of",
    "save_phase",
    "save_plan",
]

Phase = Literal["", "restoring", "done", "undoing", "undone"]
_LONGEST_KEY = 1024
_VERBS = {"missing": "add", "different": "replace", "extra": "delete"}


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to one object.

    Attributes:
        action: add, replace or delete. was, was_bytes: ETag and size of what is there now; empty where nothing is.
        entry: what is put there; None where it is deleted.
    """

    key: str
    action: Literal["add", "replace", "delete"]
    was: str
    was_bytes: int
    entry: IndexEntry | None

    @property
    def order(self) -> tuple[bool, str, str]:
        """Pack by pack, and in the order of the members there; what is deleted comes last."""
        return (self.entry is None, self.entry.pack if self.entry else "", self.key)

    @classmethod
    def of(cls, finding: Finding) -> Action:
        """Say what is done about a finding."""
        was, size = (finding.live.etag, finding.live.bytes) if finding.live else ("", 0)
        verb: Any = _VERBS[finding.kind]
        return cls(finding.key, verb, was, size, finding.entry)

    def line(self) -> bytes:
        """Return the action as a line, without its end."""
        body: dict[str, Any] = {"key": self.key, "action": self.action, "was": self.was, "was_bytes": self.was_bytes}
        if self.entry is not None:
            body["entry"] = json.loads(self.entry.line())
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, line: bytes) -> Action:
        """Read a line.

        Raises:
            IntegrityError: it is not a line of a plan.
        """
        try:
            body = json.loads(line)
            entry = IndexEntry.parse(json.dumps(body["entry"]).encode()) if "entry" in body else None
            return cls(body["key"], body["action"], body["was"], body["was_bytes"], entry)
        except (ValueError, KeyError, TypeError):
            raise IntegrityError("a line of the plan of a restore is not what this version writes") from None


class Plan:
    """A plan that was fetched and is whole; may be read more than once.

    Attributes:
        set_id: of the set that is restored. count: of actions.
    """

    def __init__(self, source: Spooled, set_id: str, count: int) -> None:
        self._source, self.set_id, self.count = source, set_id, count

    def actions(self) -> Iterator[Action]:
        """Yield the actions, pack by pack, deletions last."""
        for number, line in enumerate(self._source.lines()):
            if 1 <= number <= self.count:
                yield Action.parse(line)


def save_plan(
    store: BackupStore, restore_id: str, bucket: str, set_id: str, findings: Iterable[Finding], folder: Path | None
) -> None:
    """Write the plan of a restore, sorted by pack, in constant memory.

    Args:
        restore_id: of the restore. bucket: its name. set_id: which set is restored. findings: all of them become actions.
    """
    actions = external_sort(
        map(Action.of, findings), folder, key=lambda one: one.order, dump=lambda one: one.line(), load=Action.parse
    )

    def lines() -> Iterator[bytes]:
        yield json.dumps({"restore": restore_id, "bucket": bucket, "set": set_id}).encode()
        count = 0
        for action in actions:
            yield action.line()
            count += 1
        yield json.dumps({"end": count}).encode()

    store_lines(store, store.root, plan_name(restore_id, bucket), lines())


@contextmanager
def open_plan(store: BackupStore, restore_id: str, bucket: str, folder: Path | None) -> Iterator[Plan | None]:
    """Fetch the plan of a restore; None where there is none, or one that was cut off: then nothing was done."""
    with ExitStack() as stack:
        try:
            source = stack.enter_context(spooled(store, store.root, plan_name(restore_id, bucket), folder))
        except ObjectMissing:
            yield None
        else:
            yield _whole(source)


def _whole(source: Spooled) -> Plan | None:
    first = last = b""
    count = -1
    try:
        for count, line in enumerate(source.lines()):
            first, last = (line, line) if count == 0 else (first, line)
        if json.loads(last) == {"end": count - 1}:
            return Plan(source, json.loads(first)["set"], count - 1)
    except (IntegrityError, ValueError, KeyError, TypeError):
        pass
    return None


@contextmanager
def need_plan(store: BackupStore, restore_id: str, bucket: str, folder: Path | None) -> Iterator[Plan]:
    """Fetch the plan of a restore that has done something.

    Raises:
        RestoreRefused: there is none.
    """
    with open_plan(store, restore_id, bucket, folder) as plan:
        if plan is None:
            raise RestoreRefused(f"bucket {bucket}: no restore {restore_id!r} has changed anything here; nothing to take back")
        yield plan


def phase_of(store: BackupStore, restore_id: str, bucket: str) -> Phase:
    """Say how far a restore has come; empty before it began."""
    try:
        data = retrying(lambda: store.get(store.root + phase_name(restore_id, bucket)))
    except ObjectMissing:
        return ""
    try:
        phase: Phase = json.loads(data)["phase"]
    except (ValueError, KeyError, TypeError):  # cut off while it was written
        return "restoring"
    return phase


def save_phase(store: BackupStore, restore_id: str, bucket: str, phase: Phase) -> None:
    """Write down how far a restore has come."""
    data = json.dumps({"phase": phase}).encode()
    retrying(lambda: store.put(store.root + phase_name(restore_id, bucket), data))


def plan_name(restore_id: str, bucket: str) -> str:
    """Return the key of a plan below the stack's root."""
    return f"restores/{restore_id}/{bucket}.plan.zst"


def phase_name(restore_id: str, bucket: str) -> str:
    """Return the key of the phase of a restore below the stack's root."""
    return f"restores/{restore_id}/{bucket}.phase.json"


def kept_folder(store: BackupStore, restore_id: str, bucket: str) -> str:
    """Return where a restore keeps what it overwrites and deletes, with slash."""
    return f"{store.root}kept/{restore_id}/{bucket}/"


def kept_key(store: BackupStore, restore_id: str, bucket: str, key: str) -> str:
    """Return where a restore keeps an object: under its own key, where the store is sure to take that."""
    folder = kept_folder(store, restore_id, bucket)
    name = member_name(key)
    return folder + (name if len((folder + name).encode()) <= _LONGEST_KEY else member_name(f"../{key}"))


def restores_of(store: BackupStore, bucket: str) -> list[str]:
    """Name the restores of a bucket that have begun and were not forgotten, oldest first."""
    root = f"{store.root}restores/"
    found = retrying(lambda: [item for item in store.list(root) if item.key.endswith(f"/{bucket}.phase.json")])
    names = {item.key.removeprefix(root).partition("/")[0]: item.modified for item in found}
    return sorted(names, key=lambda name: (name.partition("-")[0], names[name]))  # two may have begun in one second
