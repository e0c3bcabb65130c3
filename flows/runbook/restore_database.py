"""restore-database: the database of an application is missing from Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from prefect import flow
from pydantic import Field

from blocks.errors import NotHealed, StackError
from blocks.postgres import explained
from blocks.railway import RailwayApi
from flows import catalogue
from flows.catalogue import Entry
from flows.health.targets import Targets
from flows.lease import utc_now
from flows.restore.checks import refuse_unfit
from flows.restore.choose import chosen
from flows.restore.flow import RestoreRequest, restore
from flows.restore.journal import RestoreJournal, load_all
from flows.restore.plan import plan_restore
from flows.runbook.environment import environment_if_any, instance_of
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.missing_databases import USERS, Brought, Known, Lost, brought_back, by_set, decide, died, newest_with
from flows.runbook.restarting import Waits
from flows.runbook.running import carry_out
from flows.runbook.starting import start_again
from flows.stack import Stack

__all__ = ["ASPECTS", "DatabaseRequest", "Databases", "Restores", "restore_database"]

SERVICE = "postgres"
ASPECTS = ("databases",)
HOURS = 12.0
"""A restore may take so long."""


class DatabaseRequest(RunbookRequest):
    """From which set."""

    set_id: str = Field(default="", max_length=64, description="Id of the set to restore from; empty: the newest good one")


@flow(name="restore-database", validate_parameters=True, timeout_seconds=24 * 3600)
def restore_database(request: DatabaseRequest = DatabaseRequest()) -> str:
    """Bring back a database of LiteLLM or Langfuse that is missing from Postgres.

    Symptom: the sweep says that there is no database litellm or langfuse; Postgres answers, its application is down with it and
    is listed as a casualty. Somebody dropped or renamed the database, or set LITELLM_DATABASE or LANGFUSE_DATABASE to a name
    that there never was.

    Diagnosis: which databases are missing, and who uses them; for each the newest good backup set that has it, how old that is,
    which is what is lost, and whether a drill proved it; what a restore would do, or why it would be refused (other keys, no
    age identity, an older server); whether a restore died in its swap; whether another flow is at work.

    Remedy: a restore that died in its swap is finished. Otherwise, approved by a person, exactly the missing databases are
    restored from that set, beside everything else, with their owners and rights, compared with the manifest, and only then
    given their names. An application whose checks do not get green with that, or that runs another image than when the set was
    taken and so has to migrate, is started again. What Langfuse received meanwhile is in ClickHouse and stays there; projects,
    users and keys that are younger than the set are gone from Postgres, and the traces of such projects belong to nobody.

    When not to: where somebody renamed the database, rename it back: nothing is lost then. Where the name in the settings is
    wrong, correct the setting. Where the application has made the database anew (Prisma does, as a role that may), nothing is
    missing and this does nothing: restore with restore/on-demand and `replace`, which keeps the empty one for undo. Where a
    role was dropped as well, the restore makes it without a password: set it (ALTER ROLE ... LOGIN PASSWORD ...) to that of the
    application's DATABASE_URL. Where only the second store has a good set, use restore/on-demand with `source: copy`.

    Args:
        request: from which set.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why.
        ApprovalMissing: nobody approved; nothing was restored.
    """
    stack = Stack.load()
    place = environment_if_any(stack.settings)
    with ExitStack() as opened:
        runbook = Databases(
            stack=stack,
            targets=Targets.from_settings(stack.settings),
            restores=Restores(stack.name),
            api=opened.enter_context(place.open()) if place else None,
            set_id=request.set_id,
        )
        return carry_out(runbook, request, stack, Pace(settle=90), longest=HOURS * 3600)


@dataclass(frozen=True)
class Restores:
    """The restore flow, as this runbook has it run. stack: the name that approves what a person has approved already."""

    stack: str

    def restore(self, set_id: str, databases: Sequence[str]) -> str:
        """Restore databases from a set; returns the restore's id. Those that exist and hold anything are refused."""
        components = [f"postgres/{name}" for name in databases]
        journal = restore(RestoreRequest(set_id=set_id, components=components, confirm=self.stack))
        if journal is None:
            raise NotHealed(f"the restore from {set_id} says nothing of what it did; see its run")
        return journal.id

    def finish(self) -> None:
        """Settle restores that died."""
        restore(RestoreRequest(action="finish"))


