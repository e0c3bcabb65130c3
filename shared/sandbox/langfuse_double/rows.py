"""What is written to ClickHouse: rows of its tables, made from the events of the ingestion API and from OpenTelemetry spans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

__all__ = ["ENTITIES", "Rows", "entity_of", "from_events", "from_spans", "problem_with_event", "spans_of"]

ENTITIES = {
    "trace-create": "trace",
    "span-create": "observation",
    "span-update": "observation",
    "generation-create": "observation",
    "generation-update": "observation",
    "event-create": "observation",
    "observation-create": "observation",
    "observation-update": "observation",
    "score-create": "score",
    "sdk-log": "log",
}
"""What each type of event is about."""

_TRACE, _SPAN = 32, 16
_MODEL = (
    "langfuse.observation.model.name",
    "gen_ai.response.model",
    "gen_ai.request.model",
    "llm.response.model",
    "llm.model_name",
)
_TOKENS = ("gen_ai.usage.", "llm.token_count.")
_TOKEN_KINDS = {"prompt": "input", "completion": "output", "input": "input", "output": "output", "total": "total"}
"""By which names a span may tell its model and its tokens, the first ones first (langfuse
packages/shared/src/server/otel/OtelIngestionProcessor.ts); LiteLLM's callback follows OpenInference, `llm.`."""


@dataclass
class Rows:
    """Rows by table."""

    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Add one; what is None is left to the table's default."""
        self.tables.setdefault(table, []).append({name: value for name, value in row.items() if value is not None})


def problem_with_event(event: object) -> str | None:
    """Why an event of the ingestion API cannot be taken, or None."""
    if not isinstance(event, dict):
        return "expected an object"
    if event.get("type") not in ENTITIES:
        return f"unknown type {event.get('type')!r}"
    if not isinstance(event.get("id"), str) or not event["id"]:
        return "id: expected a string"
    if not isinstance(event.get("body"), dict):
        return "body: expected an object"
    if _time(event.get("timestamp")) is None:
        return "timestamp: expected ISO 8601"
    needed = {"observation": "traceId", "score": "name"}.get(ENTITIES[event["type"]])
    if needed and event["type"].endswith("-create") and not isinstance(event["body"].get(needed), str):
        return f"body.{needed}: expected a string"
    return None


def entity_of(event: dict[str, Any]) -> tuple[str, str]:
    """The kind of thing that an event is about, and its id."""
    return ENTITIES[event["type"]], str(event["body"].get("id") or event["id"])


def from_events(project: str, entity: str, entity_id: str, events: Iterable[dict[str, Any]]) -> Rows:
    """Merge all events about one thing into its row: what a later event says counts, what it leaves out stays."""
    ordered = sorted(events, key=lambda event: str(event["timestamp"]))
    body: dict[str, Any] = {}
    for event in ordered:
        body |= {name: value for name, value in event["body"].items() if value is not None}
    last = ordered[-1]["timestamp"]
    common = {"id": entity_id, "project_id": project, "environment": body.get("environment"), "event_ts": _time(last)}
    rows = Rows()
    if entity == "trace":
        rows.add("traces", common | _trace(body, body.get("timestamp") or ordered[0]["timestamp"]))
    elif entity == "observation":
        rows.add("observations", common | _observation(body, ordered[0]))
    elif entity == "score":
        rows.add("scores", common | _score(body, last))
    return rows


def spans_of(resource_spans: object) -> list[dict[str, Any]]:
    """All spans of an OTLP/JSON request, with their resource's attributes below their own, attributes as a plain mapping.

    Raises:
        ValueError: it is none, or an id is not as OpenTelemetry has them; one bad span spoils the batch.
    """
    spans = []
    try:
        for resource in resource_spans:  # type: ignore[attr-defined]  # not a list: said below
            shared = _attributes(resource.get("resource", {}).get("attributes", []))
            for scope in resource.get("scopeSpans", []):
                spans += [
                    {**span, "attributes": {**shared, **_attributes(span.get("attributes", []))}}
                    for span in scope.get("spans", [])
                ]
    except (AttributeError, KeyError, TypeError):
        raise ValueError("expected resourceSpans[].scopeSpans[].spans[]") from None
    for span in spans:
        _check_id(span.get("traceId"), _TRACE, "traceId")
        _check_id(span.get("spanId"), _SPAN, "spanId")
        if not str(span.get("startTimeUnixNano", "")).isdigit():
            raise ValueError("startTimeUnixNano: expected nanoseconds")
    return spans


def from_spans(project: str, spans: Iterable[dict[str, Any]], *, major: int) -> Rows:
    """Rows of OpenTelemetry spans.

    Args:
        major: 3 writes traces and observations, 4 the one table of events that replaced them.
    """
    rows = Rows()
    for span in spans:
        row = _span(project, span)
        if major >= 4:
            rows.add("events_full", {**row, "span_id": row.pop("id"), "parent_span_id": row.pop("parent_observation_id")})
            continue
        trace = {name: row.pop(name) for name in ("user_id", "session_id", "trace_name", "tags")}
        rows.add("observations", row)
        if row["parent_observation_id"] is None:
            about = {name: row[name] for name in ("project_id", "environment", "input", "output", "metadata", "event_ts")}
            name = trace.pop("trace_name") or row["name"]
            rows.add("traces", {**about, **trace, "id": row["trace_id"], "timestamp": row["start_time"], "name": name})
    return rows


