"""Does steps in order; where one fails, undoes them in reverse order and proves that all is well again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from blocks.errors import LeaseLost, RateLimited, StackError, Uncertain, UpgradeFailed
from blocks.retry import is_transient
from flows.lease import utc_now
from flows.upgrade.journal import UpgradeJournal
from flows.upgrade.steps import Context, Step

__all__ = ["Prove", "run_steps", "undo_steps"]

T = TypeVar("T")

TRIES = 5
"""How often a step is begun that a fault of the network breaks; one that Railway's rate limit holds up, as long as it takes."""

Prove = Callable[[Context], str]
"""Looks whether the stack is well, says so in a few words, and raises a `StackError` where it is not."""


def run_steps(context: Context, journal: UpgradeJournal, steps: Sequence[Step], *, prove: Prove) -> None:
    """Do the steps that are not done yet, in order, and close the journal.

    A process that dies in here leaves the journal open; the next one calls this again, or `undo_steps`. What ends the process
    from outside - a signal, a lost lock - undoes nothing: whoever comes next decides.

    Args:
        journal: the context's own. steps: made of its plan. prove: is asked after everything was undone.
    Raises:
        UpgradeFailed: a step failed; says which and why, and that everything was undone, or what was not.
        LeaseLost: somebody else may be working; nothing more was touched.
    """
    journal.named([step.name for step in steps])
    context.save()
    for step in steps:
        record = journal.record(step.name)
        if record.state == "done":
            context.progress()
            continue
        context.lease.check()
        begun = time.monotonic()
        record.state = "doing"
        context.save()
        try:
            record.outcome = _patiently(context, lambda: step.do(context))  # noqa: B023 - called at once
        except LeaseLost:
            raise
        except Exception as error:
            _take_back(context, journal, steps, step, error, prove)
            raise
        record.state, record.seconds = "done", time.monotonic() - begun
        context.save()
        context.tell(f"{step.name}: {record.outcome} ({record.seconds:.0f} s)")
        context.progress()
    journal.phase, journal.ended_at = "done", utc_now()
    context.save()


def undo_steps(context: Context, journal: UpgradeJournal, steps: Sequence[Step], *, prove: Prove) -> str:
    """Undo whatever was begun, in reverse order, and prove that the stack is well again.

    Returns: what `prove` says.
    Raises:
        StackError: a step could not be undone, or the stack is not well: the journal stays open, and this may be called again.
    """
    journal.named([step.name for step in steps])
    journal.phase = "undoing"
    context.save()
    for step in reversed(steps):
        record = journal.record(step.name)
        if record.state in ("pending", "undone"):
            continue
        context.lease.check()
        record.state = "undoing"
        context.save()
        record.outcome = _patiently(context, lambda: step.undo(context))  # noqa: B023 - called at once
        record.state = "undone"
        context.save()
        context.tell(f"{step.name}: {record.outcome}")
    context.lease.check()
    word = prove(context)
    journal.phase, journal.ended_at = "undone", utc_now()
    context.save()
    return word


def _patiently(context: Context, work: Callable[[], T]) -> T:
    """Do a step, again where that can help: every step looks first what is left to do.

    Raises: the last error.
    """
    deadline, tries, pause = time.monotonic() + context.pace.patience, 0, context.pace.pause
    while True:
        try:
            return work()
        except StackError as error:
            tries += 1
            held_up = isinstance(error, RateLimited)
            seconds = max(error.retry_after, pause) if isinstance(error, RateLimited) else pause
            can_help = is_transient(error) or isinstance(error, Uncertain)
            if not can_help or (tries >= TRIES and not held_up) or time.monotonic() + seconds > deadline:
                raise
            context.tell(f"{error}; tried again in {seconds:.0f} s")
            time.sleep(seconds)
            pause *= 2


def _take_back(
    context: Context, journal: UpgradeJournal, steps: Sequence[Step], failed: Step, error: Exception, prove: Prove
) -> None:
    """Undo after a failure.

    Raises:
        UpgradeFailed: always.
    """
    why = str(error) if isinstance(error, StackError) else type(error).__name__  # its words could hold a secret
    context.tell(f"{failed.name}: failed: {why}")
    journal.fault = f"{failed.name}: {why}"
    journal.record(failed.name).outcome = f"failed: {why}"
    begun = [step for step in steps if journal.record(step.name).state not in ("pending", "undone")]
    one_way = [f"{step.name} ({step.irreversible})" for step in begun if step.irreversible and step is not failed]
    try:
        word = undo_steps(context, journal, steps, prove=prove)
    except LeaseLost:
        raise
    except StackError as second:
        left = [step.name for step in steps if journal.record(step.name).state not in ("pending", "undone")]
        raise UpgradeFailed(
            f"upgrade {journal.id}: {failed.name}: {why}; and not everything could be undone: {second}; still to be undone: "
            f"{', '.join(left) or 'nothing, but the stack is not well'}; mend that, then run the flow with action undo",
            undone=False,
        ) from error
    kept = f"; cannot be undone: {', '.join(one_way)}" if one_way else ""
    raise UpgradeFailed(
        f"upgrade {journal.id}: {failed.name}: {why}; undone: {', '.join(step.name for step in reversed(begun))}; {word}{kept}",
        undone=True,
    ) from error
