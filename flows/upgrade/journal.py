"""What an upgrade has done so far, written to the store before and after each step: another process can go on or undo."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from blocks.object_store import BackupStore
from flows import journals
from flows.journals import Journal
from flows.lease import utc_now

__all__ = ["FOLDER", "OPEN", "Phase", "StepRecord", "StepState", "UpgradeJournal", "load_all", "open_journals", "save"]

FOLDER = "upgrades"

StepState = Literal["pending", "doing", "done", "undoing", "undone"]
Phase = Literal["doing", "handed over", "done", "undoing", "undone"]
OPEN: tuple[Phase, ...] = ("doing", "handed over", "undoing")
"""Phases in which a process that died, or handed over, has left something to finish or to undo."""


class StepRecord(BaseModel):
    """One step.

    Attributes:
        name: of the step, unique in its upgrade. outcome: a few words for people, of the last thing that happened to it.
        facts: what the step noted before it changed anything, to be undone by; never a secret in clear (see `sealed.py`).
        seconds: that it took to do.
    """

    name: str
    state: StepState = "pending"
    outcome: str = ""
    facts: dict[str, str] = Field(default_factory=dict)
    seconds: float = 0.0


class UpgradeJournal(Journal):
    """One upgrade.

    Attributes:
        kind: what is upgraded: litellm, langfuse, clickhouse, redis, minio, prefect, postgres; it names the recipe by which
            another process makes the steps again. plan: what was approved, as JSON: the steps are made of nothing else.
        images: from and to, by service: `{"litellm": ("ghcr.io/...:v1.102.4", "ghcr.io/...:v1.103.0")}`.
        set_id: of the backup that stands for the data as it was; empty where none is needed.
        steps: in order. fault: why it was undone, in a line. run: the flow run that began it.
        resumed: how often another process went on with it.
    """

    kind: str
    begun_at: datetime = Field(default_factory=utc_now)
    ended_at: datetime | None = None
    phase: Phase = "doing"
    plan: dict[str, Any] = Field(default_factory=dict)
    plan_hash: str = ""
    images: dict[str, tuple[str, str]] = Field(default_factory=dict)
    set_id: str = ""
    steps: list[StepRecord] = Field(default_factory=list)
    fault: str = ""
    run: str = ""
    resumed: int = 0

    def record(self, name: str) -> StepRecord:
        """Return the record of a step.

        Raises:
            KeyError: this upgrade has no such step.
        """
        for one in self.steps:
            if one.name == name:
                return one
        raise KeyError(f"upgrade {self.id} has no step {name!r}; it has: {', '.join(one.name for one in self.steps)}")

    def named(self, names: Sequence[str]) -> None:
        """Have a record for each step, in order; those that are there stay."""
        known = {one.name: one for one in self.steps}
        self.steps = [known.get(name) or StepRecord(name=name) for name in names]


def save(store: BackupStore, journal: UpgradeJournal) -> None:
    """Write the journal; from then on a successor knows about what it says."""
    journals.save(store, FOLDER, journal)


def load_all(store: BackupStore) -> list[UpgradeJournal]:
    """Read every journal of the stack, oldest first.

    Raises:
        IntegrityError: one cannot be read; says which.
    """
    return journals.load_all(store, FOLDER, UpgradeJournal)


def open_journals(store: BackupStore) -> list[UpgradeJournal]:
    """Read the journals of upgrades that are neither done nor undone, oldest first."""
    return [one for one in load_all(store) if one.phase in OPEN]
