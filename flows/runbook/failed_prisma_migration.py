"""failed-prisma-migration: a Postgres migration of LiteLLM or Langfuse failed, and the application does not start any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError
from blocks.postgres import PostgresServer, explained
from blocks.railway import RailwayApi
from blocks.settings import Settings
from flows.health.targets import Targets
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.prisma_ledger import Failed, Resolve, is_of, present, read_failed, under_way
from flows.runbook.restarting import CHANGING, Waits
from flows.runbook.running import carry_out
from flows.runbook.securing import secure
from flows.runbook.sql_effects import Effect, commits_itself, effects
from flows.runbook.starting import start_again
from flows.stack import Stack

__all__ = ["Application", "Known", "PrismaMigration", "PrismaRequest", "applications", "decide", "failed_prisma_migration"]

SERVICE = "postgres"


@dataclass(frozen=True)
class Application:
    """Whose migrations: its service on Railway, its database, and what the check of its ledger is called."""

    service: str
    database: str
    aspect: str


class PrismaRequest(RunbookRequest):
    """Whose migration, and what is known of it."""

    application: Literal["", "litellm", "langfuse"] = Field(default="", description="Whose; empty: the incident's, else both")
    migration_sql: str = Field(
        default="",
        max_length=500_000,
        description="Text of the failed migration's migration.sql, out of the image: with it the runbook sees what of it is "
        "there; its checksum is compared with the ledger's",
    )
    resolve: Literal["", "rolled-back", "applied"] = Field(
        default="", description="What a person has found out; empty: decide by what is there"
    )


@flow(name="failed-prisma-migration", validate_parameters=True, timeout_seconds=6 * 3600)
def failed_prisma_migration(request: PrismaRequest = PrismaRequest()) -> list[str]:
    """Have LiteLLM or Langfuse go on with its Postgres migrations after one of them failed.

    Symptom: the application ends at every start with P3009 (`migrate found failed migrations in the target database`), after
    P3018 or a deployment that was killed while it migrated (langfuse#6514).

    Diagnosis: the rows of `_prisma_migrations` that neither ended nor were taken back, with the condition that Postgres gave;
    whether Prisma migrates right now; with the migration's SQL, proven to be the right one by its checksum, which of its
    tables, columns, indexes, types and constraints are there and which are missing.

    Remedy: a backup set of the database first, protected. Then, approved by a person, what `prisma migrate resolve` would
    write: rolled back, where Postgres refused it (a script is one transaction there, so nothing of it stayed) or nothing of it
    is there: it runs again at the next start; applied, where all of it is there and only the ledger does not know. Then the
    application is deployed once more as it is. The way back is the set.

    When not to: where part of it is there and part is not, nothing is marked: bring the schema to one side by hand first. Where
    the cause is still there it fails again at the next start: duplicate rows under a new unique index, a role that does not own
    the tables (`must be owner`: table-owner), no room on the volume. Never mark what nobody has looked at as applied.

    Args:
        request: whose migration.
    Returns: how it ended, a line for each application.
    Raises:
        NotHealed: a person is needed; says what is there and what is missing.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    place = environment_if_any(stack.settings)
    with ExitStack() as opened:
        api = opened.enter_context(place.open()) if place else None
        ended = []
        for one in applications(request, stack.settings):
            runbook = PrismaMigration(
                server=stack.need_postgres_admin(),
                application=one,
                targets=Targets.from_settings(stack.settings),
                busy=lambda: at_work(stack),
                secure=partial(secure, stack, components=[f"postgres/{one.database}"]),
                api=api,
                request=request,
            )
            ended.append(f"{one.service}: {carry_out(runbook, request, stack, Pace(settle=120), about=one.database)}")
        return ended


def applications(request: PrismaRequest, settings: Settings) -> list[Application]:
    """Say whose migrations are meant.

    Raises:
        SettingsError: the incident is about something else.
    """
    known = {
        "litellm": Application("litellm", settings.litellm_database, "migrations-litellm"),
        "langfuse": Application("langfuse-web", settings.langfuse_database, "migrations-langfuse"),
    }
    if request.application:
        return [known[request.application]]
    patient = request.patient()
    if patient is None:
        return list(known.values())
    found = [one for one in known.values() if one.aspect == patient.aspect]
    if not found:
        raise SettingsError(
            f"failed-prisma-migration: {patient.aspect} is no ledger of Prisma's; expected one of "
            f"{', '.join(one.aspect for one in known.values())}"
        )
    return found


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        failed: oldest first. application: what the checks of the application say. there: each effect of the SQL that was
            given, and whether it is as the migration leaves it; None where no fitting SQL was given.
        commits: that SQL is no single transaction. under_way: Prisma migrates. at_work: who holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    failed: Sequence[Failed]
    application: Sequence[str] = ()
    there: Sequence[tuple[Effect, bool]] | None = None
    commits: bool = False
    under_way: bool = False
    at_work: str = ""


Ladder = Callable[[Failed | None, bool, str], tuple[Action, ...]]
"""Makes the actions of a failed migration, whether it is applied, and why; of None: only the application has to start."""


def decide(known: Known, request: PrismaRequest, ladder: Ladder) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts = _facts(known)
    if not known.failed:
        if known.application and not known.at_work and not known.under_way and (rungs := ladder(None, False, "")):
            return Diagnosis(Verdict.HEALS, f"no migration is failed (any more), and {known.application[0]}", facts, rungs)
        return Diagnosis(Verdict.NOTHING, "no migration has failed", facts)
    first = known.failed[0]
    what = f"migration {first.words}"
    if known.at_work in CHANGING:
        return Diagnosis(Verdict.PERSON, f"{what}; {known.at_work} is under way: wait for its end", facts)
    if known.under_way:
        return Diagnosis(Verdict.PERSON, f"{what}; Prisma migrates right now: wait for its end", facts)
    if request.resolve:
        why = "somebody has looked, and says so"
        return Diagnosis(Verdict.HEALS, what, facts, ladder(first, request.resolve == "applied", why))
    todo = f"give its migration.sql, or look yourself and run this with resolve; its file is {_where(first)}"
    if known.there is None and request.migration_sql:
        return Diagnosis(Verdict.PERSON, f"{what}; the SQL that was given is not its own, by the checksum: {todo}", facts)
    if known.there:
        return _by_what_is_there(known, first, facts, ladder)
    if first.reported and not known.commits:
        why = "Postgres refused it, and takes all of a refused script back"
        return Diagnosis(Verdict.HEALS, what, facts, ladder(first, False, why))
    return Diagnosis(Verdict.PERSON, f"{what}; nobody knows how far it came: {todo}", facts)


def _by_what_is_there(known: Known, first: Failed, facts: dict[str, str], ladder: Ladder) -> Diagnosis:
    there = known.there or ()
    done = [one for one, right in there if right]
    missing = [one for one, right in there if not right]
    what = f"migration {first.words}"
    if not missing:
        why = f"all {len(done)} things that it makes or drops are as it leaves them"
        return Diagnosis(Verdict.HEALS, what, facts, ladder(first, True, why))
    if not done:
        why = f"none of the {len(missing)} things that it makes or drops is as it leaves them"
        return Diagnosis(Verdict.HEALS, what, facts, ladder(first, False, why))
    half = f"{done[0].words} is done, {missing[0].words} is not: bring the schema to one side by hand, then run this again"
    return Diagnosis(Verdict.PERSON, f"{what}, half of it ({len(done)} of {len(there)}): {half}", facts)


def _where(failed: Failed) -> str:
    return f"migrations/{failed.name}/migration.sql of the image (litellm_proxy_extras, packages/shared/prisma)"


def _facts(known: Known) -> dict[str, str]:
    facts = {"checks": "; ".join([*known.wrong, *known.application]) or "green"}
    facts["failed migrations"] = "; ".join(one.words for one in known.failed) or "none"
    facts["at work"] = known.at_work or ("Prisma" if known.under_way else "nobody")
    if known.there is not None:
        facts["of it is there"] = "; ".join(one.words for one, right in known.there if right) or "nothing"
        facts["of it is missing"] = "; ".join(one.words for one, right in known.there if not right) or "nothing"
    return facts


@dataclass
class PrismaMigration(Runbook):
    """The ledger of one application.

    Attributes:
        server: as the restore role. busy: names the flow that holds the stack's lock. secure: takes a set under a label.
        api: Railway's; None where there is none.
    """

    server: PostgresServer
    application: Application
    targets: Targets
    busy: Callable[[], str]
    secure: Callable[[str], str]
    api: RailwayApi | None = None
    request: PrismaRequest = field(default_factory=PrismaRequest)
    waits: Waits = field(default_factory=lambda: Waits(deployment=2700))
    name: str = "failed-prisma-migration"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        database, script = self.application.database, self.request.migration_sql
        known = Known(self._wrong_here(), [], self._wrong_application(), at_work=self.busy())
        with self.server.connect(database) as connection, explained(database, "read the ledger"):
            failed = read_failed(connection)
            known = replace(known, failed=failed, under_way=under_way(connection))
            if failed and script and is_of(script, failed[0]):
                known = replace(known, there=present(connection, effects(script)), commits=commits_itself(script))
        return decide(known, self.request, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: the ledger's check, which leaves young rows alone, every row, and the application's checks."""
        database = self.application.database
        with self.server.connect(database) as connection, explained(database, "read the ledger"):
            left = [f"migration {one.words}" for one in read_failed(connection)]
        return [*(self._wrong_here() or left), *self._wrong_application()]

    def _wrong_here(self) -> list[str]:
        """What the check says; nothing where the application has no URL here, so that the watch leaves its database alone."""
        watched = self.targets.postgres.applications if self.targets.postgres else ()
        if self.application.service not in dict(watched):
            return []
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, (self.application.aspect,))

    def _wrong_application(self) -> list[str]:
        service = self.application.service
        watched = self.targets.litellm if service == "litellm" else self.targets.langfuse_web
        return wrong_with(observe_services(self.targets, {service}), service) if watched else []

    def _ladder(self, failed: Failed | None, applied: bool, why: str) -> tuple[Action, ...]:
        start = start_again(self.api, self.application.service, self._well, self.waits)
        if failed is None:
            return start
        take = partial(self.secure, f"before resolving {failed.name}"[:100])
        return (Resolve(self.server, self.application.database, failed, applied, why, take), *start)

    def _well(self) -> str:
        """Say that the application need not be started."""
        watched = self.targets.litellm if self.application.service == "litellm" else self.targets.langfuse_web
        return f"{self.application.service} is well by now" if watched and not self._wrong_application() else ""
