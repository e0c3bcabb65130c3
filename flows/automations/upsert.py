"""Bring the automations of a Prefect server to what is wanted: by name, so that a second run changes nothing."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID, uuid5

import httpx
from prefect.blocks.abstract import NotificationBlock
from prefect.client.orchestration import PrefectClient
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound

from blocks.errors import SettingsError
from blocks.settings import Settings
from flows.automations.server_blocks import ServerBlock, server_blocks
from flows.automations.wanted import ALERT_FLOW, SWEEP_FLOW, Means, tag_of, wanted

__all__ = ["Change", "changes", "upsert"]

ALERT_DEPLOYMENT = f"{ALERT_FLOW}/flow-run"
DISPATCH_DEPLOYMENT = "runbook/dispatch"
SWEEP_DEPLOYMENT = f"{SWEEP_FLOW}/sweep"
_NOT_YET = UUID(int=0)
_OWN_FIELDS = {"id", "created", "updated", "owner_resource", "enabled"}
"""What the server adds, and whether somebody paused it in the UI, which is respected."""

Verb = Literal["create", "update", "keep", "delete", "left over"]


@dataclass(frozen=True)
class Change:
    """What is done to one automation.

    Attributes:
        verb, name: what, and to which. difference: lines of a unified diff of its JSON, for an update.
        automation: as it is to be. present: as it is, with its id.
    """

    verb: Verb
    name: str
    difference: tuple[str, ...] = ()
    automation: AutomationCore | None = None
    present: Automation | None = None


def changes(target: Sequence[AutomationCore], present: Sequence[Automation], tag: str, *, prune: bool) -> list[Change]:
    """Compare what is wanted with what is there.

    Args:
        present: all automations of the server. tag: of ours; others are never touched, whatever they are called.
        prune: delete ours that are no longer wanted, and doubles; otherwise they are only named.
    """
    ours: dict[str, list[Automation]] = {}
    for automation in present:
        if tag in automation.tags:
            ours.setdefault(automation.name, []).append(automation)
    found: list[Change] = []
    for aim in target:
        same = ours.pop(aim.name, [])
        if not same:
            found.append(Change("create", aim.name, automation=aim))
            continue
        difference = _difference(same[0], aim)
        verb: Verb = "update" if difference else "keep"
        found.append(Change(verb, aim.name, difference, aim, same[0]))
        if same[1:]:
            ours[aim.name] = same[1:]
    last: Verb = "delete" if prune else "left over"
    found += [Change(last, one.name, present=one) for automations in ours.values() for one in automations]
    return found


async def upsert(client: PrefectClient, settings: Settings, *, dry_run: bool, prune: bool) -> list[Change]:
    """Save the server's notification blocks, then bring the automations to what is wanted.

    Args:
        dry_run: change nothing; ids of blocks that are not there yet are made up.
        prune: see `changes`.
    Returns: what was done, or would be.
    Raises:
        SettingsError: a deployment that they start is not there, or a channel is half configured.
    """
    made = list(server_blocks(settings))
    ids = {block.name: await _block_id(client, block, dry_run=dry_run) for block in made}
    means = Means(
        alert_deployment=await _deployment_id(client, ALERT_DEPLOYMENT),
        dispatch_deployment=await _deployment_id(client, DISPATCH_DEPLOYMENT),
        sweep_deployment=await _deployment_id(client, SWEEP_DEPLOYMENT),
        tell={block.channel: ids[block.name] for block in made if not block.ends},
        end={block.channel: ids[block.name] for block in made if block.ends},
    )
    found = changes(wanted(settings, means), await _all(client), tag_of(settings), prune=prune)
    if not dry_run:
        for change in found:
            await _apply(client, change)
        await _drop_doubles(client, {change.name for change in found if change.verb == "create"}, tag_of(settings))
    return found


async def _drop_doubles(client: PrefectClient, created: set[str], tag: str) -> None:
    """Leave one of each automation that was just created: another container may have done so in the same moment.

    Names are not unique to the server. Both look after they have created theirs, so the later one sees all; both keep the same.
    """
    if not created:
        return
    ours = [one for one in await _all(client) if tag in one.tags and one.name in created]
    kept = {one.name: one.id for one in sorted(ours, key=lambda one: one.id, reverse=True)}
    for double in (one for one in ours if one.id != kept[one.name]):
        try:
            await client.delete_automation(double.id)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:  # the other one was faster
                raise


async def _apply(client: PrefectClient, change: Change) -> None:
    if change.verb == "create" and change.automation is not None:
        await client.create_automation(change.automation)
    elif change.verb == "update" and change.automation is not None and change.present is not None:
        kept = change.automation.model_copy(update={"enabled": change.present.enabled})
        await client.update_automation(change.present.id, kept)
    elif change.verb == "delete" and change.present is not None:
        await client.delete_automation(change.present.id)


async def _all(client: PrefectClient) -> list[Automation]:
    """Every automation: the client's own call stops after the first 200."""
    found: list[Automation] = []
    while True:
        answer = await client._client.post("/automations/filter", json={"limit": 200, "offset": len(found)})
        page = [Automation.model_validate(one) for one in answer.json()]
        found += page
        if len(page) < 200:
            return found


async def _deployment_id(client: PrefectClient, name: str) -> UUID:
    try:
        return (await client.read_deployment_by_name(name)).id
    except ObjectNotFound:
        raise SettingsError(f"deployment {name} does not exist; run `prefect --no-prompt deploy --all` first") from None


async def _block_id(client: PrefectClient, made: ServerBlock, *, dry_run: bool) -> UUID:
    """The id of a block document that says what the settings say; saved unless it does already."""
    try:
        slug = made.block.get_block_type_slug()
        present = await client.read_block_document_by_name(made.name, slug, include_secrets=True)
    except ObjectNotFound:
        present = None
    if present is not None and (dry_run or _says(present.data, made.block)):
        return present.id
    if dry_run:
        return uuid5(_NOT_YET, made.name)
    save: Any = made.block.save  # takes a second: it registers the type and its schema anew each time
    saved: UUID = await save(made.name, overwrite=True, client=client)
    return saved


def _says(data: dict[str, Any], block: NotificationBlock) -> bool:
    """Whether a document holds what a block would be saved as, secrets included."""
    wanted_data = block.model_dump(mode="json", by_alias=True, context={"include_secrets": True})
    return all(wanted_data.get(name) == value for name, value in data.items())


def _difference(before: Automation, after: AutomationCore) -> tuple[str, ...]:
    old, new = _lines(before), _lines(after)
    return tuple(difflib.unified_diff(old, new, "present", "wanted", lineterm="", n=1))


def _lines(automation: AutomationCore) -> list[str]:
    plain = _normal(AutomationCore.model_validate(automation.model_dump()).model_dump(mode="json", exclude=_OWN_FIELDS))
    return json.dumps(plain, indent=1, sort_keys=True).splitlines()


def _normal(value: Any) -> Any:
    """The same for what means the same: sets in the order of the alphabet, and no ids of nested triggers."""
    if isinstance(value, dict):
        return {name: _normal(one) for name, one in value.items() if name != "id"}
    if isinstance(value, list):
        plain = [_normal(one) for one in value]
        return sorted(plain) if all(isinstance(one, str) for one in plain) else plain
    return value
