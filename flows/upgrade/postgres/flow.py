"""Move all of Postgres to a new server, another major version or another place, and lead everybody there; with a way back."""

from __future__ import annotations

from prefect import flow

from blocks.railway import PROTECTED
from flows.deploy.flow import environment_of
from flows.stack import Stack
from flows.upgrade.flow import counted
from flows.upgrade.live import Live
from flows.upgrade.look import Eyes
from flows.upgrade.postgres.orders import PostgresRequest
from flows.upgrade.postgres.run import Run

__all__ = ["PostgresRequest", "upgrade"]


# No retries: each step is tried again inside, and what a dead run leaves another one finishes or undoes.
@flow(name="upgrade", validate_parameters=True, timeout_seconds=24 * 3600)
def upgrade(request: PostgresRequest = PostgresRequest()) -> str:
    """Gate, back up, make the new server, rehearse, stop writers, copy, compare, lead everybody there, verify, watch.

    Args:
        request: to which server, and how.
    Returns: how it ended: done, undone, forgotten, or nothing.
    Raises:
        GuardRefused, RestoreRefused, VersionMismatch: it does not begin, and why; nothing was changed.
        ApprovalMissing: nobody approved; nothing was changed.
        LeaseHeld: a backup, restore or other upgrade is under way.
        UpgradeFailed: it broke off; says what was undone, and that the stack is well again.
    """
    stack = Stack.load()
    with environment_of(stack.settings).open(allow=PROTECTED) as api:
        return Run(Eyes(stack, api, Live(stack)), request, counter=counted).carry_out()


if __name__ == "__main__":
    upgrade()
