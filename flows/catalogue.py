"""The sets in a store: listed, judged, and shown as an artifact. The manifests are the truth, this is a view of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from prefect.artifacts import create_table_artifact

from blocks.errors import IntegrityError, ObjectMissing, RestoreRefused
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.retry import retrying
from flows.backup.manifest import Manifest
from flows.backup.stream import open_encrypted, verify_stored
from flows.prune.retention import SetFacts
from flows.side_file import DrillRecord, SideFile, parse_side_file, side_file_key

DEFINITIONS = "definitions.json.zst.age"
"""Key, below the set, of its databases' tables, sequences and catalogues."""
READERS = 16
"""Manifests read at once: each is small, the time goes into round trips."""


@dataclass(frozen=True)
class Entry:
    """One committed set.

    Attributes:
        id: of the set. manifest: None when it cannot be read or its signature does not hold.
        fault: why it cannot be read or restored, empty when it can.
        checks: what was found out about it since.
    """

    id: str
    manifest: Manifest | None
    fault: str = ""
    checks: SideFile = field(default_factory=SideFile)

    @property
    def good(self) -> bool:
        """Say whether the set is whole as far as anybody looked."""
        return not self.fault and not self.checks.fault

    @property
    def drill(self) -> DrillRecord | None:
        """The last drill's record, None when never drilled."""
        return self.checks.drill

    @property
    def created_at(self) -> datetime:
        """When the set was taken; from its id where the manifest cannot be read."""
        return self.manifest.created_at if self.manifest else time_of(self.id)

    def facts(self) -> SetFacts:
        """Return what retention needs to know."""
        proven = self.drill.at if self.drill and self.drill.ok and self.drill.full else None
        return SetFacts(
            id=self.id,
            created_at=self.created_at,
            good=self.good,
            drilled_at=proven,
            readable=self.manifest is not None,
            protected=bool(self.manifest and self.manifest.protected),
            bases=frozenset(self.manifest.bases) if self.manifest else frozenset(),
        )


@dataclass(frozen=True)
class Catalogue:
    """Every set of a stack.

    Attributes:
        entries: committed sets, newest first.
        halves: ids of folders without a manifest: runs that died, or one that is under way.
    """

    entries: list[Entry] = field(default_factory=list)
    halves: list[str] = field(default_factory=list)

    def find(self, choice: str) -> Entry:
        """Choose a set as a person names it.

        Args:
            choice: `latest`, an id, or a time (ISO 8601; UTC unless it says otherwise): the newest set not younger than it.
        Raises:
            RestoreRefused: nothing fits; says what there is.
        """
        good = [e for e in self.entries if e.good]
        if choice == "latest":
            if good:
                return good[0]
            raise RestoreRefused("there is no good backup set in this store; run backup/on-demand, or name a set by its id")
        for entry in self.entries:
            if entry.id == choice:
                return entry
        moment = _moment(choice)
        if moment is None:
            newest = ", ".join(e.id for e in self.entries[:3]) or "none"
            raise RestoreRefused(f"no set {choice!r} here; give latest, an id or a time; the newest are: {newest}")
        before = [e for e in good if e.created_at <= moment]
        if before:
            return before[0]
        raise RestoreRefused(
            f"no good set is as old as {moment:%Y-%m-%d %H:%M} UTC; the oldest is {good[-1].id if good else 'none'}"
        )

    def need(self, choice: str) -> Manifest:
        """Choose a set as `find` does, and return its manifest."""
        entry = self.find(choice)
        if entry.manifest is None:
            raise RestoreRefused(entry.fault)
        return entry.manifest

    def newest_of(self, database: str) -> Manifest | None:
        """Return the newest good set that holds a ClickHouse database, full or not."""
        for entry in self.entries:
            if entry.good and entry.manifest is not None and any(c.name == database for c in entry.manifest.clickhouse):
                return entry.manifest
        return None

    def newest_with_bucket(self, bucket: str) -> Manifest | None:
        """Return the newest good set that holds a bucket: what has not changed since need not be read again."""
        for entry in self.entries:
            if entry.good and entry.manifest is not None and any(c.name == bucket for c in entry.manifest.buckets):
                return entry.manifest
        return None

    def base_of(self, database: str) -> Manifest | None:
        """Return the newest good set that holds a full backup of a ClickHouse database: a difference's base."""
        for entry in self.entries:
            if entry.good and entry.manifest is not None:
                for component in entry.manifest.clickhouse:
                    if component.name == database and component.base is None:
                        return entry.manifest
        return None


