"""`python -m flows.upgrade.resume`: start a run for each upgrade that a worker's death, or its own upgrade, left unfinished.

The worker's container runs it at each start, when the deployments are there. The run waits for the stack's lock, which the dead
one loses by itself, and finishes or undoes what was begun; where somebody has done that meanwhile it finds nothing to do.
"""

from __future__ import annotations

import sys
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from blocks.errors import ServiceError, StackError
from flows.stack import Stack
from flows.upgrade.journal import UpgradeJournal, open_journals

__all__ = ["main", "start_run"]


def main() -> int:
    """Start the runs; returns the exit status: 0, or 1 with one line that says what is wrong."""
    try:
        for journal in open_journals(Stack.load().store):
            print(f"upgrade {journal.id} of {journal.kind} is {journal.phase}: run {start_run(journal)} finishes it")  # noqa: T201
    except StackError as error:
        print(f"upgrades: {error}", file=sys.stderr)  # noqa: T201 - the container's log
        return 1
    return 0


def start_run(journal: UpgradeJournal) -> UUID:
    """Start a run that finishes an upgrade; returns its id, also where it was started before and nothing has happened since.

    Raises:
        ServiceError: there is no deployment of that kind.
    """
    request = {"action": "finish", "upgrade_id": journal.id}
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(f"upgrade/{journal.kind}")
        except ObjectNotFound:
            raise ServiceError(
                f"there is no deployment upgrade/{journal.kind}; run `prefect --no-prompt deploy --all`", permanent=True
            ) from None
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters={"request": request}, idempotency_key=f"upgrade-{journal.id}-{journal.writes}"
        )
    return run.id


if __name__ == "__main__":
    sys.exit(main())
