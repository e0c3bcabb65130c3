"""What the drills of the backup sets say: which failed, which was the last that held. Decides on values alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flows.catalogue import Entry
from flows.runbook.frame import Action, Diagnosis, Verdict
from flows.runbook.restarting import CHANGING

__all__ = ["Known", "decide", "fresh_set"]

_SHOWN = 10
"""Differences that are shown."""


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check says of the newest drill. entries: the sets, newest first. store_error: why they could not be
            read, or empty. blind: why nothing can be opened here, or empty. at_work: the flow that holds the stack's lock.
    """

    wrong: Sequence[str]
    entries: Sequence[Entry] = ()
    store_error: str = ""
    blind: str = ""
    at_work: str = ""

    @property
    def failed(self) -> Entry | None:
        """The set whose drill was the last of all, and failed."""
        last = _last_drilled(self.entries)
        return last if last is not None and last.drill is not None and not last.drill.ok else None

    @property
    def proven(self) -> Entry | None:
        """The newest set that a full drill has proven, and that nothing speaks against since."""
        return next((one for one in self.entries if one.good and one.facts().drilled_at is not None), None)

    @property
    def suspects(self) -> list[str]:
        """Sets that are a difference to the one that failed."""
        bad = self.failed
        return [] if bad is None else [one.id for one in self.entries if one.manifest and bad.id in one.manifest.bases]


def fresh_set(entries: Sequence[Entry]) -> Entry | None:
    """Find a good, full set that is younger than the last drill and that nobody has drilled; None where there is none."""
    last = _last_drilled(entries)
    for one in entries:
        younger = last is None or last.drill is None or one.created_at > last.drill.at
        if one.good and one.drill is None and one.manifest is not None and not one.manifest.bases and younger:
            return one
    return None


def decide(known: Known, ladder: Callable[[Known], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known.

    Args:
        ladder: makes the actions.
    """
    facts = _facts(known)

    def needs_a_person(why: str) -> Diagnosis:
        return Diagnosis(Verdict.PERSON, why, facts)

    if known.store_error:
        return needs_a_person(f"the store of the backups cannot be read: {known.store_error}; heal it first")
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "the newest drill has proven its set", facts)
    if known.blind:
        return needs_a_person(f"{known.blind}; drills run where that key is, in a pool of their own")
    if known.at_work in CHANGING:
        return needs_a_person(f"{known.at_work} is under way: take a set and drill it after its end")
    bad, proven = known.failed, known.proven
    kept = f"the set that was proven last is {proven.id}, and prune keeps it" if proven else "no other set is proven"
    if bad is not None and bad.drill is not None:
        what = bad.drill.differences[0] if bad.drill.differences else "its record does not say"
        return Diagnosis(Verdict.HEALS, f"the drill of {bad.id} failed: {what}; {kept}", facts, ladder(known))
    if not any(one.good for one in known.entries):
        return needs_a_person("there is no good backup set that could be drilled: see stale-backup, and take one first")
    return Diagnosis(Verdict.HEALS, f"{known.wrong[0]}; {kept}", facts, ladder(known))


def _last_drilled(entries: Sequence[Entry]) -> Entry | None:
    drilled = [(one.drill.at, one) for one in entries if one.drill is not None]
    return max(drilled, key=lambda pair: pair[0])[1] if drilled else None


def _facts(known: Known) -> dict[str, str]:
    facts = {"check": "; ".join(known.wrong) or "green", "store": known.store_error or "answers"}
    if (bad := known.failed) is not None and bad.drill is not None:
        facts["set that failed"] = f"{bad.id}, taken {bad.created_at:%Y-%m-%d %H:%M} UTC, drilled {bad.drill.at:%Y-%m-%d %H:%M}"
        shown = bad.drill.differences[:_SHOWN]
        more = len(bad.drill.differences) - len(shown)
        facts["what differed"] = "; ".join(shown) + (f" (and {more} more)" if more else "")
        facts["a difference to it, not to be relied on"] = ", ".join(known.suspects) or "none"
    proven = known.proven
    facts["proven last"] = f"{proven.id}, {proven.drill.at:%Y-%m-%d %H:%M} UTC" if proven and proven.drill else "none"
    facts["good sets"] = str(sum(one.good for one in known.entries))
    facts["at work on the stack"] = known.at_work or "nobody"
    return facts
