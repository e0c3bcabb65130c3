"""The checks of stored sets, written down beside each: level 0 by listing, level 1 by reading a share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

from prefect import task

from blocks.errors import IntegrityError
from blocks.retry import RETRIED
from flows import catalogue
from flows.backup.manifest import Manifest
from flows.catalogue import Entry
from flows.lease import utc_now
from flows.report import line
from flows.side_file import Check, record
from flows.stack import Stack
from flows.verify.hashes import chosen_objects, differs, due, hashed_packs
from flows.verify.presence import Listings, absent, sentence
from flows.verify.sanity import judge_size


@task(name="level 0", **RETRIED)
def check_presence(stack: Stack, entries: Sequence[Entry]) -> list[str]:
    """See that every object of the sets is there with its size, that no set is of an odd size, and write it down.

    Returns: what is wrong, a sentence for each set.
    """
    listings, wrong = Listings(stack.store), []
    manifests = [entry.manifest for entry in entries if entry.manifest is not None]
    for manifest in manifests:
        problems = absent(listings, manifest)
        if problems and not still_there(stack, manifest):
            continue  # pruned while it was looked at
        said = sentence(problems) or f"{_objects(sum(1 for _ in manifest.stored_objects()))} and all files they list"
        presence = Check(at=utc_now(), ok=not problems, what=said)
        record(stack.store, manifest.id, presence=presence, size=judge_size(manifest, manifests, utc_now()))
        if problems:
            wrong.append(f"{manifest.id}: {said}")
            line(f"DAMAGED {manifest.id}: {said}; restore does not choose it any more")
    line(f"level 0: {len(manifests)} sets, {len(wrong)} with objects missing")
    return wrong


@task(name="level 1", **RETRIED)
def check_hashes(stack: Stack, entries: Sequence[Entry], today: date, *, everything: bool) -> list[str]:
    """Read back a share of the sets' objects, or everything, and write it down.

    A set in which something was found is read whole at the next check: what is damaged must not look well because other
    objects had their turn.

    Returns: what is wrong, a sentence for each set.
    """
    every, wrong = stack.settings.verify_every_days, []
    sets = {entry.manifest.id: entry.manifest for entry in entries if entry.manifest is not None}
    failed = {entry.id for entry in entries if entry.checks.hashes is not None and not entry.checks.hashes.ok}
    suspects = set(sets) if everything else failed
    findings = {set_id: Findings() for set_id in sets}
    for set_id, manifest in sets.items():
        try:
            for item in chosen_objects(stack.store, manifest, today, every, everything=set_id in suspects):
                findings[set_id].add(*differs(stack.store, item))
        except IntegrityError as error:
            findings[set_id].add(str(error), 0)
    readable = [manifest for set_id, manifest in sets.items() if not findings[set_id].problems]
    for pack, users in hashed_packs(stack.store, readable):
        if users & suspects or due(pack.key, today, every):
            read = differs(stack.store, pack)
            for set_id in users:
                findings[set_id].add(*read)
    for set_id, found in findings.items():
        if found.problems and not still_there(stack, sets[set_id]):
            continue
        record(stack.store, set_id, hashes=Check(at=utc_now(), ok=not found.problems, what=found.sentence()))
        if found.problems:
            wrong.append(f"{set_id}: {found.sentence()}")
    line(f"level 1: {len(sets)} sets, {len(wrong)} with objects that are not what was stored")
    return wrong


@dataclass
class Findings:
    """What reading back objects of one set found.

    Attributes:
        problems: phrases. objects, bytes: how much was read.
    """

    problems: list[str] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0

    def add(self, problem: str, count: int) -> None:
        """Count one object that was read."""
        self.objects += 1
        self.bytes += count
        if problem:
            self.problems.append(problem)

    def sentence(self) -> str:
        """Say it in one sentence."""
        return sentence(self.problems) or f"{_objects(self.objects)} read back, {catalogue.size(self.bytes)}"


def still_there(stack: Stack, manifest: Manifest) -> bool:
    """Say whether a set exists still: a prune may delete it while it is looked at."""
    return stack.store.find(catalogue.manifest_key(stack.store, manifest.id)) is not None


def _objects(count: int) -> str:
    return f"{count} object{'' if count == 1 else 's'}"
