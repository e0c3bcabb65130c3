"""Variables: their values are secrets, whatever they are (facts: railway.md 2.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blocks.railway_api import documents
from blocks.railway_api.models import VariableMeta
from blocks.railway_api.redaction import Variables
from blocks.railway_api.session import Session

__all__ = ["VariableCalls"]


class VariableCalls(Session):
    """The part of `RailwayApi` about variables."""

    def variables(self, service_id: str | None = None, *, rendered: bool = False) -> Variables:
        """Read variables.

        Sealed ones are missing: nobody can read them (see `variable_meta`).

        Args:
            service_id: None for the environment's shared ones.
            rendered: with the values of references in them, as a deployment of the service would get them. Not rendered is
                what an undo needs: a value that was written back rendered is no reference any more.
        Returns: by name; it does not show its values when it is printed.
        """
        if rendered and service_id is not None:
            found = self._run(documents.VARIABLES_RENDERED, serviceId=service_id, **self._where)[
                "variablesForServiceDeployment"
            ]
        else:
            found = self._run(documents.VARIABLES, serviceId=service_id, unrendered=not rendered, **self._where)["variables"]
        values = Variables({str(name): str(value) for name, value in (found or {}).items() if value is not None})
        self.graphql.secrets.learn(values)
        return values

    def variable_meta(self) -> list[VariableMeta]:
        """Read which variables there are in the environment, and which of them are sealed; without values."""
        found: list[VariableMeta] = []
        after: str | None = None
        while True:
            page = self._run(documents.VARIABLE_META, after=after, **self._where)["environment"]["variables"]
            found += [VariableMeta.model_validate(edge["node"]) for edge in page["edges"]]
            if not page["pageInfo"]["hasNextPage"]:
                return found
            after = page["pageInfo"]["endCursor"]

    def set_variables(self, service_id: str | None, values: Mapping[str, str], *, skip_deploys: bool = True) -> None:
        """Write variables; others stay as they are.

        Args:
            service_id: None for shared ones. values: may hold references.
            skip_deploys: what runs keeps the old values until it is deployed; otherwise Railway deploys whoever uses them, in
                its own order.
        """
        if not values:
            return
        if service_id is not None and not skip_deploys:
            self.guard(service_id, "a deployment with other variables")
        self.graphql.secrets.learn(values)
        given: dict[str, Any] = {**self._where, "variables": dict(values), "replace": False, "skipDeploys": skip_deploys}
        if service_id is not None:
            given["serviceId"] = service_id
        self._do(documents.VARIABLES_UPSERT, input=given)

    def delete_variable(self, service_id: str | None, name: str) -> None:
        """Delete a variable. Railway may deploy whoever used it: unlike for writing, that cannot be skipped."""
        if service_id is not None:
            self.guard(service_id, "a deployment without a variable")
        given = {**self._where, "name": name}
        if service_id is not None:
            given["serviceId"] = service_id
        self._do(documents.VARIABLE_DELETE, input=given)
