"""One table of the runbooks: which incidents each answers, and whether it may run by itself. Triggers follow it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Entry", "Kind", "entries"]

Kind = Literal["automatic", "asks", "manual"]
"""Automatic: safe to run by itself. Asks: deletes or moves data, a person approves it. Manual: no incident starts it."""


@dataclass(frozen=True)
class Entry:
    """One runbook.

    Attributes:
        name: as people call it, for example `restart-service`.
        service: the service whose incidents it answers; None: of any service.
        aspects: what was bad about it, as the checks in `flows.health.checks` call it; empty: whatever it was.
        kind: whether it runs by itself.
        deployment: what is started, as typed after `prefect deployment run`.
    """

    name: str
    service: str | None
    aspects: tuple[str, ...]
    kind: Kind
    deployment: str

    def answers(self, service: str, aspect: str) -> bool:
        """Say whether it is meant for an incident of this service and aspect."""
        return self.service in (None, service) and (not self.aspects or aspect in self.aspects)


def entries() -> Sequence[Entry]:
    """Return all runbooks. Of those that answer an incident the first is the one to run."""
    return ()
