"""table-owner: tables of LiteLLM or Langfuse belong to another role than theirs, and their next migration would be refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError
from blocks.postgres import PostgresServer, explained
from blocks.settings import Settings
from flows.health.targets import Targets
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.ownership import Give, Home, Stray, read_home, read_strays, users_of
from flows.runbook.prisma_ledger import under_way
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ASPECTS", "Application", "Known", "OwnerRequest", "Owners", "applications", "decide", "table_owner"]

NAME, SERVICE = "table-owner", "postgres"
ASPECTS = ("table-owners",)
_SHOWN = 5
"""So many statements stand in a sentence; all of them in the artifact."""


@dataclass(frozen=True)
class Application:
    """Whose database: its service on Railway, and the database's name."""

    service: str
    database: str


class OwnerRequest(RunbookRequest):
    """In whose database."""

    application: Literal["", "litellm", "langfuse"] = Field(default="", description="In whose database; empty: in both")


@flow(name=NAME, validate_parameters=True, timeout_seconds=3600)
def table_owner(request: OwnerRequest = OwnerRequest()) -> list[str]:
    """Give LiteLLM or Langfuse back what another role owns in its database.

    Symptom: everything works until an upgrade; then the application ends at every start with `must be owner of table ...`
    (42501), for its migration alters what its role does not own. It began with a restore, or with a table that somebody made,
    as another role (langfuse-docs#1883).

    Diagnosis: which tables, views, materialized views and sequences the database's owner, which is the application's role,
    cannot alter, and which types of their columns; whose they are, and whether that role uses this database right now; whether
    this worker's role may change that: it is a superuser, or a member of both roles, and the application's may create in the
    schema; whether Prisma migrates, or another flow is at work.

    Remedy: approved by a person, ALTER ... OWNER TO the application's role for exactly those, in one transaction that waits ten
    seconds for a lock and else changes nothing. What third roles were granted stays; where the role that takes backups could
    read them only through their former owner, it is granted that. The statements that lead back stand in the artifact and in
    the audit trail. Where a migration has failed of it already, run failed-prisma-migration next.

    When not to: where the former owner is somebody who uses this database, it would lose its rights: see who that is. Where the
    application connects as that role, the database has the wrong owner, and not the tables: ALTER DATABASE ... OWNER TO. Where
    both applications share one database: split-shared-database. Left alone are tables in LiteLLM's database that are not
    LiteLLM's, what belongs to an extension, other schemas, and functions.

    Args:
        request: in whose database.
    Returns: how it ended, a line for each application.
    Raises:
        NotHealed: a person is needed; has the SQL for a superuser, where that is missing.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    targets = Targets.from_settings(stack.settings)
    reader = stack.postgres.user if stack.postgres else ""
    ended = []
    for one in applications(request, stack.settings, targets):
        runbook = Owners(stack.need_postgres_admin(), one, targets, lambda: at_work(stack), reader=reader)
        ended.append(f"{one.service}: {carry_out(runbook, request, stack, about=one.database)}")
    return ended


def applications(request: OwnerRequest, settings: Settings, targets: Targets) -> list[Application]:
    """Say in whose databases: the named one, else those that the watch looks into.

    Raises:
        SettingsError: both have the same database, in which nobody can say what is whose.
    """
    known = {
        "litellm": Application("litellm", settings.litellm_database),
        "langfuse": Application("langfuse-web", settings.langfuse_database),
    }
    if settings.litellm_database == settings.langfuse_database:
        raise SettingsError(
            f"table-owner: LiteLLM and Langfuse share the database {settings.litellm_database}, and what is one's must not "
            "become the other's: run split-shared-database first"
        )
    if request.application:
        return [known[request.application]]
    watched = dict(targets.postgres.applications) if targets.postgres else {}
    return [one for one in known.values() if one.service in watched] or list(known.values())


@dataclass(frozen=True)
class Known:
    """What is known of one database.

    Attributes:
        wrong: what the check says. strays: what the application's role cannot alter. users: their owners that are connected.
        migrates: Prisma is under way. at_work: who holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    database: str
    home: Home
    strays: Sequence[Stray]
    users: Sequence[str] = ()
    migrates: bool = False
    at_work: str = ""


