"""Approval of a destructive step: the stack's name typed as a parameter, or a paused run that a person resumes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from blocks.errors import ApprovalMissing
from flows.report import flow_run_id, line
from flows.runbook import audit, recording

__all__ = ["NAMELESS", "WAIT", "Approval", "approve"]

WAIT = 3600
"""Seconds a paused run waits for a person; it holds a worker slot meanwhile."""
NAMELESS = "in Prefect's pages, without a name"
"""Who it was, where the person who filled in the form did not say: Prefect's open server knows no users."""
_LONGEST = 300

Record = Callable[[audit.Entry], None]


class Approval(RunInput):
    """What a person fills in to resume the run."""

    decision: Literal["approve", "reject"] = Field(default="reject", description="approve or reject")
    confirm: str = Field(default="", description="The stack's name, to be sure it is the right one")
    by: str = Field(default="", max_length=100, description="Who you are, for the audit trail")


def approve(stack: str, confirm: str, what: str, record: Record | None = None) -> str:
    """Go on only with an approval. What a person decided is in the audit trail, with who it was.

    Args:
        stack: its name, which `confirm` must be. confirm: as given with the run; empty pauses the run and asks.
        what: one paragraph that says what will happen and how it is taken back; shown to the person who is asked.
        record: writes into the audit trail; default: that in the stack's store.
    Returns: who approved, empty where it was given with the run: then it was who started it.
    Raises:
        ApprovalMissing: rejected, not answered in an hour, or confirmed for another stack.
    """
    if confirm:
        _same(stack, confirm)
        return ""
    line(f"waiting for approval: {what}")
    try:
        form = Approval.with_initial_data(description=f"{what}\n\nApprove by typing the stack's name: **{stack}**")
        answer = pause_flow_run(wait_for_input=form, timeout=WAIT)
    except FlowPauseTimeout:
        raise ApprovalMissing("nobody approved within an hour; nothing was changed; run it again when somebody can") from None
    name = " ".join(answer.by.split())
    refusal = "" if answer.decision == "approve" else f"rejected{f' by {name}' if name else ''}; nothing was changed"
    refusal = refusal or _mismatch(stack, answer.confirm)
    (record or partial(recording.record, stack))(_entry(what, refusal or "approved", name or NAMELESS))
    if refusal:
        raise ApprovalMissing(refusal)
    return name or NAMELESS


def _entry(what: str, result: str, by: str) -> audit.Entry:
    said = " ".join(what.split())[:_LONGEST]
    actor = str(flow_run.flow_name or "a flow")
    return audit.Entry(at=datetime.now(UTC), kind="decided", actor=actor, what=said, result=result, by=by, run=flow_run_id())


def _same(stack: str, confirm: str) -> None:
    if mismatch := _mismatch(stack, confirm):
        raise ApprovalMissing(mismatch)


def _mismatch(stack: str, confirm: str) -> str:
    return "" if confirm == stack else f"confirmed for {confirm!r}, but this is the stack {stack!r}; nothing was changed"
