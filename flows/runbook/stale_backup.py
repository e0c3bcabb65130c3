"""stale-backup: there is no fresh backup set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prefect import flow

from blocks.errors import IntegrityError, ServiceError, StoreError
from flows import catalogue
from flows.backup.flow import BackupRequest, backup
from flows.health.checks.backups import MAIN
from flows.health.incidents import BACKUPS
from flows.health.targets import Targets
from flows.lease import LeaseRecord, holder_of
from flows.runbook import backup_runs
from flows.runbook.backup_causes import Known, decide
from flows.runbook.backup_mending import Await, Free, Resume, Take
from flows.runbook.backup_runs import Schedule
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ASPECTS", "Prefect", "Stale", "StaleRequest", "stale_backup"]

ASPECTS = (MAIN,)
HOURS = 12.0
"""A backup may take so long."""


class StaleRequest(RunbookRequest):
    """Nothing but what every runbook is told."""


@flow(name="stale-backup", validate_parameters=True, timeout_seconds=24 * 3600)
def stale_backup(request: StaleRequest = StaleRequest()) -> str:
    """Find out why there is no fresh backup set, mend what can be mended, and take one.

    Symptom: the newest good backup set is older than BACKUP_MAX_AGE_HOURS, or there is none.

    Diagnosis: whether the store answers; who holds the stack's lock, and whether that run lives; whether the schedule of
    backup/nightly or the work pool is paused, whether a worker lives; how the last run ended, and what it said; whether newer
    sets are there that a check has found to be bad.

    Remedy: wait for a backup that is under way; take the lock from a run that has ended and whose process renews it all the
    same: its token is spent, so it can commit nothing more; resume the schedule and the pool; take a backup now, by this run.

    When not to: where the store is down, or a database: heal that first, and the backup follows. Where the last runs failed for
    a reason that is still there (a full bucket, a wrong key) the backup fails again: the reason stands in what is tried.

    Args:
        request: what every runbook is told.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why.
    """
    stack = Stack.load()
    prefect = Prefect(stack.settings.work_pool)
    runbook = Stale(stack, Targets.from_settings(stack.settings), prefect, _take)
    return carry_out(runbook, request, stack, Pace(settle=30), longest=HOURS * 3600)


def _take() -> str:
    return backup(BackupRequest(label="stale-backup"))


@dataclass(frozen=True)
class Prefect:
    """The server that schedules the backups. pool: whose workers run them."""

    pool: str

    def look(self) -> Schedule:
        """See `backup_runs.look`."""
        return backup_runs.look(self.pool)

    def resume(self) -> str:
        """See `backup_runs.resume`."""
        return backup_runs.resume(self.pool)

    def state_of(self, run_id: str) -> str:
        """See `backup_runs.run_state`."""
        return backup_runs.run_state(run_id)


@dataclass
class Stale(Runbook):
    """The backups of a stack.

    Attributes:
        prefect: what schedules them. take: takes a set, and returns its id. seconds: a lock that nobody renews runs out in
            so long.
    """

    stack: Stack
    targets: Targets
    prefect: Prefect
    take: Callable[[], str]
    look: float = 5.0
    patience: float = 6 * 3600.0
    name: str = "stale-backup"
    service: str = BACKUPS

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong, faults, store_error = self.wrong(), list[str](), ""
        held: LeaseRecord | None = None
        try:
            held = self.holder()
            entries = catalogue.read(self.stack.store, self.stack.keys).entries
            faults = [f"{one.id}: {one.fault or one.checks.fault}" for one in entries[:5] if not one.good]
        except (StoreError, IntegrityError) as error:
            store_error = str(error)
        schedule, prefect_error = None, ""
        try:
            schedule = self.prefect.look()
        except ServiceError as error:
            prefect_error = str(error)
        known = Known(wrong, store_error, held, self._state(held), schedule, prefect_error, faults)
        return decide(known, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        return wrong_with(observe_services(self.targets, {BACKUPS}), BACKUPS, ASPECTS)

    def holder(self) -> LeaseRecord | None:
        """Who holds the stack's lock."""
        return holder_of(self.stack.store, self.stack.settings.backup_lease_seconds)

    def _state(self, held: LeaseRecord | None) -> str:
        """How the run is that holds the lock; empty where nobody knows."""
        try:
            return self.prefect.state_of(held.holder) if held is not None else ""
        except ServiceError:
            return ""

    def _ladder(self, known: Known) -> tuple[Action, ...]:
        rungs: list[Action] = []
        seconds = self.stack.settings.backup_lease_seconds
        if known.held is not None and known.holder_is_dead:
            rungs.append(Free(self.stack.store, known.held, seconds, self.look))
        elif known.held is not None:
            rungs.append(Await(self.holder, known.held, self.patience, self.look))
        if known.schedule is not None and known.paused:
            rungs.append(Resume(self.prefect.look, self.prefect.resume, known.paused))
        return (*rungs, Take(self.take, self.wrong))
