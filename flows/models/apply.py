"""Looking at what LiteLLM has, and doing what the plan says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from blocks.errors import StackError
from blocks.litellm_models import LiteLLMModels
from blocks.retry import retrying
from flows.models.plan import Action, Desired, notes, plan, present
from flows.report import line

__all__ = ["carry_out", "compare", "words"]


def compare(api: LiteLLMModels, wish: Sequence[Desired], *, prune: bool) -> tuple[list[Action], list[str]]:
    """What has to be done, and what a person should know beside it.

    Args:
        api: of the gateway. wish: every model of the file. prune: also delete what is ours and no longer there.
    Raises:
        ServiceError: LiteLLM does not answer.
    """
    there = [present(entry) for entry in retrying(api.all)]
    return plan(wish, there, prune=prune), notes(wish, there, prune=prune)


def carry_out(api: LiteLLMModels, actions: Iterable[Action]) -> list[str]:
    """Do all of it; what fails holds nothing else up.

    Returns: what went wrong, one line each.
    """
    failed = []
    for action in actions:
        try:
            _do(api, action)
        except StackError as error:
            line(f"{action.kind} {action.name}: failed: {error}")
            failed.append(f"{action.kind} {action.name}: {error}")
        else:
            line(f"{action.kind} {action.name}: done")
    return failed


def words(action: Action) -> str:
    """An action in one line."""
    return f"{action.kind} {action.name}: {'; '.join(action.changes)}"


def _do(api: LiteLLMModels, action: Action) -> None:
    wish, there = action.desired, action.present
    if wish is not None and action.kind in ("create", "replace"):  # the new one before the old one goes: people are asking
        api.add(wish.model_id, wish.wanted.name, wish.params, wish.model_info)
    elif wish is not None and there is not None:
        api.change(there.model_id, wish.wanted.name, wish.params, wish.model_info)
    if there is not None and action.kind in ("delete", "replace"):
        api.delete(there.model_id)
