"""From a request to its end: plan, approval, lock, steps, report; and what a process does that finds another one's journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from blocks.errors import GuardRefused
from flows.approval import approve
from flows.backup.sets import new_set_id
from flows.health.maintenance import maintenance
from flows.lease import Lease, utc_now
from flows.report import flow_run_id, line
from flows.upgrade.engine import run_steps, undo_steps
from flows.upgrade.journal import OPEN, UpgradeJournal, load_all, open_journals
from flows.upgrade.look import Eyes, make_plan
from flows.upgrade.orders import Kind, ServicePlan, UpgradeRequest
from flows.upgrade.plan import Plan, plan_hash, refuse_changed
from flows.upgrade.recipes import recipe_of, service_steps
from flows.upgrade.steps import Context, Pace, Step
from flows.upgrade.views import described, show_plan, show_report

__all__ = ["WINDOW", "begin", "execute", "settle", "upgrade_services"]

WINDOW = 180.0
"""Minutes, beside the soak, that the watch is told to expect at most; the window ends with the run."""
RESUMES = 2
"""So often a dead upgrade is gone on with; one that its worker dies of again is undone."""

Counter = Callable[[int], Callable[[], None]]
"""Makes, of a number of steps, what is called after each of them."""


def _uncounted(_steps: int) -> Callable[[], None]:
    return lambda: None


def upgrade_services(
    eyes: Eyes, kind: Kind, request: UpgradeRequest, *, pace: Pace = Pace(), counter: Counter = _uncounted
) -> UpgradeJournal | None:
    """Do what is asked for.

    Returns: the journal; None where nothing was done: a dry run, or everything runs already.
    Raises: as the flow.
    """
    if request.action != "upgrade":
        return settle(eyes, kind, request, pace=pace, counter=counter)
    refuse_open(eyes, kind)
    plan = make_plan(eyes, kind, request)
    steps = service_steps(plan) if plan.changes else []
    refuse_changed(plan, request.plan_hash)
    show_plan(plan, steps, dry_run=request.dry_run)
    if request.dry_run or not steps:
        return None
    approve(eyes.stack.name, request.confirm, described(plan, steps))
    with eyes.stack.exclusive("upgrade") as lease:
        refuse_open(eyes, kind)
        refuse_changed(make_plan(eyes, kind, request), plan_hash(plan))  # since it was approved
        journal = begin(plan, plan.images)
        execute(eyes, journal, steps, lease, pace=pace, counter=counter, minutes=WINDOW + plan.soak_minutes)
    return journal


def begin(plan: Plan, images: dict[str, tuple[str, str]]) -> UpgradeJournal:
    """Make the journal of an upgrade; it is written with its first step."""
    return UpgradeJournal(
        id=new_set_id(utc_now()),
        kind=plan.kind,
        plan=plan.model_dump(mode="json"),
        plan_hash=plan_hash(plan),
        images=images,
        run=flow_run_id(),
    )


def execute(
    eyes: Eyes,
    journal: UpgradeJournal,
    steps: Sequence[Step],
    lease: Lease,
    *,
    pace: Pace = Pace(),
    counter: Counter = _uncounted,
    minutes: float = WINDOW,
    back: bool = False,
) -> None:
    """Do the steps, or (back) undo them, while the watch is told to expect it; whatever comes of it is reported.

    Raises: as `run_steps` and `undo_steps`.
    """
    recipe = recipe_of(journal)
    prove = recipe.prove(journal.plan)
    context = Context(eyes.stack, eyes.api, journal, lease, eyes.outside, pace, counter(len(steps)))
    with _window(eyes.stack.name, recipe.services(journal.plan), journal, minutes):
        try:
            if back:
                line(f"undone: {undo_steps(context, journal, steps, prove=prove)}")
            else:
                run_steps(context, journal, steps, prove=prove)
        finally:
            _report(eyes.stack.name, journal)


def settle(
    eyes: Eyes, kind: str, request: UpgradeRequest, *, pace: Pace = Pace(), counter: Counter = _uncounted
) -> UpgradeJournal | None:
    """Finish an upgrade that died or handed over, or undo one.

    To finish needs no approval: it was given when the upgrade began. One that another process died of twice, or that was on its
    way back, is undone.

    Returns: the journal; None where there is nothing to finish.
    Raises:
        GuardRefused: there is no such upgrade, or it cannot be undone any more.
    """
    back = request.action == "undo"
    found = _find(eyes, kind, request.upgrade_id, back=back)
    if found is None:
        line("no upgrade was left unfinished")
        return None
    if back:
        steps = recipe_of(found).steps(found.plan)
        text = _describe_undo(found, steps)
        line(text)
        if request.dry_run:
            return None
        approve(eyes.stack.name, request.confirm, text)
    with eyes.stack.exclusive("upgrade") as lease:
        journal = _find(eyes, kind, found.id, back=back)  # as it is now that nobody else works on it
        if journal is None:
            line(f"upgrade {found.id} has been finished meanwhile")
            return None
        steps = recipe_of(journal).steps(journal.plan)
        back = back or journal.phase == "undoing" or journal.resumed >= RESUMES
        if journal.phase != "handed over":
            journal.resumed += 1
        line(f"upgrade {journal.id}, {journal.phase}: {'undone' if back else 'gone on with'}")
        execute(eyes, journal, steps, lease, pace=pace, counter=counter, back=back)
    return journal


def refuse_open(eyes: Eyes, kind: str) -> None:
    """Begin nothing while another upgrade is neither done nor undone.

    Raises:
        GuardRefused: says how to settle it.
    """
    for one in open_journals(eyes.stack.store):
        raise GuardRefused(
            f"upgrade {kind}: upgrade {one.id} of {one.kind} is {one.phase}; nothing was changed; run upgrade/{one.kind} with "
            f"action finish (or undo) and upgrade_id {one.id} first"
        )


def _find(eyes: Eyes, kind: str, wanted: str, *, back: bool) -> UpgradeJournal | None:
    journals = [one for one in load_all(eyes.stack.store) if one.kind == kind]
    if wanted == "latest":
        fitting = [one for one in journals if one.phase in OPEN or (back and one.phase == "done")]
        if back and not fitting:
            raise GuardRefused(f"upgrade {kind}: there is none to undo; nothing was changed")
        return fitting[-1] if fitting else None
    named = next((one for one in journals if one.id == wanted), None)
    if named is None:
        known = ", ".join(one.id for one in journals[-3:]) or "none"
        raise GuardRefused(f"upgrade {kind}: there is no upgrade {wanted!r}; the latest are: {known}")
    if back and named.phase == "done" and named is not journals[-1]:
        raise GuardRefused(
            f"upgrade {kind}: {wanted} is not the last one; undo {journals[-1].id} first, or upgrade to a version"
        )
    return named if named.phase in OPEN or (back and named.phase == "done") else None


def _describe_undo(journal: UpgradeJournal, steps: Sequence[Step]) -> str:
    lines = [f"Undo of upgrade {journal.id} ({journal.kind}, {journal.phase}), in reverse order:"]
    known = {one.name: one.state for one in journal.steps}
    begun = [step for step in reversed(steps) if known.get(step.name, "pending") not in ("pending", "undone")]
    lines += [f"- {step.name}{f': cannot be undone: {step.irreversible}' if step.irreversible else ''}" for step in begun]
    plan = ServicePlan.model_validate(journal.plan) if "changes" in journal.plan else None
    if plan is not None and plan.back:
        lines.append(
            f"If the schemas have moved, {', '.join(plan.back)} go back to set {journal.set_id}: later writes are lost."
        )
    return "\n".join(lines)


@contextmanager
def _window(stack: str, services: Sequence[str], journal: UpgradeJournal, minutes: float) -> Iterator[None]:
    """Tell the watch; outside a flow run there is no window."""
    if not flow_run_id():
        yield
        return
    with maintenance(stack, services, f"upgrade {journal.kind} {journal.id}", minutes, who="upgrade"):
        yield


def _report(stack: str, journal: UpgradeJournal) -> None:
    try:
        show_report(stack, journal)
    except Exception as error:  # noqa: BLE001 - a report that cannot be shown must not hide how it ended
        line(f"upgrade {journal.id}: no report: {type(error).__name__}")
