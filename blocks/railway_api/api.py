"""All verbs in one class."""

from __future__ import annotations

from typing import Any, Self

from blocks.railway_api import documents
from blocks.railway_api.capabilities import Capabilities
from blocks.railway_api.services import Services
from blocks.railway_api.waiting import Waiting

__all__ = ["RailwayApi"]


class RailwayApi(Waiting, Services, Capabilities):
    """One environment of one project on Railway; a context manager, made by `RailwayEnvironment.open`.

    Questions are tried again, changes are not once they may have arrived: then they raise `Uncertain`, and whoever called reads
    the state before going on (`certainly` does that). Every method may raise `RailwayDenied`, `RailwayRefused`, `RateLimited`
    and `RailwayError`; safe to use from many threads.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.graphql.close()

    def generate_template(self) -> dict[str, Any]:
        """Make an unpublished template of the project as it is; Railway drops literal defaults from it.

        Returns: its id, code, name, status and serializedConfig.
        """
        found: dict[str, Any] = self._do(documents.TEMPLATE_GENERATE, input=self._where)
        return found

    def __repr__(self) -> str:
        return f"RailwayApi(project {self.place.project_id}, environment {self.place.environment_id})"
