"""One request and its answer, without HTTP's bytes: tokens, the rate limit, faults, GraphQL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from graphql import DocumentNode, FieldNode, GraphQLError, GraphQLSchema, OperationDefinitionNode, execute, parse, validate
from graphql.execution import ExecutionResult

from shared.sandbox.railway_api.access import Token, is_public
from shared.sandbox.railway_api.faults import Faults
from shared.sandbox.railway_api.model import AuditEntry
from shared.sandbox.railway_api.platform import Platform
from shared.sandbox.railway_api.schema import Context

__all__ = ["PATH", "Answer", "Endpoint", "Received"]

PATH = "/graphql/v2"

_NOT_AUTHORIZED = {"errors": [{"message": "Not Authorized"}], "data": None}
_REFUSED_AGENTS = ("python-urllib", "libwww-perl")


@dataclass(frozen=True)
class Received:
    """A request that came.

    Attributes:
        at: the platform's time. fields: of the query or mutation type, as it asked for them. variables: with their secrets.
        status: that was answered, 0 when nothing was. errors: of GraphQL.
    """

    at: datetime
    operation: str
    fields: Sequence[str]
    variables: Mapping[str, Any] = field(repr=False)
    status: int
    errors: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """What is sent back; `cut` says that nothing is."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True)
class _Operation:
    """One operation of a document that is valid."""

    document: DocumentNode
    name: str | None
    kind: str
    fields: Sequence[str]
    variables: Mapping[str, Any]


class Endpoint:
    """Answers requests, from many threads; one at a time touches the platform.

    Attributes:
        received: everything that came and could be read, oldest first.
    """

    def __init__(self, platform: Platform, schema: GraphQLSchema, faults: Faults) -> None:
        self._platform, self._schema, self._faults = platform, schema, faults
        self._documents: dict[str, DocumentNode] = {}
        self.received: list[Received] = []

    def answer(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Answer a POST.

        Args:
            headers: with names in lower case.
        """
        agent = headers.get("user-agent", "").lower()
        if not agent or agent.startswith(_REFUSED_AGENTS):
            return Answer(403, "error code: 1010")  # the firewall in front of the API
        operation = self._read(body)
        if isinstance(operation, Answer):
            return operation
        token = self._token(headers)
        limits: dict[str, str] = {}
        if token is not None:
            with self._platform.lock:
                reading = self._platform.meter.count(token)
            limits = reading.headers()
            if reading.retry_after is not None:
                return self._keep(operation, Answer(429, _errors("Rate limit exceeded"), limits))
        answer = self._disturbed(token, operation)
        return self._keep(operation, Answer(answer.status, answer.body, {**limits, **answer.headers}, answer.is_cut))

    def _disturbed(self, token: Token | None, operation: _Operation) -> Answer:
        fault = self._faults.take(operation.fields)
        if fault is None:
            return self._execute(token, operation)
        match fault.kind:
            case "outage":
                return Answer(fault.status, "upstream connect error or disconnect/reset before headers")
            case "throttle":
                return Answer(429, _errors("Rate limit exceeded"), {"Retry-After": f"{fault.seconds:g}"})
            case "refuse":
                return Answer(200, {**_errors(fault.message), "data": None})
            case "cut":
                return Answer(0, is_cut=True)
            case "slow":
                self._platform.closing.wait(fault.seconds)
                return self._execute(token, operation)
            case "lost-answer":
                return Answer(0, self._execute(token, operation).body, is_cut=True)

    def _read(self, body: bytes) -> _Operation | Answer:
        try:
            request = json.loads(body)
            text = str(request["query"])
        except (ValueError, KeyError, TypeError):
            return Answer(400, _errors("Request must be JSON with a query"))
        document = self._documents.get(text) or self._valid(text)
        if isinstance(document, Answer):
            return document
        name = request.get("operationName")
        operations = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
        chosen = [one for one in operations if name is None or (one.name and one.name.value == name)]
        if len(chosen) != 1:
            return Answer(400, _errors("Request must name one operation of its document"))
        fields = [one.name.value for one in chosen[0].selection_set.selections if isinstance(one, FieldNode)]
        return _Operation(document, name, chosen[0].operation.value, fields, request.get("variables") or {})

    def _valid(self, text: str) -> DocumentNode | Answer:
        try:
            document = parse(text)
        except GraphQLError as error:
            return Answer(400, _errors(error.message))
        problems = validate(self._schema, document)
        if problems:
            return Answer(400, _errors(*(one.message for one in problems)))
        self._documents[text] = document
        return document

    def _token(self, headers: Mapping[str, str]) -> Token | None:
        """None where there is none, where it is dead, in the wrong header, or where both headers came."""
        bearer, project = headers.get("authorization"), headers.get("project-access-token")
        if bearer and project:
            return None
        with self._platform.lock:
            found = self._platform.tokens.get(project or (bearer or "").removeprefix("Bearer ").strip())
        return found if found is not None and (found.kind == "project") == bool(project) else None

    def _execute(self, token: Token | None, operation: _Operation) -> Answer:
        if token is None and not all(is_public(one) for one in operation.fields):
            return Answer(200, _NOT_AUTHORIZED)
        with self._platform.lock:
            result = execute(
                self._schema,
                operation.document,
                context_value=Context(self._platform, token),
                variable_values=dict(operation.variables),
                operation_name=operation.name,
            )
            if not isinstance(result, ExecutionResult):
                raise TypeError("a resolver of the stand-in is asynchronous; they must not be")
            if operation.kind == "mutation" and not result.errors:
                self._audit(operation)
        if result.data is None and result.errors and all(one.path is None for one in result.errors):
            return Answer(400, _errors(*(one.message for one in result.errors)))  # variables that do not fit
        return Answer(200, result.formatted)

    def _audit(self, operation: _Operation) -> None:
        given = {**operation.variables, **(operation.variables.get("input") or {})}
        for one in operation.fields:
            entry = AuditEntry(
                event_type=one,
                project_id=given.get("projectId"),
                environment_id=given.get("environmentId"),
                created_at=self._platform.clock.now(),
            )
            self._platform.audit.append(entry)

    def _keep(self, operation: _Operation, answer: Answer) -> Answer:
        errors = answer.body.get("errors", []) if isinstance(answer.body, dict) else []
        kept = Received(
            self._platform.clock.now(),
            operation.name or "",
            operation.fields,
            operation.variables,
            0 if answer.is_cut else answer.status,
            [str(one["message"]) for one in errors],
        )
        with self._platform.lock:
            self.received.append(kept)
        return answer


def _errors(*messages: str) -> dict[str, Any]:
    return {"errors": [{"message": one} for one in messages]}
