"""Langfuse's worker says that it is well, and takes no jobs."""

from __future__ import annotations

from shared.gameday.causes.cause import Cause

__all__ = ["WorkerWedged"]


class WorkerWedged(Cause):
    """It lost the lock of a queue (langfuse#15509): its health is 200, and jobs wait."""

    key, numbers, what = "worker-wedged", (1, 16), "Langfuse's worker lost its locks: healthy, and no job is taken"
    service, aspects = "langfuse-worker", ("consumption",)
    runbook = "unwedge-worker"
    brews = 20.0

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.behave("langfuse-worker", wedged=True)
        self.ground.send_trace()

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.behave("langfuse-worker")

    def left(self) -> str:
        """As in `Cause`."""
        with self.ground.redis() as client:
            waiting = sum(int(client.llen(key)) for key in client.scan_iter("bull:*ingestion-queue:wait"))
        return f"{waiting} jobs wait" if waiting else ""
