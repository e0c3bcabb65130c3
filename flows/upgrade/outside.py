"""What an upgrade asks of the world beside Railway's API: is the stack well, is the data safe, does a request get through.

`live.py` answers for a real stack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from flows.lease import Lease
from flows.upgrade.rules import Facts

__all__ = ["Fault", "Outside"]


@dataclass(frozen=True)
class Fault:
    """Something that a check found.

    Attributes:
        service, aspect: what was looked at. sentence: for people.
        down: the service is useless to those that need it; else it is degraded, or something aside is bad.
    """

    service: str
    aspect: str
    down: bool
    sentence: str

    @property
    def name(self) -> str:
        """The same fault is called the same at every look."""
        return f"{self.service}: {self.aspect}"


class Outside(ABC):
    """Beside Railway. Every method may raise a `StackError`."""

    @abstractmethod
    def faults(self, services: Collection[str]) -> list[Fault]:
        """Look at services as a sweep does; returns what is wrong with them, none where nothing is."""

    @abstractmethod
    def databases(self) -> Facts:
        """Read of the rules' facts what stands in the databases; None where nobody could read it. Raises for nothing."""

    @abstractmethod
    def need_image(self, image: str) -> str:
        """See that a registry has an image.

        Returns: its digest; empty where the registry does not say.
        Raises:
            GuardRefused: it does not.
        """

    @abstractmethod
    def newest_proven(self, since: datetime) -> str:
        """Name the newest whole set that was taken and drilled after a moment; empty where there is none."""

    @abstractmethod
    def take_set(self, label: str, lease: Lease, *, drill: bool) -> str:
        """Take a backup set of everything, and prove it where that is asked for.

        Returns: its id.
        Raises:
            BackupFailed: nothing was committed. DrillFailed: it is there, and not what it should be.
        """

    @abstractmethod
    def put_back(self, set_id: str, components: Sequence[str], lease: Lease) -> str:
        """Put databases back as they are in a set; what was written since is kept beside them, for undo.

        Args:
            components: `postgres/litellm`, `clickhouse/langfuse`. Nobody may be writing to them.
        Returns: the id of the restore.
        """

    @abstractmethod
    def smoke(self) -> str:
        """Send a request through the whole stack; returns a verdict in a line.

        Raises:
            SmokeFailed: it does not get through.
        """

    @abstractmethod
    def requests(self, since: datetime) -> tuple[int, int] | None:
        """Count the gateway's requests since a moment, and those of them that failed; None where nobody can."""
