"""What every runbook consists of: a diagnosis, a ladder of actions from the smallest safe one up, and a check that confirms.

Nothing here knows Prefect; `heal.py` climbs the ladder, `running.py` shows it in a flow run.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, Field

from blocks.errors import SettingsError

__all__ = ["Action", "Diagnosis", "Patient", "Runbook", "RunbookRequest", "Verdict"]


class Verdict(StrEnum):
    """What a diagnosis comes to."""

    NOTHING = "nothing to do"
    HEALS = "can heal"
    PERSON = "needs a person"


class Action(ABC):
    """One rung. It may be begun again after any part of it was done, by this run or by the next one: so it looks first."""

    @property
    def asks(self) -> str:
        """Say why a person has to approve it, empty where it is safe: it deletes or moves data, or ends somebody's work."""
        return ""

    @property
    def settles(self) -> bool:
        """Whether it can turn the check green by itself; after one that only prepares the next nobody waits."""
        return True

    @abstractmethod
    def describe(self) -> str:
        """Say what it is going to do, with the facts of the diagnosis."""

    def needless(self) -> str:
        """Say why it need not be done any more, empty where it must be; asked right before it is done."""
        return ""

    @abstractmethod
    def do(self) -> str:
        """Do it, or what is left of it.

        Returns: a few words about what came of it, with numbers.
        Raises:
            StackError: it did not work; the next rung is tried.
        """


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        sentence: why the verdict is what it is, and for `needs a person` what that person is to do.
        facts: for people, by what they are of; no secrets. actions: from the smallest safe one upward.
    """

    verdict: Verdict
    sentence: str
    facts: Mapping[str, str] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()


class Runbook(ABC):
    """One runbook at work on one patient.

    Attributes:
        name: that of its flow. service: whom it heals.
    """

    name: str
    service: str

    @abstractmethod
    def diagnose(self) -> Diagnosis:
        """Collect the facts and conclude; changes nothing.

        Raises:
            StackError: the facts cannot be had.
        """

    @abstractmethod
    def wrong(self) -> list[str]:
        """Ask the very check that opened the incident; a sentence for each thing that is not well, none where it is green."""


@dataclass(frozen=True)
class Patient:
    """Whom an incident is about, as its key says it: `<stack>/<service>/<aspect>/<opened at>`."""

    service: str
    aspect: str

    @classmethod
    def of(cls, incident: str) -> Self:
        """Read a key.

        Raises:
            SettingsError: it is none.
        """
        _, *middle, _ = incident.split("/") if incident.count("/") >= 3 else ("", "")
        if len(middle) < 2 or not all(middle):
            raise SettingsError(f"runbook: {incident!r} is no key of an incident; expected <stack>/<service>/<aspect>/<time>")
        return cls(middle[0], "/".join(middle[1:]))


class RunbookRequest(BaseModel):
    """What every runbook is told."""

    dry_run: bool = Field(
        default=False, description="Only diagnose, and say what would be done; nothing is changed or recorded"
    )
    confirm: str = Field(
        default="", description="The stack's name: approves what would be asked for; empty: the run pauses and asks"
    )
    incident: str = Field(default="", max_length=300, description="Key of the incident that this answers, where there is one")
    by: str = Field(default="", max_length=100, description="Who runs it, for the record: a person, or the automation")
    why: str = Field(default="", max_length=300, description="Why, for the record")

    def patient(self) -> Patient | None:
        """Whom the incident is about; None where there is no incident."""
        return Patient.of(self.incident) if self.incident else None