def set_prefix(store: BackupStore, set_id: str) -> str:
    """Return the key prefix of a set, with slash."""
    return f"{store.root}sets/{set_id}/"


def manifest_key(store: BackupStore, set_id: str) -> str:
    """Return the key of a set's manifest."""
    return set_prefix(store, set_id) + "manifest.json"


def read(store: BackupStore, keys: BackupKeys) -> Catalogue:
    """Read every manifest and side file of the stack.

    Args:
        store: where. keys: whose verify key the signatures must fit.
    """
    ids = sorted(retrying(lambda: list(store.folders(f"{store.root}sets/"))), reverse=True)
    with store.small_objects() as get, ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="catalogue") as pool:
        found = list(pool.map(lambda set_id: _entry(store, keys, set_id, get), ids))
    entries = _judge_bases([e for e in found if e is not None])
    entries.sort(key=lambda e: (e.created_at, e.id), reverse=True)
    without = [i for i, e in zip(ids, found, strict=True) if e is None]
    return Catalogue(entries=entries, halves=[i for i in without if _holds_objects(store, i)])


def _judge_bases(entries: list[Entry]) -> list[Entry]:
    """Find fault with the sets that are a difference to a set that is gone or cannot be read: no restore of them is whole."""
    whole = {entry.id for entry in entries if not entry.fault}

    def judged(entry: Entry) -> Entry:
        missing = sorted(entry.manifest.bases - whole) if entry.manifest else []
        if not missing:
            return entry
        fault = f"its ClickHouse part is a difference to {missing[0]}, which is gone or cannot be read; use another set"
        return replace(entry, fault=fault)

    return [judged(entry) for entry in entries]


def _holds_objects(store: BackupStore, set_id: str) -> bool:
    """Say whether there is anything in a set's folder: SeaweedFS lists folders for a while after their last object went."""
    return next(store.list(set_prefix(store, set_id)), None) is not None


def load_manifest(store: BackupStore, keys: BackupKeys, set_id: str) -> Manifest:
    """Read one manifest and verify its signature.

    Raises:
        ObjectMissing: there is no such set.
        IntegrityError: it is not a manifest, or its signature does not hold.
    """
    return _manifest(store, keys, set_id, retrying(lambda: store.get(manifest_key(store, set_id))))


def _manifest(store: BackupStore, keys: BackupKeys, set_id: str, data: bytes) -> Manifest:
    if not data:  # what SeaweedFS makes of a request that was cut off before its body
        raise ObjectMissing(f"set {set_id}: its manifest is empty: the run died while it wrote it; use another set")
    try:
        manifest, signed = Manifest.with_signed_bytes(data)
    except ValueError:
        raise IntegrityError(f"set {set_id}: manifest.json is not a manifest of format v1; use another set") from None
    if manifest.signature is None:
        raise IntegrityError(f"set {set_id}: the manifest carries no signature; use another set")
    try:
        keys.verify(signed, manifest.signature.value)
    except IntegrityError as error:
        raise IntegrityError(f"set {set_id}: {error}") from None
    if manifest.id != set_id or manifest.stack != store.stack:
        raise IntegrityError(f"set {set_id}: its manifest is that of {manifest.stack}/{manifest.id}; somebody copied it here")
    return manifest


