"""Open, end or list maintenance windows: while one is open, its services alert nobody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import SettingsError
from blocks.settings import Settings
from flows.health import maintenance as keeping
from flows.health.dependencies import ORDER
from flows.health.windows import ALL, Window
from flows.report import Summary, line

__all__ = ["MaintenanceRequest", "maintenance"]


class MaintenanceRequest(BaseModel):
    """What to do with the windows."""

    action: Literal["list", "open", "end"] = Field(
        default="list",
        description="list: show them. open: mute services from now on, for so many minutes. end: mute no longer",
    )
    services: list[str] = Field(
        default=[ALL], description="open: names of services (postgres, litellm, backups, ...), or all", min_length=1
    )
    minutes: float = Field(default=60, gt=0, le=7 * 24 * 60, description="open: the window ends by itself after so long")
    reason: str = Field(default="", max_length=200, description="open: what is being done, for those who wonder")
    who: str = Field(default="", max_length=100, description="open: whom to ask")
    window: str = Field(default=ALL, description="end: the id of a window, as listed, or all")


@flow(name="maintenance", validate_parameters=True, timeout_seconds=120)
def maintenance(request: MaintenanceRequest = MaintenanceRequest()) -> list[Window]:
    """Open, end or list maintenance windows.

    An open incident still closes in a window; none opens, and nobody is reminded.

    Args:
        request: what to do.
    Returns: the windows that are open or to come, afterwards.
    Raises:
        SettingsError: there is no such service or window.
        ServiceError: Prefect's API does not answer.
    """
    stack = Settings.load().stack_name
    if request.action == "open":
        _refuse_unknown(request.services)
        opened = keeping.add(stack, request.services, request.reason, request.minutes, request.who)
        line(f"opened {opened.id} for {', '.join(opened.services)} until {opened.ends_at:%Y-%m-%d %H:%M} UTC")
    elif request.action == "end":
        known = [window.id for window in _current(stack)]
        if request.window not in {*known, ALL}:
            raise SettingsError(f"maintenance: no window {request.window!r} to end; there are: {', '.join(known) or 'none'}")
        for window in keeping.end(stack, known if request.window == ALL else [request.window]):
            line(f"ended {window.id} for {', '.join(window.services)}")
    left = _current(stack)
    _show(stack, left)
    return left


def _refuse_unknown(services: list[str]) -> None:
    unknown = [name for name in services if name not in {*ORDER, ALL}]
    if unknown:
        raise SettingsError(
            f"maintenance: there is no service {', '.join(unknown)}; expected {ALL}, or some of {', '.join(ORDER)}"
        )


def _current(stack: str) -> list[Window]:
    windows, problems = keeping.windows(stack)
    for problem in problems:
        line(problem)
    now = datetime.now(UTC)
    return [window for window in windows if window.ends_at > now]


def _show(stack: str, windows: list[Window]) -> None:
    shown = Summary(f"Maintenance windows of {stack}", ("Window", "Services", "From", "To", "Reason", "Who"))
    for window in windows:
        begins, ends = f"{window.begins_at:%Y-%m-%d %H:%M} UTC", f"{window.ends_at:%Y-%m-%d %H:%M} UTC"
        shown.row(window.id, ", ".join(window.services), begins, ends, window.reason, window.who)
        line(f"{window.id}: {', '.join(window.services)} from {begins} to {ends}: {window.reason or 'no reason given'}")
    if not windows:
        shown.note("None: every incident alerts.")
        line("no maintenance window is open or to come")
    shown.publish(f"maintenance-{stack}")


if __name__ == "__main__":
    maintenance()