Ladder = Callable[[Home, Sequence[Stray]], tuple[Action, ...]]
"""Makes the actions of what has to be given back."""


def decide(known: Known, ladder: Ladder) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts, home = _facts(known), known.home
    if not known.strays:
        return Diagnosis(Verdict.NOTHING, f"{home.role} may alter everything of its own in {known.database}", facts)
    named = ", ".join(one.words for one in known.strays[:3])
    what = f"{len(known.strays)} relations or types in {known.database} are not {home.role}'s: {named}"

    def needs_a_person(why: str) -> Diagnosis:
        return Diagnosis(Verdict.PERSON, f"{what}; {why}", facts)

    if known.at_work:  # a backup, too: it keeps every table locked, and an ALTER that waits for it keeps everybody waiting
        return needs_a_person(f"{known.at_work} is under way: wait for its end")
    if known.migrates:
        return needs_a_person("Prisma migrates right now: wait for its end")
    if known.users:
        whose = f"{known.users[0]} uses this database right now, and would lose its rights to them"
        wrong_way = f"if that is the application, ALTER DATABASE {known.database} OWNER TO it; else see what it is, and stop it"
        return needs_a_person(f"{whose}: {wrong_way}")
    if why := next((why for one in known.strays if (why := home.refuses(one))), ""):
        first = "; ".join(_statements(known)[:_SHOWN])
        more = f"; and {len(known.strays) - _SHOWN} more, in the artifact" if len(known.strays) > _SHOWN else ""
        return needs_a_person(f"{why}; as a superuser, in {known.database}: {first}{more}")
    return Diagnosis(Verdict.HEALS, what, facts, ladder(home, known.strays))


def _facts(known: Known) -> dict[str, str]:
    home, strays = known.home, known.strays
    facts = {
        "checks": "; ".join(known.wrong) or "green",
        "database": f"{known.database}, of {home.role}",
        "not its own": "; ".join(one.words for one in strays) or "none",
        "their owners that are connected": ", ".join(known.users) or "none",
        "changed as": f"{home.me}, {'a superuser' if home.superuser else 'no superuser'}",
        "at work": known.at_work or ("Prisma" if known.migrates else "nobody"),
    }
    if strays:
        facts["statements"] = "; ".join(_statements(known))
        facts["way back"] = "; ".join(one.as_string() for stray in strays for one in stray.back(home.role))
    return facts


def _statements(known: Known) -> list[str]:
    return [one.give(known.home.role).as_string() for one in known.strays]


@dataclass
class Owners(Runbook):
    """What is in the database of one application.

    Attributes:
        server: as the restore role. busy: names the flow that holds the stack's lock. reader: the role that takes backups.
    """

    server: PostgresServer
    application: Application
    targets: Targets
    busy: Callable[[], str]
    reader: str = ""
    name: str = NAME
    service: str = SERVICE
    _litellm: bool = field(init=False)

    def __post_init__(self) -> None:
        """Only this application's database counts: the other one has its own run."""
        self._litellm = self.application.service == "litellm"
        if self.targets.postgres is not None:
            watched = [one for one in self.targets.postgres.applications if one[0] == self.application.service]
            self.targets = replace(self.targets, postgres=replace(self.targets.postgres, applications=tuple(watched)))

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        database = self.application.database
        wrong = self._wrong_here()
        with self.server.connect(database) as connection, explained(database, "look for owners"):
            strays = read_strays(connection, self._litellm)
            known = Known(
                wrong=wrong,
                database=database,
                home=read_home(connection),
                strays=strays,
                users=users_of(connection, strays),
                migrates=under_way(connection),
                at_work=self.busy(),
            )
        return decide(known, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: the check, and what it does not count: types."""
        database = self.application.database
        with self.server.connect(database) as connection, explained(database, "look for owners"):
            left = [f"{one.words} in {database} is not the application's" for one in read_strays(connection, self._litellm)]
        return self._wrong_here() or left

    def _wrong_here(self) -> list[str]:
        """What the check says; nothing where the application has no URL here, so that the watch leaves its database alone."""
        if self.targets.postgres is None or not self.targets.postgres.applications:
            return []
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS)

    def _ladder(self, home: Home, strays: Sequence[Stray]) -> tuple[Action, ...]:
        return (Give(self.server, self.application.database, self._litellm, home, strays, self.reader),)