@dataclass
class Databases(Runbook):
    """The applications' databases on one server.

    Attributes:
        restores: restores, and finishes restores. api: Railway's; None where there is none.
        set_id: the only set that is meant; empty: any.
    """

    stack: Stack
    targets: Targets
    restores: Restores
    api: RailwayApi | None = None
    set_id: str = ""
    waits: Waits = field(default_factory=lambda: Waits(deployment=2700))
    name: str = "restore-database"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        known, now = Known(self._wrong_here(), at_work=at_work(self.stack)), utc_now()
        try:
            lost = [Lost(name, self._users(name)) for name in self.missing()]
            known = replace(known, lost=lost, others=self._others() if lost else ())
        except StackError as error:
            return decide(replace(known, silent=str(error)), now, lambda: ())
        try:
            journals = load_all(self.stack.store)
            known = replace(known, lost=self._found(known.lost), died=died(journals, self._names()))
        except StackError as error:
            return decide(replace(known, store_error=str(error)), now, lambda: ())
        try:
            known = replace(known, planned=[said for group in by_set(known.lost).values() for said in self._planned(group)])
        except StackError as error:
            known = replace(known, unfit=str(error))
        if not known.lost:
            known = replace(known, waiting=self._waiting(brought_back(journals, now)))
        return decide(known, now, lambda: self._ladder(known, journals))

    def wrong(self) -> list[str]:
        """As in `Runbook`: the check of the databases, and those of whoever uses one that was missing until lately."""
        wrong = self._wrong_here()
        if missing := self.missing():
            return wrong or [f"there is no database {missing[0]}"]
        return [*wrong, *self._waiting(brought_back(load_all(self.stack.store), utc_now()))]

    def missing(self) -> list[str]:
        """Name the applications' databases that are not there."""
        if not (names := self._names()):
            return []
        server = self.stack.need_postgres_admin()
        return [name for name in names if not server.exists(name)]

    def _others(self) -> list[str]:
        """Name the databases that are there, whether or not they are backed up: a missing one may only have been renamed."""
        server = self.stack.need_postgres_admin()
        with server.connect() as connection, explained(server.maintenance_database, "list databases"):
            rows = connection.execute("SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate ORDER BY datname")
            return [str(name) for (name,) in rows]

    def _names(self) -> list[str]:
        """The applications' databases, each once: on an old stack both have one."""
        return list(dict.fromkeys(name for _, name in self._applications()))

    def _applications(self) -> tuple[tuple[str, str], ...]:
        return self.targets.postgres.applications if self.targets.postgres else ()

    def _users(self, database: str) -> tuple[str, ...]:
        return tuple(user for service, name in self._applications() if name == database for user in USERS[service])

    def _found(self, lost: Sequence[Lost]) -> list[Lost]:
        """Look for the sets."""
        entries: list[Entry] = catalogue.read(self.stack.store, self.stack.keys).entries if lost else []
        return [replace(one, found=newest_with(entries, one.name, self.set_id)) for one in lost]

    def _planned(self, group: Sequence[Lost]) -> list[str]:
        """Say what a restore of databases from their set would do.

        Raises:
            StackError: it would be refused.
        """
        stack, found = self.stack, group[0].found
        if found is None or found.manifest is None:
            return []
        manifest = catalogue.with_definitions(stack.store, stack.keys, found.manifest)
        plan = plan_restore(stack, manifest, chosen(manifest, [f"postgres/{one.name}" for one in group]))
        refuse_unfit(stack, manifest, plan, replace=False, accept_other_keys=False)
        return [step.sentence() for step in plan.steps]

    def _ladder(self, known: Known, journals: Sequence[RestoreJournal]) -> tuple[Action, ...]:
        """Finish what died; restore what is missing; start those that do not go on by themselves."""
        rungs: list[Action] = [_Finish(self, tuple(known.died))] if known.died else []
        rungs += [_Bring(self, tuple(group)) for group in by_set(known.lost).values()]
        finished = {step.live for one in journals if one.id in known.died for step in one.steps if step.kind == "postgres"}
        names = {one.name for one in known.lost} | finished | {one.name for one in brought_back(journals, utc_now())}
        for user in dict.fromkeys(user for name in self._names() if name in names for user in self._users(name)):
            rungs += start_again(self.api, user, partial(self._well, user), self.waits)
        return tuple(rungs)

    def _wrong_here(self) -> list[str]:
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, ASPECTS) if self._applications() else []

    def _waiting(self, back: Sequence[Brought], only: str = "") -> list[str]:
        """Say what is not well about those whose database came back.

        Args:
            only: of this service.
        """
        newest = {one.name: one for one in back}  # the journals are read oldest first
        users = {user: one for name, one in newest.items() for user in self._users(name) if only in ("", user)}
        there = {
            "litellm": bool(self.targets.litellm),
            "langfuse-web": bool(self.targets.langfuse_web),
            "langfuse-worker": bool(self.targets.langfuse_worker),
        }
        watched = {user for user in users if there[user]}
        seen = observe_services(self.targets, watched) if watched else []
        found = []
        for user, one in users.items():
            found += (wrong_with(seen, user) if user in watched else []) or self._behind(user, one)
        return found

    def _behind(self, user: str, back: Brought) -> list[str]:
        """Say so where an application was changed after the set was taken, and has not been started on the database since."""
        there = instance_of(self.api, user) if self.api is not None else None
        if self.api is None or there is None or there.latest is None:
            return []
        if not back.taken_at < there.latest.created_at < back.at:
            return []
        before = [one for one in self.api.deployments(there.service_id, first=50) if one.created_at <= back.taken_at]
        if before and before[0].image == there.latest.image:
            return []
        image = there.latest.image or "another image"
        return [f"{user} runs {image} since after the set was taken, and has to be started again, to migrate what is back"]

    def _well(self, user: str) -> str:
        """Say that a service need not be started."""
        back = brought_back(load_all(self.stack.store), utc_now())
        if not any(user in self._users(one.name) for one in back):
            return f"the database of {user} did not come back"
        return "" if self._waiting(back, user) else f"{user} goes on by itself"


