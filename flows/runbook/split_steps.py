"""The steps of a split, each undone by itself: stop, copy and compare, exchange the names, lead over, start.

Until the names are exchanged the shared database is only read. Afterwards it stands aside, closed, and no step ever drops it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from blocks.errors import GuardRefused, UpgradeFailed
from blocks.postgres import PostgresServer, explained
from flows.runbook.split_copy import copy_share, drop_staged, send_away
from flows.runbook.split_lead import Blocks, Lead
from flows.runbook.split_names import Renames, exchange
from flows.runbook.split_plan import SplitPlan
from flows.runbook.split_tables import read_content, shares_of
from flows.upgrade.postgres.consumers import StartConsumers, StopWriters, stop
from flows.upgrade.postgres.copies import WRITERS
from flows.upgrade.postgres.fence import writes
from flows.upgrade.postgres.moving import aside
from flows.upgrade.postgres.new_server import SERVED
from flows.upgrade.postgres.servers import ACCESS
from flows.upgrade.steps import Context, Step
from flows.upgrade.watching import BeWell

__all__ = ["steps_of"]


def steps_of(plan: SplitPlan) -> list[Step]:
    """Name the steps, in order. A way back goes through them backwards: stop, lead back, exchange the names, start."""
    steps: list[Step] = [
        LookAgain(ACCESS, plan),
        StopApplications(WRITERS, plan),
        Copies("copies", plan),
        Exchange("names", plan),
        Lead("variables", plan),
    ]
    if plan.documents:
        steps.append(Blocks("blocks", plan))
    steps.append(StartConsumers("consumers", plan))
    return [*steps, BeWell("health", plan)] if plan.concerned else steps


def admin_of(context: Context) -> PostgresServer:
    """The server, by a database that nobody renames."""
    return aside(context.stack.need_postgres_admin())


@dataclass(frozen=True)
class LookAgain(Step):
    """Sees that the database still is what the plan was made of."""

    plan: SplitPlan

    def describe(self) -> str:
        """As in `Step`."""
        return f"see that {self.plan.shared} has the tables that the plan was made of"

    def do(self, context: Context) -> str:
        """As in `Step`.

        Raises:
            GuardRefused: it has others by now.
        """
        plan = self.plan
        with admin_of(context).connect(plan.shared) as connection, explained(plan.shared, "see whose is what"):
            litellm, langfuse = shares_of(read_content(connection))
        if ((litellm.tables, litellm.views), (langfuse.tables, langfuse.views)) != (plan.mine, plan.theirs):
            raise GuardRefused(f"{plan.shared}: its tables have changed since the plan was made; run this again")
        return "it has"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        return "nothing to undo"


@dataclass(frozen=True)
class StopApplications(StopWriters):
    """Stops LiteLLM and Langfuse, and ends what is connected. Its undo deploys whoever does not run as before."""

    plan: SplitPlan

    def describe(self) -> str:
        """As in `Step`."""
        names = ", ".join(one.service for one in reversed(self.plan.stoppable)) or "nobody"
        return f"the downtime begins: stop {names}, and end every connection to {self.plan.shared}"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        for one in reversed(self.plan.stoppable):
            stop(context, one)
        admin = admin_of(context)
        send_away(admin, self.plan.shared)
        context.note(self, written=json.dumps({self.plan.shared: writes(admin, self.plan.shared)}))
        return f"{len(self.plan.stoppable)} services are stopped"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        again = [one.service for one in self.plan.stoppable if self._run_again(context, one)]
        return f"deployed again: {', '.join(again) or 'nobody, all still ran'}"


@dataclass(frozen=True)
class Copies(Step):
    """Copies the database twice, compares both with what was dumped, then leaves to each its own tables."""

    plan: SplitPlan

    def describe(self) -> str:
        """As in `Step`."""
        both = " and ".join(self.plan.targets)
        return f"copy {self.plan.shared} for {both}, each beside it; compare everything; drop from each what is the other's"

    def do(self, context: Context) -> str:
        """As in `Step`.

        Raises:
            UpgradeFailed: a copy is not equal, or somebody wrote to the shared database meanwhile.
        """
        plan, admin, told = self.plan, admin_of(context), []
        for name in plan.targets:
            if context.record(self).facts.get(name) != "equal":
                context.note(self, **{name: "begun"})
                drop_staged(admin, plan.staged(name))
                told.append(copy_share(admin, plan, name, context.tell))
                context.lease.check()
                context.note(self, **{name: "equal"})
        refuse_written(context, plan)
        return "; ".join(told) or "both are there"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        admin = admin_of(context)
        dropped = [name for name in map(self.plan.staged, self.plan.targets) if drop_staged(admin, name)]
        return f"dropped: {', '.join(dropped) or 'nothing, none was left'}"


@dataclass(frozen=True)
class Exchange(Step):
    """Puts the shared database aside, closed, and gives the copies their names: all renames at once."""

    plan: SplitPlan

    def describe(self) -> str:
        """As in `Step`."""
        plan = self.plan
        return (
            f"put {plan.shared} aside as {plan.kept}, where nobody gets in; the copies become {' and '.join(plan.targets)}; "
            "action undo leads back, and leaves what was written since behind"
        )

    def do(self, context: Context) -> str:
        """As in `Step`."""
        plan, admin = self.plan, admin_of(context)
        there = [name for name in plan.targets if name != plan.shared and admin.exists(name)]
        if not admin.exists(plan.kept):
            refuse_written(context, plan)
            known = context.record(self).facts
            context.note(self, empty=known.get("empty") or json.dumps(there))
        context.lease.check()
        exchange(admin, self._forward(context), opened=plan.targets)
        return f"{plan.shared} is kept as {plan.kept}"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        plan, admin = self.plan, admin_of(context)
        back = Renames(
            (
                *((name, plan.undone(name)) for name in plan.targets),
                (plan.kept, plan.shared),
                *((self._aside(name), name) for name in self._empty(context)),
            )
        )
        if admin.exists(plan.kept):
            exchange(admin, back, opened=(plan.shared, *self._empty(context)))
        else:
            exchange(
                admin, Renames(()), opened=tuple(name for name in (plan.shared, *self._empty(context)) if admin.exists(name))
            )
        if SERVED in context.journal.record(ACCESS).facts:
            return f"{plan.shared} is back; what was written since is in {' and '.join(map(plan.undone, plan.targets))}"
        for name in plan.targets:
            drop_staged(admin, plan.undone(name))
        return f"{plan.shared} is back; nobody had written to the copies, they are dropped"

    def _forward(self, context: Context) -> Renames:
        plan = self.plan
        return Renames(
            (
                (plan.shared, plan.kept),
                *((name, self._aside(name)) for name in self._empty(context)),
                *((plan.staged(name), name) for name in plan.targets),
            )
        )

    def _empty(self, context: Context) -> list[str]:
        """Databases of the new names that were there before, with nothing in them."""
        found: list[str] = json.loads(context.record(self).facts.get("empty", "[]"))
        return found

    def _aside(self, name: str) -> str:
        return f"{name}__kept_{self.plan.mark}"


def refuse_written(context: Context, plan: SplitPlan) -> None:
    """Go on only where nobody has written to the shared database since the applications were stopped.

    Raises:
        UpgradeFailed: somebody has: the copies are not the last word.
    """
    before = json.loads(context.journal.record(WRITERS).facts["written"])[plan.shared]
    now = writes(admin_of(context), plan.shared)
    if now != before:
        raise UpgradeFailed(
            f"postgres {plan.shared}: {now - before} rows were written after LiteLLM and Langfuse were stopped, expected none; "
            "find out who does (pg_stat_activity), then try again"
        )
