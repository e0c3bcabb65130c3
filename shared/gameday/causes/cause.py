"""What a cause is: one way in which a stack breaks, done for real, with what should become of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from railway.stack import LangfuseMajor

if TYPE_CHECKING:
    from shared.gameday.ground import Ground

__all__ = ["Cause"]


class Cause(ABC):
    """One incident, caused. Nothing of what stands here is told to the system: it has to find out.

    Attributes:
        key: as the table calls it. numbers: of the incidents that it is, in facts: apps.md section 6; none for an outage.
        what: what is broken, in a few words.
        service, aspects: whose incident should be opened, and about what; several aspects where it depends on who looks first;
            a `*` stands for anything.
        runbook: the one that should answer; empty: nobody but people. hands_over: it should find out that a person is needed
            and say so, whereupon the game day does, as that person, what `undo` does.
        langfuse: major version of Langfuse that the stack has to run.
        brews: seconds that a fault has to last before it is one, by the limits of the game day.
    """

    key: str
    numbers: tuple[int, ...] = ()
    what: str
    service: str
    aspects: Sequence[str]
    runbook: str = ""
    hands_over: bool = False
    langfuse: LangfuseMajor = 3
    brews: float = 0.0

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    @abstractmethod
    def cause(self) -> None:
        """Break it. When this returns it is broken."""

    def undo(self) -> None:  # noqa: B027 - most causes leave nothing
        """Take back what is left of the cause, whatever has become of it; may be called at any time, more than once."""

    def left(self) -> str:
        """Say what is still broken after it was healed, empty where nothing is; by other means than the system's checks."""
        return ""
