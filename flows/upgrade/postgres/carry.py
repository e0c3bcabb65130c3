"""Carries an upgrade of Postgres out, finishes one that died, takes one back, and lets go of what was kept for that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from blocks.errors import GuardRefused, StackError
from blocks.railway_api.api import RailwayApi
from flows.backup.sets import new_set_id
from flows.deploy.rollout import deploy_now
from flows.lease import Lease, utc_now
from flows.report import flow_run_id, line
from flows.restore.postgres_swap import written_since
from flows.stack import Stack
from flows.upgrade.carry_out import RESUMES
from flows.upgrade.data import SecureData
from flows.upgrade.engine import Prove, run_steps, undo_steps
from flows.upgrade.journal import OPEN, UpgradeJournal, load_all, open_journals
from flows.upgrade.outside import Outside
from flows.upgrade.plan import plan_hash
from flows.upgrade.postgres.audit import audit
from flows.upgrade.postgres.consumers import StartConsumers, StopWriters
from flows.upgrade.postgres.copies import WRITERS, FinalCopy, Rehearse, Roles
from flows.upgrade.postgres.cutover import Documents, KeepOld, Variables
from flows.upgrade.postgres.look import holders
from flows.upgrade.postgres.new_server import SERVED, NewServer, delete_server
from flows.upgrade.postgres.orders import PostgresPlan
from flows.upgrade.postgres.servers import ACCESS, servers
from flows.upgrade.recipes import RECIPES, Recipe
from flows.upgrade.steps import Context, Pace, Step
from flows.upgrade.watching import BeWell, Smoke, Soak, wait_until_well

__all__ = [
    "RECIPE",
    "Hands",
    "describe_undo",
    "find",
    "finish",
    "forget",
    "hand_over",
    "refuse_open",
    "steps_of",
    "undo",
    "unfinished",
    "upgrade",
]

KIND = "postgres"
FORGOTTEN = "forgotten"


@dataclass(frozen=True)
class Hands:
    """What an upgrade is carried out with: `Context`, but for the journal."""

    stack: Stack
    api: RailwayApi
    outside: Outside
    lease: Lease
    pace: Pace = field(default_factory=Pace)
    progress: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = line

    def context(self, journal: UpgradeJournal) -> Context:
        """Return it with a journal."""
        return Context(self.stack, self.api, journal, self.lease, self.outside, self.pace, self.progress, self.tell)


def steps_of(plan: PostgresPlan) -> list[Step]:
    """Name the steps, in order. A way back goes through them backwards: stop, lead back, open the old server, start."""
    steps: list[Step] = [SecureData("the data", plan), NewServer(ACCESS, plan), Roles("roles", plan)]
    if plan.rehearse:
        steps.append(Rehearse("rehearsal", plan))
    steps += [StopWriters(WRITERS, plan), FinalCopy("copy", plan), Variables("variables", plan)]
    if plan.documents:
        steps.append(Documents("blocks", plan))
    steps.append(StartConsumers("consumers", plan))
    if plan.concerned:
        steps.append(BeWell("health", plan))
    if plan.smoke:
        steps.append(Smoke("smoke test"))
    if plan.soak_minutes and plan.concerned:
        steps.append(Soak("soak", plan))
    return [*steps, KeepOld("old server", plan)]


def proof_of(plan: PostgresPlan) -> Prove:
    """Return the look after a way back: every consumer runs, and is as well as before."""

    def look(context: Context) -> str:
        there = context.api.inventory().services
        for one in plan.stoppable:
            latest = there[one.service].latest
            if latest is None or not latest.status.active or latest.stopped:
                raise StackError(
                    f"{one.service}: it does not run after the way back; deploy it, then run this with action undo"
                )
        return wait_until_well(context, plan, "after the way back") if plan.concerned else "nobody was concerned"

    return look


def upgrade(hands: Hands, plan: PostgresPlan) -> UpgradeJournal:
    """Carry a plan out.

    Returns: the journal, done.
    Raises:
        GuardRefused: another upgrade is unfinished. UpgradeFailed: it failed, and says what was undone.
    """
    refuse_open(hands.stack)
    journal = UpgradeJournal(
        id=new_set_id(utc_now()),
        kind=KIND,
        plan=plan.model_dump(mode="json"),
        plan_hash=plan_hash(plan),
        images={KIND: (plan.old.service or plan.old.host, plan.new.service or plan.new.host)},
        run=flow_run_id(),
    )
    run_steps(hands.context(journal), journal, steps_of(plan), prove=proof_of(plan))
    return journal


def finish(hands: Hands, journal: UpgradeJournal) -> None:
    """Go on with an upgrade that died: forward; back where it was on its way back, or where its worker dies of it again."""
    if journal.phase not in OPEN:
        raise GuardRefused(f"upgrade {journal.id} is {journal.phase}: there is nothing to finish")
    plan, context = PostgresPlan.model_validate(journal.plan), hands.context(journal)
    back = journal.phase == "undoing" or journal.resumed >= RESUMES
    journal.resumed += 1
    if back:
        undo_steps(context, journal, steps_of(plan), prove=proof_of(plan))
    else:
        run_steps(context, journal, steps_of(plan), prove=proof_of(plan))


def undo(hands: Hands, journal: UpgradeJournal) -> str:
    """Lead everybody back to the old server; the new one is kept, with what was written to it.

    Returns: what the proof says.
    """
    _refuse_over(journal, "undo")
    plan = PostgresPlan.model_validate(journal.plan)
    return undo_steps(hands.context(journal), journal, steps_of(plan), prove=proof_of(plan))


def hand_over(hands: Hands, plan: PostgresPlan) -> None:
    """Deploy what operates the stack and uses the server, as the very last: this run may end with the container it works in.

    Its blocks lead to the right server already; what watches the stack reads the worker's own variables.
    """
    for one in (one for one in plan.consumers if one.protected and one.deployment):
        hands.tell(f"{one.service}: deployed with the variables that are set now; a run that works in it ends with that")
        deploy_now(hands.api, one.service_id)


def refuse_open(stack: Stack) -> None:
    """Begin nothing while another upgrade is neither done nor undone.

    Raises:
        GuardRefused: says how to settle it.
    """
    for one in open_journals(stack.store):
        raise GuardRefused(
            f"upgrade postgres: upgrade {one.id} of {one.kind} is unfinished ({one.phase}); run upgrade/{one.kind} with action "
            "finish or undo first"
        )


def describe_undo(hands: Hands, journal: UpgradeJournal) -> str:
    """Say what an undo does, and which writes it leaves behind."""
    _refuse_over(journal, "undo")
    plan = PostgresPlan.model_validate(journal.plan)
    names = ", ".join(one.service for one in plan.stoppable) or "nobody"
    text = (
        f"Undo of upgrade {journal.id}: {names} are stopped, every variable leads to {plan.old.service or plan.old.host} "
        "again, and they are deployed with it."
    )
    if SERVED not in journal.record(ACCESS).facts:
        return f"{text} Nobody has written to the new server yet."
    lines = [text, "Left behind on the new server, which is kept until the upgrade is forgotten:"]
    for name in plan.databases:
        try:
            said = written_since(servers(hands.context(journal)).new, name, "the copy")
        except StackError as error:
            said = f"how much was written cannot be read: {error}"
        lines.append(f"- postgres {name}: {said}")
    return "\n".join(lines)


def forget(hands: Hands, journal: UpgradeJournal, *, dry_run: bool = False) -> str:
    """Delete the server that was kept: the old one after an upgrade, the new one after a way back. There is no undo after that.

    Args:
        dry_run: only say what would be deleted.
    Returns: what is deleted, for people.
    Raises:
        GuardRefused: somebody still uses it, or it is not on Railway, or there is nothing to forget.
    """
    plan, facts = PostgresPlan.model_validate(journal.plan), journal.record(ACCESS).facts
    if journal.phase not in ("done", "undone") or FORGOTTEN in facts:
        raise GuardRefused(f"upgrade {journal.id} is {'forgotten' if FORGOTTEN in facts else journal.phase}: nothing to forget")
    kept = plan.old if journal.phase == "done" else plan.new
    if journal.phase == "undone" and SERVED not in facts:
        raise GuardRefused(f"upgrade {journal.id} was undone before anybody used the new server: nothing of it was kept")
    if not kept.service:
        raise GuardRefused(f"upgrade {journal.id}: {kept.host} is not on Railway; delete it where it was made")
    inventory = hands.api.inventory()
    left = audit(holders(hands.api, inventory), kept.address, knows=plan.known_sealed)
    if left.uses or left.unreadable:
        used = ", ".join([*map(str, left.uses), *left.unreadable])
        raise GuardRefused(f"{kept.service}: not deleted: {used} lead there; change them first")
    text = f"{kept.service} and its volume are deleted, with everything in them; upgrade {journal.id} cannot be undone any more"
    if dry_run:
        return text
    hands.lease.check()
    delete_server(hands.api, kept.service, facts.get("volume", "") if kept == plan.new else "")
    facts[FORGOTTEN] = "yes"
    hands.context(journal).save()
    return text


def unfinished(stack: Stack, upgrade_id: str) -> UpgradeJournal | None:
    """Find an upgrade of Postgres that died; None where there is none, as somebody may have finished it meanwhile.

    Args:
        upgrade_id: `latest`, or an id.
    """
    found = [one for one in open_journals(stack.store) if one.kind == KIND and upgrade_id in ("latest", one.id)]
    return found[-1] if found else None


def find(stack: Stack, upgrade_id: str, action: Literal["undo", "forget"]) -> UpgradeJournal:
    """Find an upgrade of Postgres to take back, or to let go of.

    Args:
        upgrade_id: `latest` of those that the action is for, or an id.
    Raises:
        GuardRefused: there is none, or a later one has to be undone first.
    """
    known = [one for one in load_all(stack.store) if one.kind == KIND]
    found = [one for one in known if (upgrade_id == "latest" and _is_for(action, one)) or upgrade_id == one.id]
    if not found:
        latest = ", ".join(f"{one.id} ({one.phase})" for one in known[-3:]) or "none"
        raise GuardRefused(f"there is no upgrade {upgrade_id!r} of Postgres to {action}; the latest are: {latest}")
    later = [one.id for one in known[known.index(found[-1]) + 1 :] if one.phase != "undone"]
    if action == "undo" and later:
        raise GuardRefused(f"upgrade {found[-1].id} is not the last one: {later[-1]} came after it; undo that first")
    return found[-1]


def _is_for(action: str, journal: UpgradeJournal) -> bool:
    kept = not any(FORGOTTEN in one.facts for one in journal.steps)
    if action == "undo":
        return journal.phase in OPEN or (journal.phase == "done" and kept)
    served = any(SERVED in one.facts for one in journal.steps)
    return kept and (journal.phase == "done" or (journal.phase == "undone" and served))


def _refuse_over(journal: UpgradeJournal, what: str) -> None:
    forgotten = any(FORGOTTEN in one.facts for one in journal.steps)
    if journal.phase == "undone" or forgotten:
        raise GuardRefused(f"upgrade {journal.id} is {'forgotten' if forgotten else 'undone'}: there is nothing to {what}")


def _services(plan: Mapping[str, Any]) -> list[str]:
    found = PostgresPlan.model_validate(plan)
    return ["postgres", *(one.service for one in found.stoppable if one.service in found.concerned)]


RECIPE = Recipe(
    steps=lambda plan: steps_of(PostgresPlan.model_validate(plan)),
    prove=lambda plan: proof_of(PostgresPlan.model_validate(plan)),
    services=_services,
)
"""How another process goes on with an upgrade of Postgres that a dead one began."""
RECIPES[KIND] = RECIPE
