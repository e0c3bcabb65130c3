"""Bring LiteLLM's models to what a file says: stored through its API, keys from secrets, previewed."""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import ServiceError, SettingsError
from blocks.litellm import LiteLLMGateway
from blocks.litellm_models import LiteLLMModels
from blocks.settings import Settings
from flows.approval import approve
from flows.documents import required
from flows.models.apply import carry_out, compare, words
from flows.models.plan import Action, Desired, desired
from flows.models.secret_sources import fetch
from flows.models.wanted import read
from flows.report import Summary, line

__all__ = ["ModelsRequest", "models"]

_ROOT = Path(__file__).resolve().parents[2]
_LARGEST = 1 << 20


class ModelsRequest(BaseModel):
    """Where the file is, and how far to go."""

    file: str = Field(default="models.yaml", description="File with the models, relative to the project's folder on the worker")
    content: str = Field(default="", description="The file's text instead, pasted; keys never stand in it", max_length=_LARGEST)
    dry_run: bool = Field(default=False, description="Only say what would be done")
    prune: bool = Field(default=False, description="Also delete models of earlier runs that are no longer in the file")
    confirm: str = Field(default="", description="prune: the stack's name; empty: the run asks when there is one to delete")


@flow(name="models", validate_parameters=True, timeout_seconds=2 * 3600)
def models(request: ModelsRequest = ModelsRequest()) -> list[str]:
    """Create, change and, where asked, delete models of LiteLLM. Run twice, it does nothing the second time.

    Models from LiteLLM's own configuration, and those that somebody stored in its UI, are never touched.

    Args:
        request: what to do.
    Returns: what was done, or with `dry_run` would be, one line each.
    Raises:
        SettingsError: the file is wrong, a secret is not there, or LiteLLM stores no models; nothing was changed.
        ApprovalMissing: a deletion was not approved; nothing was changed.
        ServiceError: LiteLLM did not do some of it; the rest was done.
    """
    stack = Settings.load().stack_name
    gateway = required(LiteLLMGateway, stack)
    wish = _wish(request, gateway)
    with LiteLLMModels(gateway) as api:
        actions, remarks = compare(api, wish, prune=request.prune)
        _show(stack, actions, remarks, dry_run=request.dry_run)
        if request.dry_run or not actions:
            return [words(action) for action in actions]
        if request.prune and (deleted := [action.name for action in actions if action.kind == "delete"]):
            approve(stack, request.confirm, f"Deletes {', '.join(deleted)} from LiteLLM: requests for them will fail.")
            again, _ = compare(api, wish, prune=True)
            if [words(action) for action in again] != [words(action) for action in actions]:
                raise ServiceError("models: somebody changed LiteLLM's models meanwhile; nothing was done, run it again")
        failed = carry_out(api, actions)
        left, _ = compare(api, wish, prune=request.prune)
    if failed:
        raise ServiceError(f"models: {len(failed)} of {len(actions)} not done: {failed[0]}; run it again, what is done stays")
    if left:
        raise ServiceError(f"models: stored, but LiteLLM shows something else: {words(left[0])}; look at it in LiteLLM's UI")
    line(f"LiteLLM has all {len(wish)} models as the file says")
    return [words(action) for action in actions]


def _wish(request: ModelsRequest, gateway: LiteLLMGateway) -> list[Desired]:
    """Read the file and fetch its secrets.

    Raises:
        SettingsError: the file is wrong, or a secret is not there.
    """
    wanted = read(*_text(request))
    secrets = fetch(wanted)
    key = gateway.master_key.get_secret_value() if gateway.master_key else ""
    return [desired(model, {name: secrets[source] for name, source in model.secrets.items()}, key) for model in wanted]


def _text(request: ModelsRequest) -> tuple[str, str]:
    if request.content:
        return request.content, "content"
    path = _ROOT / request.file
    try:
        return path.read_text(encoding="utf-8"), request.file
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"models: {request.file} cannot be read ({type(error).__name__}); name a file, or paste `content`"
        ) from None


def _show(stack: str, actions: list[Action], remarks: list[str], *, dry_run: bool) -> None:
    """Log the plan and make it the run's artifact."""
    title = f"Models of {stack}: what {'would be' if dry_run else 'is'} done"
    shown = Summary(title, ("Action", "Model", "What"))
    for action in actions:
        shown.row(action.kind, action.name, "; ".join(action.changes))
        line(words(action))
    for remark in remarks:
        shown.note(remark)
        line(remark)
    if not actions:
        shown.note("Nothing: LiteLLM has them all as the file says.")
        line("nothing to do: LiteLLM has them all as the file says")
    shown.publish(f"models-{stack}")


if __name__ == "__main__":
    models()
