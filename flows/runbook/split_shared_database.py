"""split-shared-database: LiteLLM and Langfuse share one Postgres database, and an upgrade of LiteLLM may drop Langfuse's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from prefect import flow
from pydantic import Field

from blocks.errors import GuardRefused
from blocks.railway import PROTECTED
from flows.backup.sets import new_set_id
from flows.deploy.flow import environment_of
from flows.deploy.rollout import deploy_now
from flows.health.maintenance import maintenance
from flows.health.observation import Status
from flows.health.targets import Targets
from flows.journals import load_all, save
from flows.lease import utc_now
from flows.report import flow_run_id, line
from flows.restore.postgres_swap import written_since
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services
from flows.runbook.running import carry_out
from flows.runbook.split_plan import SplitPlan, make_plan, shared_databases
from flows.runbook.split_steps import steps_of
from flows.stack import Stack
from flows.upgrade.carry_out import WINDOW
from flows.upgrade.engine import run_steps, undo_steps
from flows.upgrade.journal import UpgradeJournal
from flows.upgrade.live import Live
from flows.upgrade.look import Eyes
from flows.upgrade.plan import plan_hash
from flows.upgrade.postgres.carry import proof_of
from flows.upgrade.postgres.moving import aside
from flows.upgrade.steps import Context
from flows.upgrade.steps import Pace as StepPace

__all__ = ["FOLDER", "Shared", "SplitRequest", "TakeBack", "foreign", "journals", "split_shared_database"]

FOLDER = "splits"
_HOURS = 26
SERVICE = "postgres"
ASPECT = "foreign-tables"


class SplitRequest(RunbookRequest):
    """What is to be done."""

    action: Literal["split", "undo"] = Field(
        default="split",
        description="split: give each its own database, or go on where that broke off. undo: lead back to the shared one",
    )
    backup_hours: int = Field(default=_HOURS, ge=1, le=24 * 14, description="The proven set of the database may be so old")


@flow(name="split-shared-database", validate_parameters=True, timeout_seconds=12 * 3600)
def split_shared_database(request: SplitRequest = SplitRequest()) -> str:
    """Give LiteLLM and Langfuse a Postgres database each, where they share one.

    Symptom: tables in LiteLLM's database that are not LiteLLM's. Both work, until LiteLLM is upgraded or starts with another
    resolver: what its schema does not know it drops, which was all 71 tables of Langfuse (litellm#9558).

    Diagnosis: which database holds both, which tables and views are whose, how large it is, which variables of which services
    lead to it; whether a backup set of it is proven. All of it, and every step, is in the plan; no more with `dry_run`.

    Remedy: ask; stop LiteLLM and Langfuse; copy the database twice beside it, compare every row and definition of both copies
    with what was dumped, and drop from each copy what is the other's. Only then put the shared one aside, closed
    (`..__kept_..`), give the copies their names (`LITELLM_DATABASE`, `LANGFUSE_DATABASE`), change the variables, see that each
    URL gets in, start both. What fails before the end is undone by itself. `action: undo` leads back to the shared database;
    what was written since stays in databases called `..__undone_..`. The old one is dropped by a person, when nobody wants
    back.

    When not to: for tables that are neither's: whose they are only a person knows, who moves them to a database of their own or
    drops them. While an upgrade or a migration of either is half done; through a pooler that this project does not know. The
    downtime is two dumps and restores. Afterwards give each application a role of its own, without rights on the other's
    database: this leaves the roles as they are.

    Args:
        request: what is to be done.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed: it may not begin, and why; or it broke off, and what was undone.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    if request.incident and environment_if_any(stack.settings) is None:
        line(f"{SERVICE} is left to people, who have been told: there is no token of Railway's API, so nobody can be led over")
        return Verdict.PERSON.value
    with environment_of(stack.settings).open(allow=PROTECTED) as api:
        eyes = Eyes(stack, api, Live(stack))
        look = partial(foreign, Targets.from_settings(stack.settings))
        runbook = TakeBack(eyes) if request.action == "undo" else Shared(eyes, look, request.backup_hours)
        ended = carry_out(runbook, request, stack, Pace(settle=10))
        if ended == "healed":
            hand_over(eyes)
        return ended


def foreign(targets: Targets) -> list[str]:
    """Say what the watch's check of LiteLLM's database finds, a sentence where it is not green."""
    found = observe_services(targets, {SERVICE})
    return [one.sentence for one in found if one.aspect == ASPECT and one.status is not Status.OK]


class SplitContext(Context):
    """A context whose journal stands apart from those of upgrades: their flows would not know its steps."""

    def save(self) -> None:
        """As in `Context`."""
        save(self.stack.store, FOLDER, self.journal)


def journals(stack: Stack) -> list[UpgradeJournal]:
    """Every split of the stack, oldest first."""
    return load_all(stack.store, FOLDER, UpgradeJournal)


@dataclass
class Shared(Runbook):
    """The server's shared database.

    Attributes:
        foreign: as the function. hours: that the proven set may be old. pace: of the steps. documents: this project's blocks
            are on a Prefect server.
    """

    eyes: Eyes
    foreign: Callable[[], Sequence[str]]
    hours: int = _HOURS
    pace: StepPace = field(default_factory=StepPace)
    documents: bool = True
    name: str = "split-shared-database"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        stack = self.eyes.stack
        if begun := _open(stack):
            plan = SplitPlan.model_validate(begun.plan)
            return Diagnosis(
                Verdict.HEALS,
                f"the split of {plan.shared} that began at {begun.begun_at:%Y-%m-%d %H:%M} UTC broke off, {begun.phase}",
                plan.facts,
                (Carry(self.eyes, plan, begun, self.pace),),
            )
        found = shared_databases(aside(stack.need_postgres_admin()))
        facts = {"shared databases": ", ".join(found) or "none"}
        if not found:
            what = "LiteLLM and Langfuse share no database"
            if others := self.foreign():
                return Diagnosis(Verdict.PERSON, f"{what}, so what follows is for a person to move or drop: {others[0]}", facts)
            return Diagnosis(Verdict.NOTHING, what, facts)
        if len(found) > 1:
            return Diagnosis(Verdict.PERSON, f"{', '.join(found)} have tables of both: which one is in use?", facts)
        if busy := at_work(stack):
            return Diagnosis(Verdict.PERSON, f"{busy} is at work; run this again when it has ended", facts)
        try:
            plan = make_plan(self.eyes, found[0], hours=self.hours, documents=self.documents)
        except GuardRefused as error:
            return Diagnosis(Verdict.PERSON, str(error).partition("nothing was changed: ")[2] or str(error), facts)
        journal = UpgradeJournal(
            id=new_set_id(utc_now()),
            kind=plan.kind,
            plan=plan.model_dump(mode="json"),
            plan_hash=plan_hash(plan),
            run=flow_run_id(),
        )
        steps = {f"step {number}": step.describe() for number, step in enumerate(steps_of(plan), 1)}
        sentence = f"{plan.shared} has the tables of LiteLLM and of Langfuse"
        return Diagnosis(
            Verdict.HEALS, sentence, {**plan.facts, **plan.passing, **steps}, (Carry(self.eyes, plan, journal, self.pace),)
        )

    def wrong(self) -> list[str]:
        """As in `Runbook`: a database that takes connections and has the tables of both, or a split that is half done."""
        stack = self.eyes.stack
        found = shared_databases(aside(stack.need_postgres_admin()))
        open_ones = [f"the split {begun.id} is {begun.phase}"] if (begun := _open(stack)) else []
        return [*(f"{one} has the tables of LiteLLM and of Langfuse" for one in found), *open_ones]


@dataclass
class TakeBack(Runbook):
    """The way back from the last split. pace: as of `Shared`."""

    eyes: Eyes
    pace: StepPace = field(default_factory=StepPace)
    name: str = "split-shared-database"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        last = _last(self.eyes.stack)
        if last is None or last.phase == "undone":
            return Diagnosis(Verdict.NOTHING, "there is no split to take back", {"splits": str(len(journals(self.eyes.stack)))})
        plan, admin = SplitPlan.model_validate(last.plan), aside(self.eyes.stack.need_postgres_admin())
        if last.phase == "done" and not admin.exists(plan.kept):
            return Diagnosis(Verdict.PERSON, f"{plan.kept} is gone, so there is nothing to go back to", plan.facts)
        if busy := at_work(self.eyes.stack):
            return Diagnosis(Verdict.PERSON, f"{busy} is at work; run this again when it has ended", plan.facts)
        written = {one: written_since(admin, one, "the split") for one in plan.targets if last.phase == "done"}
        sentence = f"the split of {plan.shared} ({last.phase}) can be taken back"
        return Diagnosis(
            Verdict.HEALS, sentence, {**plan.facts, **written}, (Carry(self.eyes, plan, last, self.pace, back=True),)
        )

    def wrong(self) -> list[str]:
        """As in `Runbook`: until it is taken back."""
        last = _last(self.eyes.stack)
        return [f"the split {last.id} is {last.phase}"] if last is not None and last.phase != "undone" else []


@dataclass(frozen=True)
class Carry(Action):
    """Carries a split out, goes on with one, or takes it back.

    Attributes:
        journal: of it. back: take it back.
    """

    eyes: Eyes
    plan: SplitPlan
    journal: UpgradeJournal
    pace: StepPace
    back: bool = False

    @property
    def asks(self) -> str:
        """As in `Action`."""
        if self.back:
            behind = " and ".join(map(self.plan.undone, self.plan.targets))
            return f"LiteLLM and Langfuse are away meanwhile; what was written since is left behind, in {behind}"
        return f"LiteLLM and Langfuse are away meanwhile; {self.plan.shared} is kept, closed, for the way back"

    def describe(self) -> str:
        """As in `Action`."""
        both = " and ".join(self.plan.targets)
        return f"lead back from {both} to {self.plan.shared}" if self.back else f"split {self.plan.shared} into {both}"

    def do(self) -> str:
        """As in `Action`.

        Raises:
            UpgradeFailed: a step failed; says which, and that all was undone, or what was not.
        """
        stack = self.eyes.stack
        steps, prove = steps_of(self.plan), proof_of(self.plan)
        with stack.exclusive("split-shared-database") as lease, _expected(stack, self.plan):
            context = SplitContext(stack, self.eyes.api, self.journal, lease, self.eyes.outside, self.pace)
            if self.back or self.journal.phase == "undoing":
                return undo_steps(context, self.journal, steps, prove=prove)
            run_steps(context, self.journal, steps, prove=prove)
        return (
            f"{self.plan.shared} is {' and '.join(self.plan.targets)} now; kept as {self.plan.kept}, drop that by hand one day"
        )


def hand_over(eyes: Eyes) -> None:
    """Deploy this project's own worker with the names that it has now, as the very last: this run may end with it."""
    last = journals(eyes.stack)[-1]
    for one in SplitPlan.model_validate(last.plan).consumers:
        if one.protected and one.deployment:
            line(f"{one.service}: deployed with the variables that are set now; a run that works in it ends with that")
            deploy_now(eyes.api, one.service_id)


@contextmanager
def _expected(stack: Stack, plan: SplitPlan) -> Iterator[None]:
    """Tell the watch to expect it; outside a flow run there is no window."""
    if not flow_run_id():
        yield
        return
    services = [SERVICE, *plan.concerned]
    with maintenance(stack.name, services, f"split of {plan.shared}", WINDOW, who="split-shared-database"):
        yield


def _open(stack: Stack) -> UpgradeJournal | None:
    return next((one for one in journals(stack) if one.phase in ("doing", "undoing")), None)


def _last(stack: Stack) -> UpgradeJournal | None:
    return next(iter(reversed(journals(stack))), None)