@dataclass(frozen=True)
class _Finish(Action):
    """Finishes restores that died in their swap: they were approved, and all that they swap was compared."""

    runbook: Databases
    ids: tuple[str, ...]

    def describe(self) -> str:
        """As in `Action`."""
        return f"finish the restore {' and '.join(self.ids)}, which died in its swap"

    def needless(self) -> str:
        """As in `Action`."""
        left = died(load_all(self.runbook.stack.store), self.runbook._names())
        return "" if set(left) & set(self.ids) else "somebody has finished it"

    def do(self) -> str:
        """As in `Action`."""
        self.runbook.restores.finish()
        return "finished; a way back: restore/on-demand with action undo"


@dataclass(frozen=True)
class _Bring(Action):
    """Restores databases that are missing from the set that has them."""

    runbook: Databases
    lost: tuple[Lost, ...]

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return f"the data is that of {self._found.created_at:%Y-%m-%d %H:%M} UTC; what was written to it since is lost"

    @property
    def _found(self) -> Entry:
        found = self.lost[0].found
        if found is None:
            raise NotHealed(f"no good backup set has {self.lost[0].name}")
        return found

    def describe(self) -> str:
        """As in `Action`."""
        named = " and ".join(one.name for one in self.lost)
        old = catalogue.age(utc_now() - self._found.created_at)
        return f"restore the database {named} from set {self._found.id}, {old} old, and compare it before it gets its name"

    def needless(self) -> str:
        """As in `Action`."""
        return "" if self._left() else "it is there by now"

    def do(self) -> str:
        """As in `Action`.

        Raises:
            RestoreRefused: it does not fit, or somebody has filled the database meanwhile. RestoreFailed: it broke off.
        """
        if not (left := self._left()):
            return "it is there by now"
        restored = self.runbook.restores.restore(self._found.id, left)
        return f"restored {' and '.join(left)} as of {self._found.id} (restore {restored})"

    def _left(self) -> list[str]:
        missing = self.runbook.missing()
        return [one.name for one in self.lost if one.name in missing]
