"""Approval of a destructive step: the stack's name typed as a parameter, or a paused run that a person resumes."""

from __future__ import annotations

from typing import Literal

from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from blocks.errors import ApprovalMissing
from flows.report import line

WAIT = 3600
"""Seconds a paused run waits for a person; it holds a worker slot meanwhile."""


class Approval(RunInput):
    """What a person fills in to resume the run."""

    decision: Literal["approve", "reject"] = Field(default="reject", description="approve or reject")
    confirm: str = Field(default="", description="The stack's name, to be sure it is the right one")


def approve(stack: str, confirm: str, what: str) -> None:
    """Go on only with an approval.

    Args:
        stack: its name, which `confirm` must be. confirm: as given with the run; empty pauses the run and asks.
        what: one paragraph that says what will happen and how it is taken back; shown to the person who is asked.
    Raises:
        ApprovalMissing: rejected, not answered in an hour, or confirmed for another stack.
    """
    if confirm:
        _same(stack, confirm)
        return
    line(f"waiting for approval: {what}")
    try:
        form = Approval.with_initial_data(description=f"{what}\n\nApprove by typing the stack's name: **{stack}**")
        answer = pause_flow_run(wait_for_input=form, timeout=WAIT)
    except FlowPauseTimeout:
        raise ApprovalMissing("nobody approved within an hour; nothing was changed; run it again when somebody can") from None
    if answer.decision != "approve":
        raise ApprovalMissing("rejected; nothing was changed")
    _same(stack, answer.confirm)


def _same(stack: str, confirm: str) -> None:
    if confirm != stack:
        raise ApprovalMissing(f"confirmed for {confirm!r}, but this is the stack {stack!r}; nothing was changed")
