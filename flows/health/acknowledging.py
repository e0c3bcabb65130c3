"""Where acknowledgements are kept: in Prefect variables, one each, `acknowledged_<stack>_<hash of the incident's key>`.

A variable each, so that nobody writes what another one may write at the same time. The sweep reads them while an incident is
open, and deletes those of incidents that are over. Who acknowledges looks the incident up in what the sweeps remember.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists
from pydantic import ValidationError

from blocks.errors import GuardRefused, ServiceError
from flows.health.acknowledged import LONGEST_NAME, Acknowledgement
from flows.health.incidents import Incident
from flows.health.ledger import fitting
from flows.health.memory import load_text
from flows.health.state import State, memory_name

__all__ = ["Outcome", "acknowledge", "forget", "open_incidents", "read_acknowledgements", "variable_name", "withdraw"]

SECONDS = 30.0
"""Each of these may take so long, repeated requests included."""
_PAGE = 200

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        incident: its key. said: a sentence for who asked. changed: whether anything is other than before.
    """

    incident: str
    said: str
    changed: bool


def variable_name(stack: str, incident: str) -> str:
    """The variable for one incident of a stack. A stack's name has no underscore, so that none begins another one's."""
    return f"acknowledged_{stack}_{hashlib.sha256(incident.encode()).hexdigest()[:24]}"


async def acknowledge(stack: str, incident: str, by: str) -> Outcome:
    """Say that somebody works on an open incident. Who said so first stays, until it is withdrawn.

    Args:
        incident: its key, or the key as channels have it. by: who; a long name is cut.
    Raises:
        GuardRefused: no such incident is open.
        ServiceError: Prefect's API does not answer. IntegrityError: what the sweeps remember is damaged.
    """
    found = await _open(stack, incident)
    async with _client(stack) as client:
        before = _parsed(await _value(client, variable_name(stack, found.key)))
        if before is not None:
            return Outcome(found.key, f"{before.by} is working on it already, since {before.at:%H:%M} UTC", changed=False)
        name = " ".join(by.split())[:LONGEST_NAME] or "somebody"
        await _write(client, Acknowledgement(incident=found.key, by=name, at=datetime.now(UTC).replace(microsecond=0)), stack)
    said = f"acknowledged by {name}: no reminders of it and no escalation until it is over or gets worse"
    return Outcome(found.key, said, changed=True)


async def withdraw(stack: str, incident: str) -> Outcome:
    """Take an acknowledgement back: people are reminded again. Raises as `acknowledge`."""
    found = await _open(stack, incident)
    if await forget(stack, [found.key]):
        return Outcome(found.key, "not acknowledged any more: people are reminded of it again", changed=True)
    return Outcome(found.key, "nobody had acknowledged it", changed=False)


async def open_incidents(stack: str) -> tuple[Incident, ...]:
    """The open incidents, as the last sweep left them, oldest first.

    Raises:
        ServiceError: Prefect's API does not answer. IntegrityError: what the sweeps remember is damaged.
    """
    return State.from_text(await load_text(memory_name(stack)), stack).incidents


async def read_acknowledgements(stack: str) -> dict[str, Acknowledgement]:
    """Read all of a stack, by the incident's key; what somebody has edited into something else is left out.

    Raises:
        ServiceError: Prefect's API does not answer.
    """
    prefix = variable_name(stack, "")[:-24]
    entries: dict[str, Any] = {}
    async with _client(stack) as client:
        while True:
            query = {"variables": {"name": {"like_": prefix}}, "limit": _PAGE, "offset": len(entries), "sort": "NAME_ASC"}
            page = (await client._client.post("/variables/filter", json=query)).json()
            entries |= {one["name"]: one["value"] for one in page}
            if len(page) < _PAGE:
                break
    found = (_parsed(value) for name, value in entries.items() if name.startswith(prefix))  # a pattern finds others', too
    return {one.incident: one for one in found if one is not None}


async def forget(stack: str, incidents: Iterable[str]) -> int:
    """Delete acknowledgements, by the incidents' keys; returns how many there were.

    Raises:
        ServiceError: Prefect's API does not answer.
    """
    count = 0
    async with _client(stack) as client:
        for key in incidents:
            try:
                await client._client.delete(f"/variables/name/{variable_name(stack, key)}")
                count += 1
            except httpx.HTTPStatusError as error:
                if error.response.status_code != httpx.codes.NOT_FOUND:
                    raise
    return count


async def _open(stack: str, incident: str) -> Incident:
    for one in await open_incidents(stack):
        if incident in (one.key, fitting(one.key)):
            return one
    raise GuardRefused(
        f"{incident[:300]} is not open, or not any more; `python -m flows.runbook.acknowledge` lists those that are"
    )


async def _write(client: PrefectClient, word: Acknowledgement, stack: str) -> None:
    change = {"name": variable_name(stack, word.incident), "value": word.model_dump(mode="json")}
    try:
        await client.create_variable(VariableCreate.model_validate(change))
    except ObjectAlreadyExists:  # another one at the same moment, or damaged
        await client.update_variable(VariableUpdate.model_validate(change))


async def _value(client: PrefectClient, name: str) -> Any:
    found = await client.read_variable_by_name(name)
    return None if found is None else found.value


def _parsed(value: Any) -> Acknowledgement | None:
    try:
        return Acknowledgement.model_validate(value)
    except ValidationError:
        return None


@asynccontextmanager
async def _client(stack: str) -> AsyncIterator[PrefectClient]:
    """A client with a deadline, and with our error in place of Prefect's."""
    try:
        async with asyncio.timeout(SECONDS), get_client() as client:
            yield client
    except (TimeoutError, httpx.HTTPError) as error:
        raise ServiceError(
            f"acknowledgements of {stack}: Prefect's API failed ({type(error).__name__}); is the Prefect server up?"
        ) from None
