"""Upgrade a service of the stack on Railway, and undo it by itself where it does not become well."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from prefect import flow

from blocks.railway import PROTECTED
from blocks.settings import Settings
from flows.deploy.flow import environment_of
from flows.report import Progress, flow_run_id, line
from flows.stack import Stack
from flows.upgrade.carry_out import upgrade_services
from flows.upgrade.live import Live
from flows.upgrade.look import Eyes
from flows.upgrade.orders import Kind, UpgradeRequest

__all__ = ["upgrade"]


# No retries: each step is tried again inside, and what a dead run leaves another one finishes or undoes.
@flow(name="upgrade", validate_parameters=True, timeout_seconds=24 * 3600)
def upgrade(service: Kind, request: UpgradeRequest = UpgradeRequest()) -> str:
    """Gate, secure the data, change, deploy in order, verify, watch; whatever fails is undone, and proven to be well again.

    Args:
        service: what to upgrade; each has a deployment of its own. request: to which version, and how.
    Returns: how it ended: done, undone, or nothing.
    Raises:
        GuardRefused: it does not begin, with every reason; nothing was changed.
        ApprovalMissing: nobody approved; nothing was changed.
        LeaseHeld: a backup, restore or other upgrade is under way.
        UpgradeFailed: it broke off; says what was undone, and that the stack is well again.
    """
    stack = Stack.load()
    with environment_of(stack.settings).open(allow=PROTECTED) as api:
        journal = upgrade_services(Eyes(stack, api, Live(stack)), service, request, counter=counted)
    return journal.phase if journal else "nothing"


def counted(steps: int) -> Callable[[], None]:
    """Show how far the run is; a Prefect server that is away meanwhile, as when it is upgraded itself, is no reason to fail."""
    name = Settings.load().stack_name
    shown = Progress(f"upgrade-progress-{name}", f"Upgrade of {name}", steps) if flow_run_id() else None

    def step() -> None:
        try:
            if shown is not None:
                shown.step()
        except httpx.HTTPError as error:
            line(f"progress is not shown: {type(error).__name__}")

    return step


if __name__ == "__main__":
    upgrade("litellm")
