"""The cases of the campaign: which flow, what is done to it, and when; made from what an undisturbed run did."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from flows import catalogue
from flows.catalogue import manifest_key, set_prefix
from shared.faults.disturbances import Damage, Disturbance, FileLimit, FullDisk, Kill, Restart, StoreFault
from shared.faults.ground import Ground, Stored
from shared.faults.traffic import Fault, Match, Request, Rule

__all__ = ["JOURNAL", "LOCK", "Case", "Measured", "cases_of", "damages", "representative"]

JOURNAL = r"/restores/[^/]*\.json"
LOCK = r"/lock\.json$"
_ONCE: Sequence[tuple[Fault, str]] = (
    ("500", "[A-Z]+"),
    ("503", "[A-Z]+"),
    ("403", "[A-Z]+"),
    ("refuse", "[A-Z]+"),
    ("tear", "PUT|POST"),
    ("lose", "PUT|POST|DELETE"),
    ("cut", "GET"),
    ("truncate", "GET"),
    ("hang", "[A-Z]+"),
)
_FOR_GOOD: Sequence[Fault] = ("500", "503", "403", "refuse")
_QUICK_KILLS = (50,)


@dataclass(frozen=True)
class Measured:
    """What an undisturbed run of a flow did.

    Attributes:
        requests: to the stores. disk: bytes that its scratch took at most.
    """

    requests: Sequence[Request]
    disk: int = 0


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        flow, fault, at: what happens to which flow, and when, in words. disturbance: that does it.
        must_fail: success would be wrong. damaged: objects are changed on purpose. request: of the flow, where it differs.
        finishes: a run with action finish comes before the next one.
    """

    flow: str
    fault: str
    at: str
    disturbance: Disturbance
    must_fail: bool = False
    damaged: bool = False
    finishes: bool = False
    request: Mapping[str, object] | None = None


def cases_of(flow: str, measured: Measured, ground: Ground) -> list[Case]:
    """Make the cases of one flow.

    Args:
        measured: what it did undisturbed, with the same sets in the store.
    """
    made = [*_kills(flow, measured), *_commits(flow), *_store_faults(flow, measured)]
    if flow == "restore":
        made += _swap_points(measured)
    if flow in ("backup", "restore"):
        made += _restarts(flow, measured, ("postgres", "clickhouse"))
    made += _restarts(flow, measured, ("store",))
    if flow == "drill":
        made += _full_disks(measured)
    if flow in ("drill", "restore", "copy"):
        made += damages(flow, ground)
    return made


def representative(cases: Iterable[Case]) -> Iterator[Case]:
    """Choose a few cases of each flow."""
    kills = tuple(f"{share} %" for share in _QUICK_KILLS)
    for case in cases:
        if (case.fault == "kill -9" and case.at in kills) or (case.fault, case.at) in _QUICK:
            yield case


_QUICK = {
    ("503 for good", "half-way"),
    ("kill -9", "journal write 6 of the swap, before"),
    ("exchanged pack", "from the start"),
}


def _kills(flow: str, measured: Measured) -> Iterator[Case]:
    for share in range(5, 100, 5):
        nth = max(1, ceil(len(measured.requests) * share / 100))
        yield Case(flow, "kill -9", f"{share} %", Kill(partial(Match, nth=nth)))


def _commits(flow: str) -> Iterator[Case]:
    """Kill at the writes that decide: not sent, torn between head and body, or stored and nobody knows."""
    for method, path, what in _DECISIVE.get(flow, ()):
        for after in (False, True):
            at = f"{what}, {'after' if after else 'before'}"
            yield Case(flow, "kill -9", at, Kill(partial(Match, method, path), after))
        for fault in ("lose", "tear", "hang", "500"):
            if not (method == "DELETE" and fault == "tear"):
                yield Case(flow, f"{fault} once", what, StoreFault(partial(_rule, fault, method, path, 1, 1)))


