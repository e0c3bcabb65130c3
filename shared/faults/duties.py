"""What each flow is asked to do in the campaign, with which sets in the store, and what must be so when it has succeeded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flows import catalogue
from flows.copy.records import copied_sets
from flows.prune.packs import needed_packs
from flows.restore.journal import load_all
from shared.faults.flows import FLOWS
from shared.faults.ground import Ground
from shared.faults.invariants import Before, unlike

__all__ = ["DUTIES", "PRUNE_ALL_LEFT", "Duty", "left_after_prune"]

PRUNE_ALL_LEFT: Mapping[str, Any] = {"policy": {"keep_last": 99}, "grace_hours": 0}
"""Deletes no set, and everything that no set needs."""
_KEEP_ONE = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0}


@dataclass(frozen=True)
class Duty:
    """One flow at work.

    Attributes:
        flow: its name. sets: which of the sets that were taken at the beginning are there. stay: those of them that must stay.
        request: its parameters. done: what is not as it should be after it succeeded.
        leaves: it stores things, so a run that died may leave some for prune. halves: a half set is there from the beginning.
    """

    flow: str
    sets: tuple[int, ...]
    stay: tuple[int, ...]
    request: Callable[[Ground], Mapping[str, Any]]
    done: Callable[[Ground, Before], list[str]]
    leaves: bool = False
    halves: bool = False


def _backed_up(ground: Ground, before: Before) -> list[str]:
    entries = catalogue.read(ground.store, ground.stack.keys).entries
    new = [entry for entry in entries if entry.id not in before.sets]
    if not new:
        return ["the backup succeeded, but there is no new set"]
    manifest = new[0].manifest
    kinds = {component.kind for component in manifest.components} if manifest else set()
    expected = {"postgres", "globals", "clickhouse", "bucket"}
    return [] if kinds == expected else [f"the new set holds {', '.join(sorted(kinds))} only"]


def _drilled(ground: Ground, before: Before) -> list[str]:
    entry = catalogue.read(ground.store, ground.stack.keys).entries[0]
    proven = entry.drill is not None and entry.drill.ok and entry.drill.full
    return [] if proven else ["the drill succeeded, but its set is not marked as proven"]


def _restored(ground: Ground, before: Before) -> list[str]:
    live = ground.data.fingerprint()
    problems = [f"after the restore: {name} is not what the set holds" for name in unlike(live, before.restored)]
    journals = load_all(ground.store)
    problems += [f"restore {journal.id} stands at {journal.phase}" for journal in journals if journal.phase == "swapping"]
    problems += [f"{name} was left behind" for name in ground.data.side_databases() if "__restore_" in name]
    return problems


def _pruned(ground: Ground, before: Before) -> list[str]:
    there = {entry.id for entry in catalogue.read(ground.store, ground.stack.keys).entries}
    problems = [f"set {one} should be gone" for one in sorted(before.sets - before.stay) if one in there]
    return problems + left_after_prune(ground)


def _copied(ground: Ground, before: Before) -> list[str]:
    second = ground.second_store
    problems = [f"set {one} is not in the second store" for one in sorted(before.sets - copied_sets(second))]
    problems += [f"the upload of {upload.key} is still in the second store" for upload in second.uploads(second.root)]
    folders = set(second.folders(f"{second.root}sets/"))
    return problems + [f"copy {one} is half there after a copy" for one in sorted(folders - copied_sets(second))]


def left_after_prune(ground: Ground) -> list[str]:
    """Name what a prune without grace should have removed."""
    store = ground.store
    known = catalogue.read(store, ground.stack.keys)
    needed = {pack for entry in known.entries if entry.manifest for pack in needed_packs(entry.manifest)}
    listed = [item.key.rsplit("/", 1)[-1].removesuffix(".tar.zst.age") for item in store.list(f"{store.root}packs/")]
    problems = [f"the half set {one} is still there after a prune" for one in known.halves]
    problems += [f"pack {one}, which no set needs, is still there after a prune" for one in listed if one not in needed]
    problems += [f"the upload of {upload.key} is still there after a prune" for upload in store.uploads(store.root)]
    return problems


def _restore_request(ground: Ground) -> Mapping[str, Any]:
    return {"set_id": ground.sets[0], "replace": True, "confirm": ground.stack.name}


_DUTIES = (
    Duty("backup", (0,), (0,), lambda ground: {"label": "campaign"}, _backed_up, leaves=True),
    Duty("restore", (0,), (0,), _restore_request, _restored),
    Duty("drill", (0, 1), (0, 1), lambda ground: {}, _drilled),
    Duty(
        "prune", (0, 1, 2, 3), (2, 3), lambda ground: {"policy": _KEEP_ONE, "grace_hours": 0}, _pruned, leaves=True, halves=True
    ),
    Duty("copy", (0, 1), (0, 1), lambda ground: {}, _copied),
)
DUTIES: Mapping[str, Duty] = {duty.flow: duty for duty in _DUTIES if duty.flow in FLOWS}
"""By flow, in the order of the campaign."""
