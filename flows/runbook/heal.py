"""Diagnose, remedy, confirm: climbs a runbook's ladder, the smallest safe action first, until the check is green."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from blocks.errors import ApprovalMissing, LeaseLost, NotHealed, StackError
from flows.report import Summary, flow_run_id, line
from flows.runbook.audit import Entry, Kind, Trail
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict

__all__ = ["Means", "Pace", "at_once", "heal"]

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds.

    Attributes:
        settle: after the first action, until the check has to be green; twice as long after each further one.
        longest: the longest of those. look: between two looks.
    """

    settle: float = 60.0
    longest: float = 600.0
    look: float = 5.0

    def patience(self, rung: int) -> float:
        """How long to wait after an action, the first of which is 0."""
        return min(self.settle * 2.0**rung, self.longest)


def at_once(_: str, work: Callable[[], T]) -> T:
    """Do a step without showing it."""
    return work()


@dataclass
class Means:
    """What a run works with.

    Attributes:
        stack: its name. trail: the audit trail. ask: raises ApprovalMissing unless a person approves what it is told, and
            says who that was, where it is known.
        step: shows a step by its name while it is done. show: takes the artifact. tell: one line for who watches.
    """

    stack: str
    trail: Trail
    ask: Callable[[str], str | None]
    step: Callable[[str, Callable[[], object]], object] = at_once
    show: Callable[[Summary], None] = lambda _: None
    tell: Callable[[str], None] = line
    pace: Pace = field(default_factory=Pace)


def heal(runbook: Runbook, request: RunbookRequest, means: Means) -> str:
    """Heal one patient, as far as this runbook can and may.

    Killed at any line it may be run again: it begins with a new diagnosis, and each action looks what is left to do.

    Returns: `nothing to do`, `can heal` for a dry run, or `healed`.
    Raises:
        NotHealed: a person is needed: the runbook may not, or everything it could do was done and the check is still red.
        ApprovalMissing: nobody approved; the safe actions before that one were done.
        StackError: the facts could not be had.
    """
    case = _Case(runbook, request, means)
    try:
        return case.run()
    except StackError as error:
        case.note("closed", result=str(error))
        raise
    finally:
        if not request.dry_run:
            means.trail.close()


class _Case:
    """One run."""

    def __init__(self, runbook: Runbook, request: RunbookRequest, means: Means) -> None:
        self._runbook, self._request, self._means = runbook, request, means
        self._done: list[str] = []

    def run(self) -> str:
        """As `heal`."""
        runbook, means = self._runbook, self._means
        found: Diagnosis = self._step("diagnose", runbook.diagnose)
        means.tell(f"{runbook.service}: {found.verdict}: {found.sentence}")
        self._show(found)
        if self._request.dry_run:
            for action in found.actions:
                means.tell(f"would {action.describe()}")
            return found.verdict.value
        self.note("diagnosed", what=found.sentence, result=found.verdict.value)
        if found.verdict is Verdict.NOTHING:
            return found.verdict.value
        if found.verdict is Verdict.PERSON or not found.actions:
            raise NotHealed(f"{runbook.name} {runbook.service}: {Verdict.PERSON}: {found.sentence}; nothing was changed")
        self._climb(found)
        self._show(found)
        self.note("closed", what="; ".join(self._done), result="healed")
        return "healed"

    def note(self, kind: Kind, *, what: str = "", result: str = "", by: str = "") -> None:
        """Write into the audit trail; a dry run leaves no trace.

        Args:
            by: who it was, where it was another one than who runs it.
        """
        if self._request.dry_run:
            return
        request = self._request
        self._means.trail.add(
            Entry(
                at=datetime.now(UTC),
                kind=kind,
                actor=self._runbook.name,
                service=self._runbook.service,
                what=what,
                result=result,
                by=by or request.by or "by hand",
                why=request.why,
                incident=request.incident,
                run=flow_run_id(),
            )
        )

    def _climb(self, found: Diagnosis) -> None:
        """Do action after action until the check is green.

        Raises:
            NotHealed: it is still red after the last one. ApprovalMissing: as in `heal`.
        """
        runbook, means = self._runbook, self._means
        wrong = [found.sentence]
        for rung, action in enumerate(found.actions):
            if why := action.needless():
                self._done.append(f"not needed any more: {action.describe()}: {why}")
                continue
            self._approved(action)
            worked = self._step("remedy", lambda: self._carry_out(action))  # noqa: B023 - called at once
            seconds = means.pace.patience(rung) if worked and action.settles else 0.0
            wrong = self._step("confirm", lambda: self._still_wrong(seconds))  # noqa: B023 - as above
            if not wrong:
                means.tell(f"{runbook.service}: healed")
                return
            means.tell(f"{runbook.service}: not yet: {wrong[0]}")
        if not (wrong := runbook.wrong()):
            return
        self._show(found)
        tried = "; ".join(self._done) or "nothing"
        raise NotHealed(f"{runbook.name} {runbook.service}: a person is needed: {wrong[0]}; tried: {tried}")

    def _approved(self, action: Action) -> None:
        """Ask where it asks."""
        if not action.asks:
            return
        what = f"{self._means.stack}: {self._runbook.service}: {action.describe()} ({action.asks})"
        try:
            by = self._means.ask(what)
        except ApprovalMissing as error:
            self.note("decided", what=what, result=str(error))
            raise
        self.note("decided", what=what, result="approved", by=by or "")

    def _carry_out(self, action: Action) -> bool:
        """Do one action; one that fails is a rung that did not hold. Returns whether it held."""
        what = action.describe()
        self._means.tell(what)
        self.note("began", what=what)
        worked = False
        try:
            result = action.do()
            worked = True
        except LeaseLost:
            raise
        except StackError as error:
            result = f"failed: {error}"
        self._done.append(f"{what}: {result}")
        self._means.tell(result)
        self.note("ended", what=what, result=result)
        return worked

    def _still_wrong(self, seconds: float) -> list[str]:
        """Ask the check until it is green, or the time is over."""
        deadline = time.monotonic() + seconds
        while (wrong := self._runbook.wrong()) and time.monotonic() + self._means.pace.look < deadline:
            time.sleep(self._means.pace.look)
        return wrong

    def _step(self, name: str, work: Callable[[], T]) -> T:
        found: list[T] = []
        self._means.step(f"{name} {self._runbook.service}", lambda: found.append(work()))
        return found[0]

    def _show(self, found: Diagnosis) -> None:
        """The artifact: facts, verdict, what is going to be done, and what was."""
        title = f"{self._runbook.name} of {self._runbook.service} in {self._means.stack}: {found.verdict}"
        shown = Summary(title, ("Fact", "Found"))
        for name, value in found.facts.items():
            shown.row(name, value)
        shown.note(found.sentence)
        for number, action in enumerate(found.actions, 1):
            asks = f" (asks: {action.asks})" if action.asks else ""
            shown.note(f"{number}. {action.describe()}{asks}")
        for done in self._done:
            shown.note(f"Done: {done}")
        self._means.show(shown)
