"""Healing without a Prefect server: means that write down what was asked, shown and told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from blocks.errors import ApprovalMissing
from blocks.object_store import BackupStore
from flows.report import Summary
from flows.runbook.audit import Entry, Trail, read
from flows.runbook.frame import Runbook, RunbookRequest
from flows.runbook.heal import Means, Pace, heal

__all__ = ["CANARY", "IMPATIENT", "PACE", "Desk", "Died", "dies_after"]

CANARY = "canary-e2b8"
PACE = Pace(settle=60.0, longest=60.0, look=0.05)
"""Long, for a machine that is busy: what heals is seen at once."""
IMPATIENT = Pace(settle=0.1, longest=0.1, look=0.05)
"""For what does not heal."""


class Died(Exception):
    """The program ended between two lines."""


def dies_after(do: Callable[[str], str]) -> Callable[[str], str]:
    """Make of something that is done something after which the program is dead."""

    def die(label: str) -> str:
        do(label)
        raise Died

    return die


@dataclass
class Desk:
    """Where runbooks are run by a test.

    Attributes:
        approves: what the person who is asked says. asked, steps, told: in order. shown: the artifacts.
    """

    store: BackupStore
    pace: Pace = PACE
    approves: bool = True
    asked: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    shown: list[Summary] = field(default_factory=list)

    def heal(self, runbook: Runbook, request: RunbookRequest | None = None) -> str:
        """Run a runbook, as its flow does."""
        means = Means(
            stack=self.store.stack,
            trail=Trail(self.store),
            ask=self._ask,
            step=self._step,
            show=self.shown.append,
            tell=self.told.append,
            pace=self.pace,
        )
        return heal(runbook, request or RunbookRequest(by="a test", why="to see it heal"), means)

    def trail(self) -> list[Entry]:
        """All that was written down, oldest first."""
        now = datetime.now(UTC)
        return read(self.store, now - timedelta(hours=1), now + timedelta(minutes=1))

    def text(self) -> str:
        """Everything that anybody could read of it."""
        written = [entry.model_dump_json() for entry in self.trail()]
        return "\n".join([*self.told, *self.asked, *(one.markdown() for one in self.shown), *written])

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if not self.approves:
            raise ApprovalMissing("rejected; nothing was changed")

    def _step(self, name: str, work: Callable[[], object]) -> object:
        self.steps.append(name)
        return work()
