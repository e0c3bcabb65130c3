"""Why there is no fresh backup set: concluded from what is known, without asking anybody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flows.lease import LeaseRecord
from flows.runbook.backup_runs import ENDED, Schedule
from flows.runbook.frame import Action, Diagnosis, Verdict
from flows.runbook.restarting import CHANGING

__all__ = ["Known", "causes", "decide"]

_DEAD = frozenset(one.value for one in ENDED)


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check says of the newest set. store_error: why the store could not be read, or empty.
        held: who holds the stack's lock. holder_state: the type of that run's state, empty where nobody knows it.
        schedule: how the nightly backup stands with Prefect; None where Prefect does not answer: prefect_error.
        faults: of the newest sets, why they are not good.
    """

    wrong: Sequence[str]
    store_error: str = ""
    held: LeaseRecord | None = None
    holder_state: str = ""
    schedule: Schedule | None = None
    prefect_error: str = ""
    faults: Sequence[str] = field(default=())

    @property
    def holder_is_dead(self) -> bool:
        """The run that holds the lock has ended, as Prefect knows it."""
        return self.held is not None and self.holder_state in _DEAD

    @property
    def paused(self) -> str:
        """What keeps the schedule from starting a run, empty where nothing does."""
        if self.schedule is None:
            return ""
        pool = "the work pool is paused" if self.schedule.pool_paused else ""
        return "; ".join(one for one in (self.schedule.paused, pool) if one)


def decide(known: Known, ladder: Callable[[Known], tuple[Action, ...]]) -> Diagnosis:
    """Conclude from what is known.

    Args:
        ladder: makes the actions.
    """
    facts = _facts(known)
    if known.store_error:
        why = f"the store of the backups cannot be read, so that nothing can be put there: {known.store_error}; heal it first"
        return Diagnosis(Verdict.PERSON, why, facts)
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "the newest good backup set is fresh", facts)
    if known.held is not None and known.held.flow in CHANGING:
        held = known.held
        why = f"{held.flow} is under way and holds the stack's lock: wait for its end, then take a backup"
        if known.holder_is_dead:
            why = (
                f"the {held.flow} ended as {known.holder_state} and its process still renews the stack's lock: it may be in "
                f"the middle of a change; end that process (run {held.holder}), look at what it did, then take a backup"
            )
        return Diagnosis(Verdict.PERSON, why, facts)
    why = "; ".join(causes(known)) or "nobody knows why: the last run of backup/nightly says nothing"
    return Diagnosis(Verdict.HEALS, f"{known.wrong[0]}; because: {why}", facts, ladder(known))


def causes(known: Known) -> list[str]:
    """Say why, the likeliest first."""
    found = []
    if known.held is not None and known.holder_is_dead:
        found.append(f"the stack's lock is held by a {known.held.flow} that ended as {known.holder_state}")
    elif known.held is not None:
        found.append(f"a {known.held.flow} holds the stack's lock")
    schedule = known.schedule
    if schedule is None:
        return [*found, known.prefect_error] if known.prefect_error else found
    if not schedule.registered:
        found.append("Prefect has no deployment backup/nightly: run `prefect --no-prompt deploy --all`")
    if known.paused:
        found.append(known.paused)
    if not schedule.workers:
        found.append("no worker of the pool lives: restart the worker's service, or the next night has no backup either")
    last = schedule.last
    if last is not None and last.over and last.state != "COMPLETED":
        when = f" of {last.at:%Y-%m-%d %H:%M} UTC" if last.at else ""
        found.append(f"the last backup{when} ended as {last.name}: {last.message or 'it says nothing'}")
    if known.faults:
        found.append(f"newer sets are not good: {known.faults[0]}")
    return found


def _facts(known: Known) -> dict[str, str]:
    held, schedule = known.held, known.schedule
    facts = {"check": "; ".join(known.wrong) or "green", "store": known.store_error or "answers", "lock": "free"}
    if held is not None:
        state = known.holder_state or "nobody knows how that run is"
        facts["lock"] = f"held by {held.flow} (run {held.holder}: {state}) until {held.expires_at:%H:%M:%S} UTC"
    if schedule is None:
        facts["Prefect"] = known.prefect_error or "not asked"
    else:
        facts["schedule"] = known.paused or ("active" if schedule.registered else "there is no deployment backup/nightly")
        facts["workers"] = f"{schedule.workers} live"
        last = schedule.last
        facts["last run"] = f"{last.name}: {last.message}" if last else "none is known"
    facts["newest sets that are not good"] = "; ".join(known.faults) or "none"
    return facts
