"""What came of each cause, and what the game day as a whole comes to. Values only: no clock, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from flows.runbook.catalogue import Kind

__all__ = ["HEAL_S", "MOST_SWEEPS", "Outcome", "document", "exit_status", "missing", "numbers_of", "summary"]

MOST_SWEEPS = 2
"""An incident has to be open after so many sweeps that could see it."""
HEAL_S = 300.0
"""Seconds from the opening to the end of an incident."""
INCIDENTS = range(1, 24)
"""Of facts: apps.md section 6."""


@dataclass(frozen=True)
class Outcome:
    """What came of one cause.

    Attributes:
        key, numbers, what: the cause's. kind: the catalogue's word for its runbook.
        detected_s: seconds from the fault to the incident, None where none was opened. sweeps: that looked until then.
        diagnosed: one incident was opened, about the right service and aspect, and the right runbook answered.
        healed_s: seconds from the fault to the incident's end, None where it did not end.
        done: what the runbook did, in its own words. problems: what is not as it should be, a sentence each.
    """

    key: str
    numbers: tuple[int, ...]
    what: str
    kind: Kind
    detected_s: float | None = None
    sweeps: int = 0
    diagnosed: bool = False
    healed_s: float | None = None
    done: Sequence[str] = ()
    problems: Sequence[str] = field(default=())

    @property
    def ok(self) -> bool:
        """Everything was as it should be."""
        return not self.problems and self.diagnosed and self.detected_s is not None and self.healed_s is not None


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 when all that the catalogue calls automatic was healed as it should be, and anything was tried at all."""
    automatic = [one for one in outcomes if one.kind == "automatic"]
    return 0 if outcomes and all(one.ok for one in automatic) else 1


def summary(outcomes: Sequence[Outcome]) -> str:
    """The score in a sentence."""
    good = sum(one.ok for one in outcomes)
    automatic = [one for one in outcomes if one.kind == "automatic"]
    healed = sum(one.ok for one in automatic)
    return f"{good} of {len(outcomes)} as it should be; of {len(automatic)} whose runbook is automatic {healed} healed"


def numbers_of(outcomes: Sequence[Outcome]) -> set[int]:
    """The incidents of the list that were caused."""
    return {number for one in outcomes for number in one.numbers}


def missing(outcomes: Sequence[Outcome]) -> list[int]:
    """The incidents of the list that were not caused."""
    return sorted(set(INCIDENTS) - numbers_of(outcomes))


def document(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """The report for machines."""
    rows = [
        {
            "key": one.key,
            "class": one.kind,
            "numbers": list(one.numbers),
            "detected_s": _rounded(one.detected_s),
            "sweeps": one.sweeps,
            "diagnosed": one.diagnosed,
            "healed_s": _rounded(one.healed_s),
            "ok": one.ok,
            "done": list(one.done),
            "problems": list(one.problems),
        }
        for one in outcomes
    ]
    return {"incidents": rows}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
