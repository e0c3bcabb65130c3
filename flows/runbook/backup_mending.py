"""What brings the backups back: the lock is waited for or taken from the dead, the schedule resumed, a set taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from blocks.errors import LeaseHeld
from blocks.object_store import BackupStore
from flows.lease import LeaseRecord, holder_of, take_away
from flows.runbook.backup_runs import Schedule
from flows.runbook.frame import Action

__all__ = ["Await", "Free", "Resume", "Take"]

_MARGIN = 5.0
"""Seconds beyond its lease that a lock is waited for, before it is taken from a run that has ended."""


@dataclass(frozen=True)
class Await(Action):
    """Waits for whoever holds the stack's lock.

    Attributes:
        holder: looks who does. held: as it was found. patience: seconds that it is waited at most. look: between two looks.
    """

    holder: Callable[[], LeaseRecord | None]
    held: LeaseRecord
    patience: float
    look: float

    def describe(self) -> str:
        """As in `Action`."""
        return f"wait for the {self.held.flow} that is under way (run {self.held.holder})"

    def do(self) -> str:
        """As in `Action`.

        Raises:
            LeaseHeld: it holds the lock still.
        """
        deadline = time.monotonic() + self.patience
        while (found := self.holder()) is not None and found.is_of(self.held):
            if time.monotonic() >= deadline:
                raise LeaseHeld(
                    f"the {found.flow} holds the stack's lock after {self.patience:.0f} s (run {found.holder}); cancel that run"
                )
            time.sleep(self.look)
        return "it gave the lock back"


@dataclass(frozen=True)
class Free(Action):
    """Takes the lock from a run that has ended; where no process renews it, it runs out by itself.

    Attributes:
        held: as it was found. seconds: that a lock lives without renewal. look: seconds between two looks.
    """

    store: BackupStore
    held: LeaseRecord
    seconds: int
    look: float

    @property
    def settles(self) -> bool:
        """As in `Action`."""
        return False

    def describe(self) -> str:
        """As in `Action`."""
        return f"free the stack's lock of a {self.held.flow} that has ended (run {self.held.holder})"

    def needless(self) -> str:
        """As in `Action`."""
        return "" if self._is_held() else "the lock is free"

    def do(self) -> str:
        """As in `Action`.

        Raises:
            LeaseHeld: somebody else took it meanwhile.
        """
        deadline = time.monotonic() + self.seconds + _MARGIN
        while self._is_held():
            if time.monotonic() >= deadline:
                take_away(self.store, self.held, self.seconds)
                return "taken from a process that renewed it although its run has ended: it can commit nothing more"
            time.sleep(self.look)
        return "it ran out: nobody renewed it"

    def _is_held(self) -> bool:
        found = holder_of(self.store, self.seconds)
        return found is not None and found.is_of(self.held)


@dataclass(frozen=True)
class Resume(Action):
    """Lets the schedule start runs again.

    Attributes:
        look: asks Prefect how the backups stand. resume: resumes what is paused. paused: what that is.
    """

    look: Callable[[], Schedule]
    resume: Callable[[], str]
    paused: str

    @property
    def settles(self) -> bool:
        """As in `Action`."""
        return False

    def describe(self) -> str:
        """As in `Action`."""
        return f"resume what starts backup/nightly: {self.paused}"

    def needless(self) -> str:
        """As in `Action`."""
        found = self.look()
        return "" if found.paused or found.pool_paused else "nothing is paused any more"

    def do(self) -> str:
        """As in `Action`."""
        return self.resume()


@dataclass(frozen=True)
class Take(Action):
    """Takes a backup set.

    Attributes:
        take: does it, and returns the set's id. wrong: asks the check.
    """

    take: Callable[[], str]
    wrong: Callable[[], list[str]]

    def describe(self) -> str:
        """As in `Action`."""
        return "take a backup set of everything"

    def needless(self) -> str:
        """As in `Action`."""
        return "" if self.wrong() else "there is a fresh set"

    def do(self) -> str:
        """As in `Action`."""
        return f"committed {self.take()}"