def with_definitions(store: BackupStore, keys: BackupKeys, manifest: Manifest) -> Manifest:
    """Fill in the tables, sequences and catalogues of the databases, which a stored manifest keeps in an object of their own.

    Raises:
        SettingsError: there is no age identity here.
        IntegrityError: the object is not what was backed up, or the identity cannot open it.
    """
    if manifest.definitions is None:
        return manifest
    prefix = set_prefix(store, manifest.id)
    verify_stored(store, prefix, manifest.definitions)
    with open_encrypted(store, prefix, manifest.definitions, keys) as source:
        data = source.read()
    try:
        return manifest.with_details(json.loads(data))
    except ValueError:
        raise IntegrityError(f"set {manifest.id}: {DEFINITIONS} does not hold what this version expects") from None


def _entry(store: BackupStore, keys: BackupKeys, set_id: str, get: Callable[[str], bytes]) -> Entry | None:
    try:
        manifest = _manifest(store, keys, set_id, get(manifest_key(store, set_id)))
    except ObjectMissing:
        return None
    except IntegrityError as error:
        return Entry(id=set_id, manifest=None, fault=str(error))
    try:
        checks = parse_side_file(get(side_file_key(store, set_id)))
    except ObjectMissing:
        checks = SideFile()
    return Entry(id=set_id, manifest=manifest, checks=checks)


def time_of(set_id: str) -> datetime:
    """Return the time in a set's id; the epoch when it is none."""
    try:
        return datetime.strptime(set_id.split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def publish(stack: str, entries: Iterable[Entry], kept: dict[str, list[str]], now: datetime) -> None:
    """Show the catalogue in the Prefect UI as a table artifact.

    Args:
        stack: name. entries: newest first. kept: reasons by id, from retention. now: for the ages.
    """
    rows = [
        {
            "set": entry.id,
            "age": age(now - entry.created_at),
            "size": _size(entry),
            "drilled": _drilled(entry, now),
            "kept because": ", ".join(kept.get(entry.id, [])) or "goes at the next prune",
            "checked": _checked(entry, now),
            "label": entry.manifest.label if entry.manifest else "",
            "components": _components(entry),
        }
        for entry in entries
    ]
    create_table_artifact(
        key=f"catalogue-{stack}", table=rows, description=f"Backup sets of {stack}, newest first. The manifests are the truth."
    )


def _components(entry: Entry) -> str:
    names: dict[str, list[str]] = {}
    for component in entry.manifest.components if entry.manifest else ():
        kind, name = ("postgres", "roles") if component.kind == "globals" else (component.kind, component.name)
        names.setdefault(kind, []).append(name)
    said = [f"{kind}: {', '.join(some)}" for kind, some in names.items()]
    return "; ".join([*said, *([entry.fault] if entry.fault else [])])


def _size(entry: Entry) -> str:
    if entry.manifest is None:
        return "?"
    odd = entry.checks.size
    return size(entry.manifest.stored_bytes) + (f" ({odd.what})" if odd is not None and not odd.ok else "")


def _checked(entry: Entry, now: datetime) -> str:
    levels = (("present", entry.checks.presence), ("hashes", entry.checks.hashes))
    said = [
        f"{name} {age(now - check.at)} ago" if check.ok else f"{name} FAILED {age(now - check.at)} ago: {check.what}"
        for name, check in levels
        if check is not None
    ]
    return ", ".join(said) or "never"


def _drilled(entry: Entry, now: datetime) -> str:
    if entry.drill is None:
        return "never"
    ago = age(now - entry.drill.at)
    if not entry.drill.ok:
        return f"FAILED {ago} ago: {entry.drill.differences[0] if entry.drill.differences else 'see the drill'}"
    if not entry.drill.full:
        return f"in part, {ago} ago (not a proof)"
    return f"proven {ago} ago, recovery took {entry.drill.recovery_seconds} s"


def age(delta: timedelta) -> str:
    """Return a duration as a person says it, for example `3 h` or `12 d`."""
    seconds = int(delta.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{max(seconds, 0)} s"


def size(count: int) -> str:
    """Return bytes as a person says them, for example `12.3 MB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
