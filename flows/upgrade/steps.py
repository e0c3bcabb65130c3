"""What a step of an upgrade is, and what it works with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from blocks.railway_api.api import RailwayApi
from flows.lease import Lease
from flows.report import line
from flows.stack import Stack
from flows.upgrade.journal import StepRecord, UpgradeJournal, save
from flows.upgrade.outside import Outside

__all__ = ["Context", "Pace", "Step"]


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds.

    Attributes:
        deployment: beyond the service's own health check: pulling the image, migrations. poll: between two looks at Railway;
            it allows a thousand requests an hour on its smallest plan.
        settle: until a service that was deployed has to be well. look: between two looks at health.
        pause: before a step is tried again that a fault of the network, or Railway's rate limit, has broken; grows.
        patience: that the rate limit may ask for in all, for one step.
    """

    deployment: float = 900.0
    poll: float = 5.0
    settle: float = 300.0
    look: float = 15.0
    pause: float = 5.0
    patience: float = 1800.0


@dataclass
class Context:
    """What a step works with.

    Attributes:
        stack: its systems. api: of its Railway environment. journal: of this upgrade. lease: the stack's lock, held.
        outside: what is asked of the world beside Railway: health, backups, smoke. pace: how long things may take.
        progress: is called after each step. tell: one line for the person who watches.
    """

    stack: Stack
    api: RailwayApi
    journal: UpgradeJournal
    lease: Lease
    outside: Outside
    pace: Pace = Pace()
    progress: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = line

    def save(self) -> None:
        """Write the journal."""
        save(self.stack.store, self.journal)

    def record(self, step: Step) -> StepRecord:
        """Return a step's record; what is put into its `facts` counts from the next `save` on."""
        return self.journal.record(step.name)

    def note(self, step: Step, **facts: str) -> None:
        """Write down what a step has to know to be undone, before it changes anything."""
        self.record(step).facts.update(facts)
        self.save()


@dataclass(frozen=True)
class Step(ABC):
    """One step. Made of the plan alone.

    `do` and `undo` may each be called again after any part of them was done: by this process after a fault, or by another one
    after a kill. So they look first whether there is anything left to do, and note what they find before they change it.

    Attributes:
        name: unique in its upgrade, in words: `image of litellm`.
    """

    name: str

    @property
    def irreversible(self) -> str:
        """Say why what it does cannot be undone, empty where it can."""
        return ""

    @abstractmethod
    def describe(self) -> str:
        """Say in a sentence what it is going to do, with the facts of the plan."""

    @abstractmethod
    def do(self, context: Context) -> str:
        """Do it, or what is left of it.

        Returns: a few words about what came of it, for people.
        """

    @abstractmethod
    def undo(self, context: Context) -> str:
        """Take it back, or what is left of it; also where `do` was never begun, or broke off at any point.

        Returns: as of `do`.
        """