def _trace(body: dict[str, Any], at: object) -> dict[str, Any]:
    return {
        "timestamp": _time(at),
        "name": body.get("name"),
        "user_id": body.get("userId"),
        "session_id": body.get("sessionId"),
        "release": body.get("release"),
        "version": body.get("version"),
        "public": body.get("public"),
        "tags": body.get("tags"),
        "metadata": _map(body.get("metadata")),
        "input": _text(body.get("input")),
        "output": _text(body.get("output")),
    }


def _observation(body: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    usage = body.get("usageDetails") or body.get("usage") or {}
    costs = body.get("costDetails") or {}
    return {
        "trace_id": body.get("traceId") or "",
        "type": str(body.get("type") or first["type"].split("-", 1)[0]).upper(),
        "parent_observation_id": body.get("parentObservationId"),
        "start_time": _time(body.get("startTime") or first["timestamp"]),
        "end_time": _time(body.get("endTime")),
        "name": body.get("name"),
        "metadata": _map(body.get("metadata")),
        "level": body.get("level") or "DEFAULT",
        "status_message": body.get("statusMessage"),
        "input": _text(body.get("input")),
        "output": _text(body.get("output")),
        "provided_model_name": body.get("model"),
        "usage_details": {key: int(value) for key, value in usage.items() if _is_number(value)},
        "cost_details": {key: float(value) for key, value in costs.items() if _is_number(value)},
        "prompt_name": body.get("promptName"),
        "prompt_version": body.get("promptVersion"),
    }


def _score(body: dict[str, Any], at: object) -> dict[str, Any]:
    value = body.get("value")
    return {
        "timestamp": _time(at),
        "trace_id": body.get("traceId") or "",
        "observation_id": body.get("observationId"),
        "name": body.get("name"),
        "value": float(value) if isinstance(value, int | float) else 0.0,
        "string_value": value if isinstance(value, str) else None,
        "source": "API",
        "comment": body.get("comment"),
        "data_type": body.get("dataType") or "NUMERIC",
    }


def _span(project: str, span: dict[str, Any]) -> dict[str, Any]:
    said = span["attributes"]
    model = next((said[name] for name in _MODEL if said.get(name)), None)
    return {
        "id": span["spanId"],
        "trace_id": span["traceId"],
        "project_id": project,
        "environment": said.get("langfuse.environment") or said.get("deployment.environment.name"),
        "type": str(said.get("langfuse.observation.type") or ("generation" if model else "span")).upper(),
        "parent_observation_id": span.get("parentSpanId") or None,
        "start_time": _nanoseconds(span["startTimeUnixNano"]),
        "end_time": _nanoseconds(span.get("endTimeUnixNano")),
        "name": span.get("name", ""),
        "level": said.get("langfuse.observation.level") or ("ERROR" if span.get("status", {}).get("code") == 2 else "DEFAULT"),
        "status_message": span.get("status", {}).get("message"),
        "input": _text(said.get("langfuse.observation.input") or said.get("gen_ai.prompt")),
        "output": _text(said.get("langfuse.observation.output") or said.get("gen_ai.completion")),
        "provided_model_name": model,
        "usage_details": _usage(said),
        "metadata": {name: str(value) for name, value in said.items() if not name.startswith(("langfuse.", "gen_ai."))},
        "user_id": said.get("langfuse.user.id") or said.get("user.id"),
        "session_id": said.get("langfuse.session.id") or said.get("session.id"),
        "trace_name": said.get("langfuse.trace.name"),
        "tags": said.get("langfuse.trace.tags"),
        "event_ts": _time(datetime.now(UTC).isoformat()),
    }


def _usage(said: Mapping[str, Any]) -> dict[str, int]:
    """Tokens by Langfuse's names, whichever convention they were told by."""
    found = {}
    for name, value in said.items():
        prefix = next((one for one in _TOKENS if name.startswith(one)), None)
        if prefix is not None and name != "gen_ai.usage.cost" and _is_number(value):
            kind = name.removeprefix(prefix)
            found[_TOKEN_KINDS.get(kind.removesuffix("_tokens"), kind)] = int(value)
    return found


def _attributes(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {item["key"]: _value(item.get("value", {})) for item in items}


def _value(value: dict[str, Any]) -> Any:
    """A value as OTLP/JSON wraps it."""
    if "arrayValue" in value:
        return [_value(one) for one in value["arrayValue"].get("values", [])]
    if "intValue" in value:
        return int(value["intValue"])
    return next(iter(value.values()), None)


def _check_id(text: object, length: int, name: str) -> None:
    if not isinstance(text, str) or len(text) != length or not set(text.lower()) <= set("0123456789abcdef"):
        raise ValueError(f"{name}: expected {length} hex digits")


def _time(text: object) -> str | None:
    """A time as ClickHouse reads it, UTC with milliseconds; None where there is none."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _nanoseconds(text: object) -> str | None:
    return None if text is None else _time(datetime.fromtimestamp(int(str(text)) / 1e9, UTC).isoformat())


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _map(value: object) -> dict[str, str]:
    """Metadata, whatever it is, as a map of texts."""
    if value is None:
        return {}
    return dict(_texts(value)) if isinstance(value, dict) else {"metadata": _text(value) or ""}


def _texts(value: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, one in value.items():
        yield str(name), _text(one) or ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
