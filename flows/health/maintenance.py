"""Maintenance windows in Prefect variables, one each: `maintenance_<stack>_<id>`, for the sweep and for people to read.

A variable each, so that nobody writes what another one may write at the same time: opening a window makes a variable, ending it
deletes one. A restore opens one around its swap, by itself; such a window is over when the flow run that opened it is, however
that came to its end. Where the variable cannot be written the work goes on, and the watch may alert.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate

from blocks.errors import ServiceError, SettingsError, StackError
from flows.health.dependencies import ORDER, in_order, needs_of
from flows.health.windows import Window, parse
from flows.report import flow_run_id, line

__all__ = ["add", "end", "maintenance", "swapping", "variable_name", "windows", "windows_async"]

SECONDS = 30.0
"""Reading them may take a sweep so long."""
_PAGE = 200
_KEPT = timedelta(hours=1)
"""A window that is over stays written down for so long."""
_SWAP_MINUTES = 120
"""A swap's window ends by itself after so long, where nobody can be asked about the run that opened it."""
_OVER = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


def variable_name(stack: str, window: str = "") -> str:
    """The variable that holds one of a stack's windows; without an id, what all their names begin with.

    A stack's name has no underscore, so that none is the beginning of another one's.
    """
    return f"maintenance_{stack}_{window.lower()}"


async def windows_async(stack: str) -> tuple[list[Window], list[str]]:
    """Read the windows in a coroutine.

    Returns: those that are written down and whose run is not over, open or not; one line for each entry that is none.
    Raises:
        ServiceError: Prefect's API does not answer.
    """
    try:
        async with asyncio.timeout(SECONDS), get_client() as client:
            entries: dict[str, Any] = {}
            while True:
                answer = await client._client.post("/variables/filter", json=_query(stack, len(entries)))
                page = answer.json()
                entries |= {one["name"]: one["value"] for one in page}
                if len(page) < _PAGE:
                    break
            found, problems = _parsed(stack, entries)
            states = {}
            for run in _owners(found):
                answer = await client._client.post("/flow_runs/filter", json=_run_query(run))
                states[run] = _state(answer.json())
    except (TimeoutError, httpx.HTTPError) as error:
        raise _unreachable(stack, error) from None
    return _of_live_runs(found, states), problems


def windows(stack: str) -> tuple[list[Window], list[str]]:
    """Read the windows; as `windows_async`."""
    found, problems = _parsed(stack, _read(stack))
    return _of_live_runs(found, _states(stack, _owners(found))), problems


def add(stack: str, services: Iterable[str], reason: str, minutes: float, who: str = "", run_id: str = "") -> Window:
    """Open a window now.

    Args:
        services: names, or `all`. minutes: it ends by itself after so long. reason, who: for people; long ones are cut.
        run_id: of the flow run with which it is over; empty for none.
    Returns: the window; its id ends it early.
    Raises:
        SettingsError: the services or the length are not allowed.
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
        "run_id": run_id,
    }
    found, problems = parse([entry])
    if problems:
        raise SettingsError(f"{problems[0]}; expected services and 0 to 10080 minutes")
    _tidy(stack)
    try:
        with get_client(sync_client=True) as client:
            name = variable_name(stack, found[0].id)
            client.create_variable(VariableCreate.model_validate({"name": name, "value": found[0].model_dump(mode="json")}))
    except httpx.HTTPError as error:
        raise _unreachable(stack, error) from None
    return found[0]


def end(stack: str, ids: Sequence[str]) -> list[Window]:
    """End windows now.

    Args:
        ids: theirs; those that ended before are no error.
    Returns: the windows that were ended.
    Raises:
        ServiceError: Prefect's API does not answer.
    """
    _tidy(stack)
    known, _ = _parsed(stack, _read(stack))
    return [window for window in known if window.id in ids and _delete(stack, variable_name(stack, window.id))]


@contextmanager
def maintenance(stack: str, services: Iterable[str], reason: str, minutes: float, who: str = "") -> Iterator[None]:
    """Keep a window open around planned work. Neither opening nor ending it can make the work fail.

    Args:
        as in `add`; minutes: the longest that the work may take before the watch looks again.
    """
    opened: Window | None = None
    try:
        opened = add(stack, services, reason, minutes, who, flow_run_id())
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


def _query(stack: str, offset: int) -> dict[str, Any]:
    return {"variables": {"name": {"like_": variable_name(stack)}}, "limit": _PAGE, "offset": offset, "sort": "NAME_ASC"}


def _run_query(run: str) -> dict[str, Any]:
    return {"flow_runs": {"id": {"any_": [run]}}, "limit": 1}


def _state(found: list[dict[str, Any]]) -> str:
    """The state of a run; one that is not there any more is over."""
    return str(found[0]["state_type"]) if found else "CANCELLED"


def _parsed(stack: str, entries: Mapping[str, Any]) -> tuple[list[Window], list[str]]:
    """Windows of a stack's variables: a pattern of SQL may find others', too."""
    return parse([value for name, value in sorted(entries.items()) if name.startswith(variable_name(stack))])


def _owners(found: Iterable[Window]) -> list[str]:
    now = datetime.now(UTC)
    return sorted({window.run_id for window in found if window.run_id and window.ends_at > now})


def _of_live_runs(found: Iterable[Window], states: Mapping[str, str]) -> list[Window]:
    return [window for window in found if states.get(window.run_id) not in _OVER]


def _read(stack: str) -> dict[str, Any]:
    """The values of a stack's variables, by name."""
    entries: dict[str, Any] = {}
    try:
        with get_client(sync_client=True) as client:
            while True:
                page = client._client.post("/variables/filter", json=_query(stack, len(entries))).json()
                entries |= {one["name"]: one["value"] for one in page}
                if len(page) < _PAGE:
                    return {name: value for name, value in entries.items() if name.startswith(variable_name(stack))}
    except httpx.HTTPError as error:
        raise _unreachable(stack, error) from None


def _states(stack: str, runs: Collection[str]) -> dict[str, str]:
    try:
        with get_client(sync_client=True) as client:
            return {run: _state(client._client.post("/flow_runs/filter", json=_run_query(run)).json()) for run in runs}
    except httpx.HTTPError as error:
        raise _unreachable(stack, error) from None


def _delete(stack: str, name: str) -> bool:
    """Delete a variable; returns whether it was there."""
    try:
        with get_client(sync_client=True) as client:
            client._client.delete(f"/variables/name/{name}")
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.NOT_FOUND:
            raise _unreachable(stack, error) from None
        return False
    except httpx.HTTPError as error:
        raise _unreachable(stack, error) from None
    return True


def _tidy(stack: str) -> None:
    """Delete what is over for long, what is over with its run, and what is no window."""
    now = datetime.now(UTC)
    entries = _read(stack)
    alive = {window.id for window in windows(stack)[0] if window.ends_at > now - _KEPT}
    for name, value in entries.items():
        found, problems = parse([value])
        if problems:
            line(f"{name}: {problems[0]}; it is removed")
        if not (found and found[0].id in alive):
            _delete(stack, name)


def _unreachable(stack: str, error: BaseException) -> ServiceError:
    return ServiceError(
        f"maintenance windows of {stack}: Prefect's API failed ({type(error).__name__}); is the Prefect server up?"
    )
