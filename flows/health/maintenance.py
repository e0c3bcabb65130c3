"""Maintenance windows in the Prefect variable `maintenance_<stack>`: a list that the sweep reads and people may read, too.

A restore opens one around its swap, by itself. Where the variable cannot be written the work goes on, and the watch may alert.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.exceptions import ObjectAlreadyExists

from blocks.errors import ServiceError, SettingsError, StackError
from flows.health.dependencies import ORDER, in_order, needs_of
from flows.health.windows import Window, parse
from flows.report import flow_run_id, line

__all__ = ["add", "end", "maintenance", "swapping", "variable_name", "windows", "windows_async"]

SECONDS = 30.0
"""Reading them may take a sweep so long."""
_LARGEST = 4900
"""Characters of JSON: Prefect takes 5,000."""
_SWAP_MINUTES = 120
"""A swap's window ends by itself after so long, where the process that opened it died."""


def variable_name(stack: str) -> str:
    """The variable that holds a stack's windows."""
    return f"maintenance_{stack}"


async def windows_async(stack: str) -> tuple[list[Window], list[str]]:
    """Read the windows in a coroutine.

    Returns: those that are written down, open or not; and one line for each entry that is none.
    Raises:
        ServiceError: Prefect's API does not answer.
    """
    try:
        async with asyncio.timeout(SECONDS), get_client() as client:
            found = await client.read_variable_by_name(variable_name(stack))
    except (TimeoutError, httpx.HTTPError) as error:
        raise _unreachable(stack, error) from None
    return parse(found.value if found else None)


def windows(stack: str) -> tuple[list[Window], list[str]]:
    """Read the windows; as `windows_async`."""
    return parse(_read(stack))


def add(stack: str, services: Iterable[str], reason: str, minutes: float, who: str = "") -> Window:
    """Open a window now.

    Args:
        services: names, or `all`. minutes: it ends by itself after so long. reason, who: for people; long ones are cut.
    Returns: the window; its id ends it early.
    Raises:
        SettingsError: the services or the length are not allowed, or too many windows are open.
        ServiceError: Prefect's API does not answer.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    entry = {
        "id": f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}",
        "services": tuple(services),
        "begins_at": now,
        "ends_at": now + timedelta(minutes=minutes),
        "reason": " ".join(reason.split())[:200],
        "who": " ".join(who.split())[:100],
    }
    found, problems = parse([entry])
    if problems:
        raise SettingsError(f"{problems[0]}; expected services and 0 to 10080 minutes")
    _change(stack, found, ending=())
    return found[0]


def end(stack: str, ids: Sequence[str]) -> list[Window]:
    """End windows now.

    Args:
        ids: theirs; those that ended before are no error.
    Returns: the windows that were ended.
    Raises:
        ServiceError: Prefect's API does not answer.
    """
    return _change(stack, [], ending=ids)


@contextmanager
def maintenance(stack: str, services: Iterable[str], reason: str, minutes: float, who: str = "") -> Iterator[None]:
    """Keep a window open around planned work. Neither opening nor ending it can make the work fail.

    Args:
        as in `add`; minutes: the longest that the work may take before the watch looks again.
    """
    opened: Window | None = None
    try:
        opened = add(stack, services, reason, minutes, who)
        line(f"maintenance window {opened.id} for {', '.join(opened.services)} until {opened.ends_at:%H:%M} UTC")
    except Exception as error:  # noqa: BLE001 - nothing about a window may stop the work
        line(f"no maintenance window: {_in_a_line(error)}; the work goes on, and the watch may alert")
    try:
        yield
    finally:
        if opened is not None:
            try:
                end(stack, [opened.id])
            except Exception as error:  # noqa: BLE001 - as above
                ends = f"it ends at {opened.ends_at:%H:%M} UTC"
                line(f"maintenance window {opened.id} could not be ended: {_in_a_line(error)}; {ends}")


@contextmanager
def swapping(stack: str, parts: Iterable[str], what: str) -> Iterator[None]:
    """Keep a window open while live data is swapped: for the services that hold it, and for all that need those.

    Outside a flow run there is no window.

    Args:
        parts: postgres, clickhouse, bucket. what: for people, for example `restore 20261123T030000Z-abcdef`.
    """
    holders = {"bucket": "minio"}
    touched = {holders.get(part, part) for part in parts}
    services = in_order(name for name in ORDER if name in touched or needs_of(name) & touched)
    if not services or not flow_run_id():
        yield
        return
    with maintenance(stack, services, what, _SWAP_MINUTES, who="restore"):
        yield


def _in_a_line(error: Exception) -> str:
    return str(error) if isinstance(error, StackError) else type(error).__name__


def _change(stack: str, new: Sequence[Window], ending: Sequence[str]) -> list[Window]:
    """Write the windows anew, without those that are over. Whoever writes at the same time is seen by reading it back."""
    ended: dict[str, Window] = {}
    for _ in range(5):
        now = datetime.now(UTC)
        known, problems = windows(stack)
        for problem in problems:
            line(f"{problem}; it is removed")
        ended |= {window.id: window for window in known if window.id in ending}
        kept = [one for one in known if one.ends_at > now and one.id not in ending and one.id not in {two.id for two in new}]
        value = [window.model_dump(mode="json") for window in (*kept, *new)]
        if len(json.dumps(value)) > _LARGEST:
            raise SettingsError(f"maintenance: {len(value)} windows are too many for one variable; end some of them first")
        _write(stack, value)
        there = {window.id for window in windows(stack)[0]}
        if there.issuperset(window.id for window in new) and not there.intersection(ending):
            return list(ended.values())
    raise ServiceError(f"variable {variable_name(stack)}: somebody else keeps writing it; try again")


def _read(stack: str) -> Any:
    try:
        with get_client(sync_client=True) as client:
            found = client.read_variable_by_name(variable_name(stack))
    except httpx.HTTPError as error:
        raise _unreachable(stack, error) from None
    return found.value if found else None


def _write(stack: str, value: list[dict[str, Any]]) -> None:
    fields = {"name": variable_name(stack), "value": value}
    try:
        with get_client(sync_client=True) as client:
            if client.read_variable_by_name(variable_name(stack)) is None:
                try:
                    client.create_variable(VariableCreate.model_validate(fields))
                except ObjectAlreadyExists:  # made by somebody else meanwhile
                    client.update_variable(VariableUpdate.model_validate(fields))
            else:
                client.update_variable(VariableUpdate.model_validate(fields))
    except httpx.HTTPError as error:
        raise _unreachable(stack, error) from None


def _unreachable(stack: str, error: BaseException) -> ServiceError:
    return ServiceError(
        f"variable {variable_name(stack)}: Prefect's API failed ({type(error).__name__}); is the Prefect server up?"
    )
