"""What langfuse-web reads back from ClickHouse."""

from __future__ import annotations

from typing import Any

from shared.sandbox.langfuse_double.warehouse import Warehouse

__all__ = ["Reading"]

_RECENT = "now() - INTERVAL 3 MINUTE"
_OBSERVATION = (
    "{id} AS id, trace_id AS traceId, {parent} AS parentObservationId, name, type, level, environment, "
    "start_time AS startTime, end_time AS endTime, input, output, metadata, provided_model_name AS model, "
    "usage_details AS usageDetails, status_message AS statusMessage"
)


class Reading:
    """Questions to the tables of a major version."""

    def __init__(self, warehouse: Warehouse, *, major: int) -> None:
        self._warehouse, self._major = warehouse, major

    async def has_recent_events(self) -> bool:
        """Whether something was traced in the last three minutes: in v3 a trace and an observation, in v4 an event."""
        times = {"traces": "timestamp", "observations": "start_time"} if self._major == 3 else {"events_core": "start_time"}
        found = [
            await self._warehouse.select(f"SELECT 1 AS there FROM {table} WHERE {time} > {_RECENT} LIMIT 1")
            for table, time in times.items()
        ]
        return all(found)

    async def trace(self, project: str, trace_id: str) -> dict[str, Any] | None:
        """A trace with its observations (v3)."""
        about = {"project": project, "trace": trace_id}
        traces = await self._warehouse.select(
            "SELECT id, project_id AS projectId, name, timestamp, user_id AS userId, session_id AS sessionId, tags, metadata, "
            "input, output, environment FROM traces FINAL WHERE project_id = {project:String} AND id = {trace:String} LIMIT 1",
            about,
        )
        if not traces:
            return None
        columns = _OBSERVATION.format(id="id", parent="parent_observation_id")
        observations = await self._warehouse.select(
            f"SELECT {columns} FROM observations FINAL WHERE project_id = {{project:String}} AND trace_id = {{trace:String}} "
            "ORDER BY start_time, id",
            about,
        )
        return {**traces[0], "observations": observations, "scores": []}

    async def observations(self, project: str, trace_id: str, start: str | None) -> list[dict[str, Any]]:
        """The observations of a trace (v4).

        Args:
            start: ISO 8601; none before it.
        """
        columns = _OBSERVATION.format(id="span_id", parent="parent_span_id")
        return await self._warehouse.select(
            f"SELECT {columns} FROM events_full FINAL WHERE project_id = {{project:String}} AND trace_id = {{trace:String}} "
            "AND start_time >= parseDateTime64BestEffort({start:String}, 3) ORDER BY start_time, id",
            {"project": project, "trace": trace_id, "start": start or "1971-01-01T00:00:00Z"},
        )
