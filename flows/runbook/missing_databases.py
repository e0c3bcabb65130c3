"""Databases of the applications that are missing: which set brings each back, what a restore left half done, what follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from flows.catalogue import Entry, age, time_of
from flows.restore.journal import RestoreJournal
from flows.runbook.frame import Action, Diagnosis, Verdict
from flows.runbook.restarting import CHANGING

__all__ = ["USERS", "Brought", "Known", "Lost", "brought_back", "by_set", "decide", "died", "newest_with"]

USERS: Mapping[str, tuple[str, ...]] = {"litellm": ("litellm",), "langfuse-web": ("langfuse-web", "langfuse-worker")}
"""Who uses the database of an application, in the order in which they are started: the first one migrates it."""
RECENT = timedelta(hours=6)
"""A database that came back within so long is this runbook's business still: its applications may not have noticed."""


@dataclass(frozen=True)
class Lost:
    """A database that is not there.

    Attributes:
        services: that use it. found: the newest good set that has it; None where there is none.
    """

    name: str
    services: tuple[str, ...]
    found: Entry | None = None


@dataclass(frozen=True)
class Brought:
    """A database that a restore has brought back.

    Attributes:
        at: when that restore began. taken_at: when its set was taken.
    """

    name: str
    at: datetime
    taken_at: datetime


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what Postgres' check says. silent: why nobody can say which databases there are, or empty.
        lost: the databases. others: those that are there. died: ids of restores that died in their swap.
        store_error: why the sets cannot be read, or empty. unfit: why a restore would be refused, or empty.
        planned: what it would do, a sentence each.
        waiting: what is not well about applications whose database came back a short while ago.
        at_work: the flow that holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    silent: str = ""
    lost: Sequence[Lost] = ()
    others: Sequence[str] = ()
    died: Sequence[str] = ()
    store_error: str = ""
    planned: Sequence[str] = ()
    unfit: str = ""
    waiting: Sequence[str] = ()
    at_work: str = ""


def newest_with(entries: Sequence[Entry], database: str, set_id: str = "") -> Entry | None:
    """Find the newest good set that has a database.

    Args:
        entries: newest first. set_id: only this one is meant; empty: any.
    """
    for entry in entries:
        meant = entry.good and entry.manifest is not None and set_id in ("", entry.id)
        if meant and entry.manifest is not None and any(one.name == database for one in entry.manifest.postgres):
            return entry
    return None


def by_set(lost: Sequence[Lost]) -> dict[str, list[Lost]]:
    """Sort the databases by the set that brings them back, so that each set is restored from once."""
    found: dict[str, list[Lost]] = {}
    for one in lost:
        if one.found is not None:
            found.setdefault(one.found.id, []).append(one)
    return found


def died(journals: Sequence[RestoreJournal], databases: Collection[str]) -> list[str]:
    """Name the restores of some databases that began to swap and never ended.

    One that died before its swap has touched nothing; the next restore clears it away by itself.
    """
    return [
        one.id
        for one in journals
        if one.phase == "swapping" and any(step.kind == "postgres" and step.live in databases for step in one.steps)
    ]


def brought_back(journals: Sequence[RestoreJournal], now: datetime) -> list[Brought]:
    """Name the databases that were missing and that a restore has brought back within `RECENT`."""
    second = timedelta(seconds=1)  # an id knows no parts of one
    return [
        Brought(step.live, one.begun_at, time_of(one.set_id) + second)
        for one in journals
        if one.phase == "done" and now - one.begun_at < RECENT
        for step in one.steps
        if step.kind == "postgres" and not step.existed and step.swapped
    ]


def decide(known: Known, now: datetime, ladder: Callable[[], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts = _facts(known, now)

    def needs_a_person(why: str) -> Diagnosis:
        return Diagnosis(Verdict.PERSON, why, facts)

    if known.silent:
        return needs_a_person(
            f"nobody can say which databases there are: {known.silent}; Postgres comes first (restart-service)"
        )
    missing = f"there is no database {' and no database '.join(one.name for one in known.lost)}"
    if known.store_error:
        what = f"{missing}, and" if known.lost else "the databases are there, but"
        return needs_a_person(f"{what} the backups' store cannot be read: {known.store_error}; heal it first")
    if known.at_work in CHANGING and (known.lost or known.died or known.waiting):
        todo = "wait for its end; where its process was killed, its lock runs out by itself; then run this again"
        return needs_a_person(f"{known.at_work} is under way: {todo}")
    if known.died:
        sentence = f"the restore {known.died[-1]} died while it swapped a database in; what it restored had been compared"
        return Diagnosis(Verdict.HEALS, sentence, facts, ladder())
    if known.lost:
        return _lost(known, now, missing, facts, ladder)
    if known.waiting:
        sentence = f"the databases are there again, and not everybody goes on with them: {known.waiting[0]}"
        return Diagnosis(Verdict.HEALS, sentence, facts, ladder())
    return Diagnosis(Verdict.NOTHING, "the applications' databases are there", facts)


def _lost(
    known: Known, now: datetime, missing: str, facts: Mapping[str, str], ladder: Callable[[], tuple[Action, ...]]
) -> Diagnosis:
    found = [one for one in known.lost if one.found is not None]
    without = [one.name for one in known.lost if one.found is None]
    todo = (
        "look for one in the second store (restore/on-demand, source: copy); where there is none, deploy/on-demand makes an "
        "empty database, and everything in it is lost"
    )
    if not found:
        return Diagnosis(Verdict.PERSON, f"{missing}, and no good backup set has {' or '.join(without)}: {todo}", facts)
    if known.unfit:
        return Diagnosis(Verdict.PERSON, f"{missing}, and it cannot be restored: {known.unfit}", facts)
    oldest = min((one.found for one in found if one.found is not None), key=lambda one: one.created_at)
    since = f"{oldest.created_at:%Y-%m-%d %H:%M} UTC, {age(now - oldest.created_at)} ago"
    sentence = f"{missing}; set {oldest.id} has it as of {since}: what was written since is lost"
    if without:
        sentence += f"; no good set has {' or '.join(without)}: {todo}"
    return Diagnosis(Verdict.HEALS, sentence, facts, ladder())


def _facts(known: Known, now: datetime) -> dict[str, str]:
    facts = {"checks": "; ".join(known.wrong) or "green"}
    for one in known.lost:
        facts[f"database {one.name}"] = f"missing; {' and '.join(one.services)} use it; {_set_of(one, now)}"
    if known.lost:
        facts["databases that are there"] = ", ".join(known.others) or "none"
    if known.planned:
        facts["what a restore does"] = "; ".join(known.planned)
    if known.died:
        facts["restores that died in their swap"] = ", ".join(known.died)
    if known.waiting:
        facts["applications"] = "; ".join(known.waiting)
    facts["at work on the stack"] = known.at_work or "nobody"
    return facts


def _set_of(lost: Lost, now: datetime) -> str:
    if lost.found is None:
        return "no good backup set has it"
    taken, drill = lost.found.created_at, lost.found.drill
    proven = f"proven by a drill {age(now - drill.at)} ago" if drill is not None and drill.ok and drill.full else ""
    return f"set {lost.found.id}, taken {age(now - taken)} ago, has it, and is {proven or 'not proven by a drill'}"
