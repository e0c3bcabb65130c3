"""Work that the platform does beside the request that asked for it, under an id that can be asked about.

A workflow is `NotFound` at first, then `Running`, then `Complete` or `Error` (facts: railway.md 2.1): a client that takes the
first answer for an error gives up on what works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.stored import new_id

__all__ = ["Workflows"]


@dataclass
class _Workflow:
    status: str = "NotFound"
    error: str | None = None
    was_asked: bool = False


class Workflows:
    """All workflows there ever were."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._known: dict[str, _Workflow] = {}

    def begin(self, work: Callable[[], None]) -> str:
        """Start one.

        Args:
            work: called without the lock; raises `ApiError` with what went wrong.
        Returns: its id.
        """
        workflow, identity = _Workflow(), new_id()
        self._known[identity] = workflow

        def run() -> None:
            closing, pause = self._platform.closing, self._platform.pace.workflow
            closing.wait(pause)
            workflow.status = "Running"
            if closing.wait(pause):
                return
            try:
                work()
            except ApiError as error:
                workflow.error, workflow.status = str(error), "Error"
            else:
                workflow.status = "Complete"

        self._platform.machine.spawn(run)
        return identity

    def done(self) -> str:
        """The id of something that was finished within the request."""
        identity = new_id()
        self._known[identity] = _Workflow("Complete", was_asked=True)
        return identity

    def status(self, identity: str) -> dict[str, str | None]:
        """What is known of one; of an unknown id as of one that has just begun."""
        workflow = self._known.get(identity, _Workflow())
        is_known, workflow.was_asked = workflow.was_asked, True  # also what is quick is not found by the first who asks
        return {"status": workflow.status, "error": workflow.error} if is_known else {"status": "NotFound", "error": None}
