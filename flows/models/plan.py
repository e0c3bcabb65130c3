"""What has to be done so that LiteLLM serves what the file says; decided without a look at any secret."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid5

from flows.models.wanted import WantedModel

__all__ = ["MANAGER", "Action", "Desired", "Present", "desired", "notes", "plan", "present"]

MANAGER = "stack-operations"
"""Stands in `model_info.managed_by` of every model that is ours to change and delete."""
_IDS = UUID("6f2b7c1e-5a3d-5e0b-9c40-2d8e8a4f7b11")

Kind = Literal["create", "update", "replace", "delete"]


@dataclass(frozen=True, repr=False)
class Desired:
    """A model as it shall be, with its secrets.

    Attributes:
        wanted: as the file says. params: all of `litellm_params`. marks: a keyed fingerprint of each parameter.
    """

    wanted: WantedModel
    params: Mapping[str, Any]
    marks: Mapping[str, str]

    @property
    def model_id(self) -> str:
        """The same for the same parameters' names, so that asking twice makes one model."""
        return str(uuid5(_IDS, json.dumps([self.wanted.name, self.wanted.deployment, sorted(self.params)])))

    @property
    def model_info(self) -> dict[str, Any]:
        """What is stored beside the parameters: the file's own words, and how to know the model again."""
        ours = {"managed_by": MANAGER, "deployment": self.wanted.deployment, "fingerprints": dict(self.marks)}
        return {**self.wanted.model_info, **ours}


@dataclass(frozen=True)
class Present:
    """A model that LiteLLM has.

    Attributes:
        model_id: LiteLLM's. name: that clients ask for. params: what may be seen of them. info: `model_info`.
    """

    model_id: str
    name: str
    params: Mapping[str, Any]
    info: Mapping[str, Any]

    @property
    def is_ours(self) -> bool:
        """Whether a run of this flow stored it."""
        return self.info.get("managed_by") == MANAGER and bool(self.info.get("db_model", True))

    @property
    def key(self) -> tuple[str, str]:
        """Name and deployment."""
        return self.name, str(self.info.get("deployment") or "")

    @property
    def marks(self) -> dict[str, str]:
        """The fingerprints that were stored with it."""
        found = self.info.get("fingerprints")
        return {str(name): str(mark) for name, mark in found.items()} if isinstance(found, dict) else {}


@dataclass(frozen=True, repr=False)
class Action:
    """One thing to do.

    Attributes:
        kind: create, update, replace (a parameter is gone, which no update can say), or delete.
        name: of the model, for people. changes: what is different, one phrase each; never a secret.
        desired: as it shall be; None: not at all. present: as it is; None: not yet.
    """

    kind: Kind
    name: str
    changes: tuple[str, ...]
    desired: Desired | None = None
    present: Present | None = None


def desired(wanted: WantedModel, secrets: Mapping[str, str], key: str) -> Desired:
    """Put a model together.

    Args:
        secrets: its secrets, by parameter. key: of the fingerprints: who does not have it learns nothing from them.
    """
    params = {**wanted.litellm_params, **secrets}
    marks = {name: _mark(key, name, value) for name, value in params.items()}
    return Desired(wanted, params, marks)


def present(entry: Mapping[str, Any]) -> Present:
    """Read an entry of LiteLLM's `/model/info`."""
    info = entry.get("model_info") or {}
    return Present(str(info.get("id") or ""), str(entry.get("model_name") or ""), entry.get("litellm_params") or {}, info)


def plan(wish: Iterable[Desired], there: Iterable[Present], *, prune: bool) -> list[Action]:
    """Compare.

    Args:
        wish: all that the file says. there: all that LiteLLM has. prune: also delete what is ours and no longer in the file.
    Returns: what to do, deletions last. Nothing where all is as it shall be; models of others are never touched.
    """
    ours: dict[tuple[str, str], list[Present]] = {}
    for one in there:
        if one.is_ours:
            ours.setdefault(one.key, []).append(one)
    first: list[Action] = []
    last: list[Action] = []
    for model in wish:
        found = ours.pop((model.wanted.name, model.wanted.deployment), [])
        kept = next((one for one in found if one.model_id == model.model_id), next(iter(found), None))
        last += [_deletion(one, "left by a replacement that was interrupted") for one in found if one is not kept]
        if (action := _change(model, kept)) is not None:
            first.append(action)
    if prune:
        last += [_deletion(one, "no longer in the file") for left in ours.values() for one in left]
    return [*first, *last]


def notes(wish: Iterable[Desired], there: Iterable[Present], *, prune: bool) -> list[str]:
    """What a person should know beside the plan."""
    listed, names = list(there), {model.wanted.name for model in wish}
    wanted = {(model.wanted.name, model.wanted.deployment) for model in wish}
    shared = sorted({one.name for one in listed if not one.is_ours and one.name in names})
    found = [f"{name}: LiteLLM has one that is not from this file, too; the two share the requests" for name in shared]
    if not prune:
        left = sorted({one.name for one in listed if one.is_ours and one.key not in wanted})
        found += [f"{name}: ours, and no longer in the file; `prune` would delete it" for name in left]
    return found


def _change(model: Desired, found: Present | None) -> Action | None:
    name = model.wanted.identity
    if found is None:
        shown = tuple(f"{param}: {_shown(model, param)}" for param in sorted(model.params))
        return Action("create", name, shown, model)
    changes = tuple(_differences(model, found))
    if not changes:
        return None
    gone = found.marks.keys() - model.marks.keys()
    return Action("replace" if gone else "update", name, changes, model, found)


def _differences(model: Desired, found: Present) -> Iterable[str]:
    for param in sorted(model.params):
        open_value = model.wanted.litellm_params.get(param)
        live = found.params.get(param)
        if param not in found.marks:
            yield f"{param}: {_shown(model, param)} (new)"
        elif param in model.wanted.secrets:
            if found.marks[param] != model.marks[param]:
                yield f"{param}: another secret, {_shown(model, param)}"
        elif found.marks[param] != model.marks[param] or (live is not None and live != open_value):
            yield f"{param}: {_text(live)} -> {_text(open_value)}"
    yield from (f"{param}: gone" for param in sorted(found.marks.keys() - model.marks.keys()))
    for name, value in sorted(model.wanted.model_info.items()):
        if found.info.get(name) != value:
            yield f"model_info.{name}: {_text(found.info.get(name))} -> {_text(value)}"


def _deletion(one: Present, why: str) -> Action:
    return Action("delete", f"{one.name} ({one.key[1]})" if one.key[1] else one.name, (why,), present=one)


def _shown(model: Desired, param: str) -> str:
    source = model.wanted.secrets.get(param)
    return f"from {source}" if source is not None else _text(model.wanted.litellm_params[param])


def _text(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _mark(key: str, name: str, value: object) -> str:
    content = json.dumps([name, value], sort_keys=True, ensure_ascii=False)
    return hmac.digest(f"models-apply/{key}".encode(), content.encode(), "sha256").hex()[:16]
