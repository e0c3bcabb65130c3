"""failed-drill: a backup set does not restore to what it was, or none was proven lately."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prefect import flow

from blocks.errors import IntegrityError, NotHealed, SettingsError, StoreError
from flows import catalogue
from flows.backup.flow import BackupRequest, backup
from flows.catalogue import Entry
from flows.drill.flow import DrillRequest, drill
from flows.health.checks.backups import DRILL
from flows.health.incidents import BACKUPS
from flows.health.targets import Targets
from flows.runbook.drills import Known, decide, fresh_set
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ASPECTS", "DrillFailedRequest", "Unproven", "failed_drill"]

ASPECTS = (DRILL,)
HOURS = 12.0
"""A backup may take so long, and so may a drill."""


class DrillFailedRequest(RunbookRequest):
    """Nothing but what every runbook is told."""


@flow(name="failed-drill", validate_parameters=True, timeout_seconds=36 * 3600)
def failed_drill(request: DrillFailedRequest = DrillFailedRequest()) -> str:
    """Have a backup set again that is proven to restore.

    Symptom: the last drill failed: what was restored is not what the manifest says, or an object of the set is damaged. Or no
    full drill has proven any set within DRILL_MAX_AGE_HOURS.

    Diagnosis: which set, and what differed; which sets are a difference to it, and so cannot be relied on either; which set was
    proven last; whether there is an age identity here, without which nothing can be opened.

    Remedy: where the last drill failed: take a fresh set, full, so that it shares nothing of ClickHouse with the bad one, and
    drill it. Where drills only stayed away: drill the newest good set, and only if that fails take a fresh one. The record of
    the failed drill is the mark on the bad set: no restore, no difference and no copy of `latest` uses it. Prune never deletes
    the set that was proven last.

    When not to: where the fresh set fails as well: then the store, an engine or the drill itself is the cause (a disk that
    lies, another version of an extension): do not delete anything, and look at what both drills name. A drill that could not
    begin (no space, no memory) is no failed drill: it says what it wants in its run.

    Args:
        request: what every runbook is told.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why.
    """
    stack = Stack.load()
    runbook = Unproven(stack, Targets.from_settings(stack.settings), _take, _drill)
    return carry_out(runbook, request, stack, Pace(settle=30), longest=HOURS * 3600)


def _take() -> str:
    return backup(BackupRequest(label="failed-drill", full=True))


def _drill(set_id: str) -> None:
    drill(DrillRequest(set_id=set_id))


@dataclass
class Unproven(Runbook):
    """The backups of a stack.

    Attributes:
        take: takes a full set, and returns its id. drill: proves one by its id.
    """

    stack: Stack
    targets: Targets
    take: Callable[[], str]
    drill: Callable[[str], None]
    name: str = "failed-drill"
    service: str = BACKUPS

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong, entries, error, blind = self.wrong(), list[Entry](), "", ""
        try:
            entries = self.entries()
        except (StoreError, IntegrityError) as failed:
            error = str(failed)
        try:
            self.stack.keys.own_recipient()
        except SettingsError as failed:
            blind = str(failed)
        known = Known(wrong, entries, error, blind, at_work(self.stack))
        return decide(known, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        return wrong_with(observe_services(self.targets, {BACKUPS}), BACKUPS, ASPECTS)

    def entries(self) -> list[Entry]:
        """The committed sets, newest first."""
        return catalogue.read(self.stack.store, self.stack.keys).entries

    def _ladder(self, known: Known) -> tuple[Action, ...]:
        fresh = (_Fresh(self), _Drill(self))
        return fresh if known.failed is not None else (_Drill(self), *fresh)


@dataclass(frozen=True)
class _Fresh(Action):
    """Takes a full set, which is then drilled."""

    runbook: Unproven

    @property
    def settles(self) -> bool:
        """As in `Action`: it proves nothing yet."""
        return False

    def describe(self) -> str:
        """As in `Action`."""
        return "take a fresh backup set of everything, full"

    def needless(self) -> str:
        """As in `Action`."""
        found = fresh_set(self.runbook.entries())
        return f"{found.id} was taken since, and nobody has drilled it" if found else ""

    def do(self) -> str:
        """As in `Action`."""
        return f"committed {self.runbook.take()}"


@dataclass(frozen=True)
class _Drill(Action):
    """Drills the newest good set."""

    runbook: Unproven

    def describe(self) -> str:
        """As in `Action`."""
        return "drill the newest good set: restore it to a scratch place, compare everything, throw it away"

    def needless(self) -> str:
        """As in `Action`."""
        return "" if self.runbook.wrong() else "the newest drill is well"

    def do(self) -> str:
        """As in `Action`.

        Raises:
            DrillFailed: what was restored is not what the manifest says. NotHealed: there is no good set.
        """
        newest = next((one for one in self.runbook.entries() if one.good), None)
        if newest is None:
            raise NotHealed("there is no good backup set to drill; see the last run of backup/nightly")
        self.runbook.drill(newest.id)
        return f"{newest.id} is proven"
