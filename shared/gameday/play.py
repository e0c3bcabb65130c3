"""One cause from its fault to the end of its incident: the system is watched, and what it asks a person is approved."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase

from blocks.errors import StackError
from flows.runbook import audit
from flows.runbook.catalogue import Entry, Kind, entries
from shared.engines.process import wait_until
from shared.gameday.causes.cause import Cause
from shared.gameday.control import Happened, Run
from shared.gameday.ground import INTERVAL_S, Ground
from shared.gameday.score import HEAL_S, MOST_SWEEPS, Outcome

__all__ = ["play"]

_CALM_S = 600.0
"""From one incident to the next everything has to be well again."""
_LATE_S = 60.0
"""A sweep on a machine that does everything at once takes its time."""
_DISPATCHER = "runbook"
_LOOK_S = 2.0


def play(cause: Cause, ground: Ground) -> Outcome:
    """Break something, watch, take back what is left.

    Returns: what came of it, whatever that is.
    """
    return _Play(cause, ground).run()


@dataclass
class _Play:
    """One cause.

    Attributes:
        problems: what is not as it should be. by_hand: a person was needed, and mended it.
    """

    cause: Cause
    ground: Ground
    problems: list[str] = field(default_factory=list)
    by_hand: bool = False

    def run(self) -> Outcome:
        """As `play`."""
        outcome = Outcome(self.cause.key, self.cause.numbers, self.cause.what, kind_of(self.cause, entries()))
        try:
            self._calm("before it")
            self.ground.sinks.clear()
            begun = datetime.now(UTC)
            self.cause.cause()
            outcome = self._watched(outcome, begun, datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 - whatever broke is what came of it, shown and counted
            self._broke(error)
        try:
            self.cause.undo()
            self._calm("after it")
        except Exception as error:  # noqa: BLE001 - as above
            self._broke(error)
        return replace(outcome, problems=tuple(self.problems))

    def _broke(self, error: Exception) -> None:
        traceback.print_exc(file=sys.stderr)
        self.problems.append(f"{type(error).__name__}: {error}".partition("\n")[0])

    def _watched(self, outcome: Outcome, begun: datetime, broken: datetime) -> Outcome:
        opened = self._opened(begun)
        detected = max((opened.at - broken).total_seconds(), 0.0)  # a fault that grows may be seen before it is whole
        outcome = replace(outcome, detected_s=detected, sweeps=self._sweeps(broken, opened.at))
        if outcome.sweeps > MOST_SWEEPS:
            self.problems.append(f"open only after {outcome.sweeps} sweeps, expected at most {MOST_SWEEPS}")
        closed = self._closed(opened)
        if closed is not None:
            outcome = replace(outcome, healed_s=(closed.at - broken).total_seconds())
            if (closed.at - opened.at).total_seconds() > HEAL_S:
                self.problems.append(f"over only after {(closed.at - opened.at).total_seconds():.0f} s, expected {HEAL_S:.0f}")
        outcome = replace(outcome, diagnosed=self._diagnosed(begun, opened), done=self._done(begun, opened.key))
        if closed is not None:
            self.problems += told_wrong(self.ground, opened.key)
            if left := self.cause.left():
                self.problems.append(f"still broken: {left}")
        return outcome

    def _opened(self, begun: datetime) -> Happened:
        """Wait for an incident.

        Raises:
            EngineError: none was opened.
        """
        found: list[Happened] = []

        def seen() -> bool:
            found.extend(one for one in self.ground.control.happenings(begun) if one.kind == "opened")
            return bool(found)

        patience = self.cause.brews + (MOST_SWEEPS + 1) * INTERVAL_S + _LATE_S
        wait_until(seen, timeout=patience, what="an incident to be opened", pause=_LOOK_S)
        return found[0]

    def _closed(self, opened: Happened) -> Happened | None:
        """Wait for its end and that of what answers it, and approve what is asked; None where it does not end."""
        control, deadline = self.ground.control, time.monotonic() + HEAL_S + _LATE_S
        while time.monotonic() < deadline:
            runs = self._answers(opened)
            for run in runs:
                if run.state == "PAUSED":
                    self.ground.say(f"  approving {run.flow}")
                    control.approve(run.id, self.ground.name)
            ends = [one for one in control.happenings(opened.at) if one.kind == "closed" and one.key == opened.key]
            if ends and all(run.over for run in runs):
                return ends[0]
            if not self.cause.hands_over and any(run.over and run.state != "COMPLETED" for run in runs):
                return None  # nobody will heal it any more; what the run says is told with the diagnosis
            handed_over = runs and all(run.over for run in runs) if self.cause.hands_over else not self.cause.runbook
            if handed_over and not self.by_hand:
                self.ground.say("  mending it, as the person who was told")
                self.cause.undo()
                self.by_hand = True
            time.sleep(_LOOK_S)
        self.problems.append(f"not over {HEAL_S + _LATE_S:.0f} s after it was opened: {opened.sentence}")
        return None

    def _diagnosed(self, begun: datetime, opened: Happened) -> bool:
        """One incident, the right one, and the right runbook, once, to a good end."""
        found = len(self.problems)
        others = [one for one in self.ground.control.happenings(begun) if one.kind == "opened" and one.key != opened.key]
        self.problems += [f"another incident was opened: {one.service}/{one.aspect}: {one.sentence}" for one in others]
        if opened.service != self.cause.service or not any(fnmatchcase(opened.aspect, one) for one in self.cause.aspects):
            expected = f"{self.cause.service}/{' or '.join(self.cause.aspects)}"
            self.problems.append(f"the incident is {opened.service}/{opened.aspect}, expected {expected}: {opened.sentence}")
        runs = self._answers(opened)
        wanted = [self.cause.runbook] if self.cause.runbook else []
        if [run.flow for run in runs] != wanted:
            ran = ", ".join(run.flow for run in runs) or "no runbook"
            self.problems.append(f"{ran} answered, expected {self.cause.runbook or 'none'}")
        ended = "FAILED" if self.cause.hands_over else "COMPLETED"
        self.problems += [
            f"{run.flow} is {run.state}, expected {ended}: {run.message}"[:300] for run in runs if run.state != ended
        ]
        return len(self.problems) == found

    def _answers(self, opened: Happened) -> list[Run]:
        """The runs of runbooks that answer an incident."""
        runs = self.ground.control.runs(opened.at - timedelta(seconds=INTERVAL_S))
        return [run for run in runs if run.incident == opened.key and run.flow != _DISPATCHER]

    def _done(self, begun: datetime, key: str) -> tuple[str, ...]:
        """What was done about an incident, as the audit trail has it."""
        try:
            trail = audit.read(self.ground.stack.store, begun, datetime.now(UTC), incident=key)
        except StackError as error:
            self.problems.append(f"the audit trail cannot be read: {error}")
            return ()
        done = tuple(f"{one.what}: {one.result}" for one in trail if one.kind == "ended")
        return (*done, "people were told, and one of them mended it") if self.by_hand else done

    def _sweeps(self, since: datetime, until: datetime) -> int:
        """How many sweeps began after the fault and had ended, or were the one, when the incident was opened.

        Those do not count that began before the fault could be told from a hiccup.
        """
        seen_from = since + timedelta(seconds=self.cause.brews)
        runs = self.ground.control.runs(since - timedelta(seconds=INTERVAL_S), flow="health")
        return sum(one.begun is not None and seen_from <= one.begun <= until for one in runs)

    def _calm(self, when: str) -> None:
        """Wait until no incident is open and no runbook runs.

        Raises:
            EngineError: it does not become calm.
        """
        control, started = self.ground.control, self.ground.started

        def calm() -> bool:
            happened = control.happenings(started)
            closed = {one.key for one in happened if one.kind == "closed"}
            still = [one for one in happened if one.kind == "opened" and one.key not in closed]
            return not still and all(run.over for run in control.runs(started) if run.incident)

        wait_until(calm, timeout=_CALM_S, what=f"everything to be well {when}", pause=_LOOK_S)


def kind_of(cause: Cause, catalogue: Sequence[Entry]) -> Kind:
    """The catalogue's word for the runbook that should answer; manual where none should."""
    found: Mapping[str, Kind] = {one.name: one.kind for one in catalogue}
    return found.get(cause.runbook, "manual")


def told_wrong(ground: Ground, key: str) -> list[str]:
    """Say what is wrong with what people were told of an incident that is over."""
    sinks, problems = ground.sinks, []
    pages = [one for one in sinks.pagerduty.pages if key in one]
    if len(pages) != 1:
        problems.append(f"PagerDuty got {len(pages)} pages of it, expected 1")
    if any(sinks.pagerduty.alerts[one].state != "resolved" for one in pages):
        problems.append("PagerDuty's page of it is not resolved")
    kinds = [one.payload["kind"] for one in sinks.received("webhook") if one.payload and key in str(one.payload)]
    if "opened" not in kinds or "closed" not in kinds:
        problems.append(f"the webhook was told {', '.join(kinds) or 'nothing'}, expected opened and closed")
    return problems
