"""dirty-migration: a ClickHouse migration of Langfuse broke off, and langfuse-web does not start any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from prefect import flow
from pydantic import Field

from blocks.clickhouse import ClickHouseServer
from blocks.railway import RailwayApi
from flows.health.targets import Targets
from flows.runbook.clickhouse_ledger import Force, Ledger, Statement, read_ledger, read_statements, running
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.restarting import CHANGING, Waits
from flows.runbook.running import carry_out
from flows.runbook.securing import secure
from flows.runbook.starting import start_again
from flows.stack import Stack

__all__ = ["DirtyRequest", "Known", "Migration", "decide", "dirty_migration"]

SERVICE, WEB = "clickhouse", "langfuse-web"
ASPECTS = ("schema-migrations",)


class DirtyRequest(RunbookRequest):
    """What is known of the broken migration."""

    resolve: Literal["", "again", "applied"] = Field(
        default="",
        description="again: what it did is undone, or may be done twice, so Langfuse runs it once more; applied: all of it is "
        "done, go on after it; empty: decide by ClickHouse's query log, and ask a person where that does not tell",
    )


@flow(name="dirty-migration", validate_parameters=True, timeout_seconds=6 * 3600)
def dirty_migration(request: DirtyRequest = DirtyRequest()) -> str:
    """Have Langfuse go on with its ClickHouse migrations after one of them broke off.

    Symptom: langfuse-web ends at every start with `Dirty database version N. Fix and force version.`; it began with a
    deployment that was killed while it migrated, or with ClickHouse going away meanwhile (langfuse#6639, #6679).

    Diagnosis: which migration is marked dirty in `schema_migrations` and which was whole before it; by ClickHouse's query log,
    which statements of it were carried out and which failed; whether one of them still runs; whether another flow is at work.

    Remedy: a backup set of ClickHouse first, protected. Then, approved by a person, a mark in the ledger and nothing else:
    where nothing of the migration was carried out, or everything that was may be done twice (`IF NOT EXISTS`), the migration
    before it is marked whole, so that Langfuse runs this one again. Last langfuse-web is deployed once more as it is, and
    migrates. Where a statement may not be done twice it is listed: undo it by hand (the new column, index or table) and run
    this with `resolve: again`; or see that all of the migration is there, by its file `<N>_*.up.sql` in Langfuse's image, and
    run this with `resolve: applied`. The way back is the set.

    When not to: while the migration still runs: large tables take their time, and a mark beside it lets a second one begin.
    Where the log says `no migration found for version N` the image is older than the schema: go forward, or restore ClickHouse.
    Where ClickHouse has no room or memory mend that first: the migration breaks off at the same place again.

    Args:
        request: what is known.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says what was carried out, and what to do.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    place = environment_if_any(stack.settings)
    with ExitStack() as opened:
        runbook = Migration(
            server=stack.need_clickhouse(),
            databases=stack.clickhouse_databases(),
            targets=Targets.from_settings(stack.settings),
            busy=lambda: at_work(stack),
            secure=partial(secure, stack, components=["clickhouse"]),
            api=opened.enter_context(place.open()) if place else None,
            resolve=request.resolve,
        )
        return carry_out(runbook, request, stack, Pace(settle=120))


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check of the ledger says. ledger: None where no database has one. web: what langfuse-web's checks say.
        statements: of the broken migration, None where nobody can tell. running: statements that change the structure now.
        at_work: the flow that holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    ledger: Ledger | None
    web: Sequence[str] = ()
    statements: Sequence[Statement] | None = None
    running: int = 0
    at_work: str = ""


Ladder = Callable[[Ledger, int | None], tuple[Action, ...]]
"""Makes the actions of the version that shall be marked whole; None: the ledger is, and langfuse-web has to start."""


def decide(known: Known, resolve: str, ladder: Ladder) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts = _facts(known)
    ledger = known.ledger
    if ledger is not None and not ledger.newest.dirty and known.web and not known.at_work and (rungs := ladder(ledger, None)):
        return Diagnosis(Verdict.HEALS, f"no migration is dirty (any more), and {known.web[0]}", facts, rungs)
    if ledger is None or not ledger.newest.dirty:
        return Diagnosis(Verdict.NOTHING, "no ClickHouse migration of Langfuse is dirty", facts)
    version, what = ledger.newest.version, f"ClickHouse migration {ledger.newest.version} of Langfuse broke off"
    if known.at_work in CHANGING:
        return Diagnosis(Verdict.PERSON, f"{what}; {known.at_work} is under way: wait for its end", facts)
    if known.running:
        return Diagnosis(Verdict.PERSON, f"{what}, or still runs: {known.running} statements do; wait for them", facts)
    if resolve == "applied":
        return Diagnosis(Verdict.HEALS, f"{what}; somebody says that all of it is there", facts, ladder(ledger, version))
    if resolve == "again":
        sentence = f"{what}; somebody says that it may run again"
        return Diagnosis(Verdict.HEALS, sentence, facts, ladder(ledger, ledger.before))
    todo = (
        f"compare the tables with {version}_*.up.sql in Langfuse's image, then run this with resolve: again or resolve: applied"
    )
    if known.statements is None:
        return Diagnosis(Verdict.PERSON, f"{what}, and the query log does not say how far it came: {todo}", facts)
    once = [one for one in known.statements if one.done and not one.repeatable]
    if once:
        undo = f"it did what may not be done twice: {once[0].text}"
        return Diagnosis(Verdict.PERSON, f"{what}; {undo}; undo that or see that the rest is there: {todo}", facts)
    done = sum(one.done for one in known.statements)
    how = f"what it did ({done} statements) may be done twice" if done else "nothing of it was carried out"
    return Diagnosis(Verdict.HEALS, f"{what}; {how}", facts, ladder(ledger, ledger.before))


def _facts(known: Known) -> dict[str, str]:
    facts = {"checks": "; ".join(known.wrong) or "green", "at work on the stack": known.at_work or "nobody"}
    if known.ledger is None:
        return {**facts, "ledger": "no database has one"}
    newest = known.ledger.newest
    facts["ledger"] = f"{known.ledger.database}: {newest.version} is {'dirty' if newest.dirty else 'whole'}"
    facts["whole before it"] = str(known.ledger.before)
    if newest.dirty:
        facts["statements that run"] = str(known.running)
        shown = "the query log does not say" if known.statements is None else "none that is logged"
        facts["statements of it"] = "; ".join(one.words for one in known.statements or ()) or shown
    return facts


@dataclass
class Migration(Runbook):
    """The ledger of one server.

    Attributes:
        databases: that Langfuse's may be one of. busy: names the flow that holds the stack's lock.
        secure: takes a backup set under a label. api: Railway's; None where there is none.
    """

    server: ClickHouseServer
    databases: Sequence[str]
    targets: Targets
    busy: Callable[[], str]
    secure: Callable[[str], str]
    api: RailwayApi | None = None
    resolve: str = ""
    waits: Waits = field(default_factory=lambda: Waits(deployment=2700))
    name: str = "dirty-migration"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong, web, busy = self._wrong_here(), self._wrong_web(), self.busy()
        with self.server.client() as client:
            ledger = read_ledger(client, self.databases)
            known = Known(wrong, ledger, web, at_work=busy)
            if ledger is not None and ledger.newest.dirty:
                statements = read_statements(client, ledger.database)
                known = replace(known, statements=statements, running=running(client, ledger.database))
        return decide(known, self.resolve, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: the ledger's check, and langfuse-web's, which starts only when that is green."""
        return [*self._wrong_here(), *self._wrong_web()]

    def _wrong_here(self) -> list[str]:
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS)

    def _wrong_web(self) -> list[str]:
        return wrong_with(observe_services(self.targets, {WEB}), WEB) if self.targets.langfuse_web else []

    def _ladder(self, ledger: Ledger, version: int | None) -> tuple[Action, ...]:
        start = start_again(self.api, WEB, self._web_is_well, self.waits)
        if version is None:
            return start
        broken = ledger.newest.version
        take = partial(self.secure, f"before dirty-migration {broken}")
        return (Force(self.server, ledger.database, broken, version, take), *start)

    def _web_is_well(self) -> str:
        """Say that langfuse-web need not be started."""
        return f"{WEB} is well by now" if self.targets.langfuse_web and not self._wrong_web() else ""