_DECISIVE: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "backup": (
        ("PUT", r"/manifest\.json$", "manifest"),
        ("PUT|POST", r"/definitions\.json", "definitions"),
        ("PUT", LOCK, "lock"),
    ),
    "restore": (("PUT", LOCK, "lock"),),
    "drill": (("PUT", r"/checks\.json$", "side file"),),
    "prune": (("DELETE", r"/manifest\.json$", "manifest"), ("DELETE", r"/packs/", "pack")),
    "copy": (("PUT", r"/manifest\.json\.age$", "manifest"), ("PUT|POST", r"/copy\.json", "list of objects")),
}


def _swap_points(measured: Measured) -> Iterator[Case]:
    """Kill at each writing of the journal: what was done is not written yet, or it is and the next step is not begun."""
    journal = Match("PUT", JOURNAL)
    count = sum(journal.fits(request) for request in measured.requests)
    for nth in range(1, count + 1):
        for after in (False, True):
            at = f"journal write {nth} of the swap, {'after' if after else 'before'}"
            yield Case("restore", "kill -9", at, Kill(partial(Match, "PUT", JOURNAL, nth), after), finishes=nth > 1)


def _store_faults(flow: str, measured: Measured) -> Iterator[Case]:
    for fault, method in _ONCE:
        kind = Match(method)
        count = sum(kind.fits(request) for request in measured.requests)
        for share in (25, 50, 75):
            if count:
                nth = max(1, ceil(count * share / 100))
                rule = partial(_rule, fault, method, "", nth, 1)
                yield Case(flow, f"{fault} once", f"{share} % of {method.replace('[A-Z]+', 'all')}", StoreFault(rule))
    for fault in _FOR_GOOD:
        nth = max(1, len(measured.requests) // 2)
        yield Case(flow, f"{fault} for good", "half-way", StoreFault(partial(_rule, fault, "[A-Z]+", "", nth, 0)))
    if flow != "drill":  # which takes no lock
        for fault in ("hang", "503", "refuse"):
            # the first write takes the lock, all others renew it
            yield Case(
                flow, f"{fault} of the lock", "from the first renewal on", StoreFault(partial(_rule, fault, "PUT", LOCK, 2, 0))
            )


def _rule(fault: Fault, method: str, path: str, nth: int, times: int) -> Rule:
    return Rule(fault, Match(method, path, nth, times), seconds=6.0)


def _restarts(flow: str, measured: Measured, engines: Iterable[str]) -> Iterator[Case]:
    for engine in engines:
        for share in (15, 40, 65, 90):
            nth = max(1, ceil(len(measured.requests) * share / 100))
            yield Case(flow, f"{engine} restart", f"{share} %", Restart(engine, partial(Match, nth=nth)))  # type: ignore[arg-type]  # one of its three names


def _full_disks(measured: Measured) -> Iterator[Case]:
    if not measured.disk:
        yield Case("drill", "full scratch disk", "files of 2 MB", FileLimit(2_000_000), must_fail=True)
        return
    for share in (30, 60, 90):
        disk = FullDisk(measured.disk * share // 100)
        # what a drill needs at most varies by a tenth, with the moments at which Postgres tidies up: at 90 % it may be enough
        yield Case("drill", "full scratch disk", f"{share} % of what it needs", disk, must_fail=share < 90)


def damages(flow: str, ground: Ground) -> Iterator[Case]:
    """Objects of one set, damaged in the ways that a store or a thief can."""
    set_id = ground.sets[0] if flow == "restore" else ground.sets[1]
    extra: Mapping[str, object] = {"sets": [set_id]} if flow == "copy" else {"set_id": set_id}
    for name, disturbance in _ways(set_id, ground.sets[0]):
        whole = {"every_pack": True} if flow == "drill" and "pack" in name else {}
        yield Case(flow, name, "from the start", disturbance, must_fail=True, damaged=True, request={**extra, **whole})


def _files(listing: Stored) -> list[str]:
    """The entries of a `.backup`."""
    return listing.data.decode().split("</file>")


def _entry(entry: str, field: str) -> str:
    found = re.search(f"<{field}>(.*?)</{field}>", entry)
    return found[1] if found else ""


def _ways(set_id: str, base: str) -> Iterator[tuple[str, Damage]]:
    def below(ground: Ground, ending: str, which: str = set_id) -> str:
        prefix = set_prefix(ground.store, which)
        return next(key for key in sorted(ground.kept) if key.startswith(prefix) and key.endswith(ending))

    def truncated(ground: Ground, ending: str) -> Iterator[tuple[str, bytes]]:
        key = below(ground, ending)
        yield key, ground.kept[key].data[:-10]

    def needed_of_base(ground: Ground) -> str:
        """A file of the base that the set refers to; others were merged away since, and nobody misses them."""
        theirs = {_entry(one, "checksum"): _entry(one, "name") for one in _files(ground.kept[below(ground, "/.backup", base)])}
        ours = (one for one in _files(ground.kept[below(ground, "/.backup")]) if "<use_base>true" in one)
        names = (theirs[_entry(one, "checksum")] for one in ours if _entry(one, "name").endswith("/data.bin"))
        return next(names, "data.bin")

    def flipped(ground: Ground, ending: str, which: str = set_id) -> Iterator[tuple[str, bytes]]:
        key = below(ground, ending, which)
        data = bytearray(ground.kept[key].data)
        data[len(data) // 2] ^= 1
        yield key, bytes(data)

    def exchanged(ground: Ground, one: str, other: str) -> Iterator[tuple[str, bytes]]:
        first, second = below(ground, one), below(ground, other)
        yield first, ground.kept[second].data
        yield second, ground.kept[first].data

    def missing(ground: Ground, ending: str, which: str = set_id) -> Iterator[tuple[str, bytes | None]]:
        yield below(ground, ending, which), None

    def other_manifest(ground: Ground) -> Iterator[tuple[str, bytes]]:
        other = next(one for one in ground.sets if one != set_id)
        yield manifest_key(ground.store, set_id), ground.kept[manifest_key(ground.store, other)].data

    def relabelled(ground: Ground) -> Iterator[tuple[str, bytes]]:
        key = manifest_key(ground.store, set_id)
        yield key, ground.kept[key].data.replace(b'"label": "', b'"label": "x')

    def pack(ground: Ground, *, other: bool) -> Iterator[tuple[str, bytes]]:
        manifest = catalogue.load_manifest(ground.store, ground.stack.keys, base)
        keys = sorted(key for key in ground.kept if f"/packs/{manifest.id}-" in key)
        data = ground.kept[keys[0]].data
        yield keys[0], ground.kept[below(ground, "langfuse.dump.zst.age")].data if other else data[:-20] + bytes(20)

    yield "truncated dump", Damage(lambda ground: truncated(ground, "litellm.dump.zst.age"))
    yield "flipped bit in a dump", Damage(lambda ground: flipped(ground, "langfuse.dump.zst.age"))
    yield "exchanged dumps", Damage(lambda ground: exchanged(ground, "litellm.dump.zst.age", "langfuse.dump.zst.age"))
    yield "missing dump", Damage(lambda ground: missing(ground, "litellm.dump.zst.age"))
    yield "flipped bit in a ClickHouse file", Damage(lambda ground: flipped(ground, "data.bin"))
    yield "missing ClickHouse file", Damage(lambda ground: missing(ground, "data.bin"))
    yield "flipped bit in .backup", Damage(lambda ground: flipped(ground, "/.backup"))
    yield "flipped bit in a file of the base", Damage(lambda ground: flipped(ground, needed_of_base(ground), base))
    yield "flipped bit in the definitions", Damage(lambda ground: flipped(ground, "definitions.json.zst.age"))
    yield "missing definitions", Damage(lambda ground: missing(ground, "definitions.json.zst.age"))
    yield "changed manifest", Damage(relabelled)
    yield "truncated manifest", Damage(lambda ground: truncated(ground, "/manifest.json"))
    yield "manifest of another set", Damage(other_manifest)
    yield "missing manifest of the base", Damage(lambda ground: missing(ground, "/manifest.json", base))
    yield "flipped bit in the globals", Damage(lambda ground: flipped(ground, "globals.sql.zst.age"))
    yield "flipped bit in the index of a bucket", Damage(lambda ground: flipped(ground, ".index.zst"))
    yield "damaged pack", Damage(lambda ground: pack(ground, other=False))
    yield "exchanged pack", Damage(lambda ground: pack(ground, other=True))
