"""The schema with what answers each field of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from graphql import GraphQLError, GraphQLObjectType, GraphQLResolveInfo, GraphQLScalarType, GraphQLSchema, build_schema

from shared.sandbox.railway_api.access import ApiError, NotAuthorized, Token, may
from shared.sandbox.railway_api.platform import Platform, Scope

__all__ = ["SDL", "Call", "Context", "Resolver", "Resolvers", "bound_schema"]

SDL = (Path(__file__).parent / "schema.graphql").read_text()
"""What the stand-in knows of Railway's API. Documents that are valid here and use nothing else work with the stand-in."""


@dataclass(frozen=True)
class Call:
    """One field of a query or mutation that is asked for.

    Attributes:
        arguments: under the names of the schema. scope: what the caller can see.
    """

    platform: Platform
    token: Token | None
    arguments: Mapping[str, Any]

    @property
    def scope(self) -> Scope:
        """What the caller can see."""
        return Scope(self.platform, self.token)

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    def get(self, name: str) -> Any:
        """An argument that may be missing."""
        return self.arguments.get(name)

    @property
    def input(self) -> Mapping[str, Any]:
        """The argument of that name, as most mutations have it."""
        return cast(Mapping[str, Any], self.arguments["input"])


Resolver = Callable[[Call], Any]
Resolvers = Mapping[str, Resolver]


@dataclass(frozen=True)
class Context:
    """Of an execution: who asks, and whom."""

    platform: Platform
    token: Token | None


def bound_schema(queries: Resolvers, mutations: Resolvers) -> GraphQLSchema:
    """The schema with these to answer it; the context of an execution is a `Context`.

    Raises:
        ValueError: a field has nothing to answer it, or something answers a field that there is not.
    """
    schema = build_schema(SDL)
    _datetimes(schema)
    for kind, resolvers in ((schema.query_type, queries), (schema.mutation_type, mutations)):
        fields = cast(GraphQLObjectType, kind).fields
        if set(fields) != set(resolvers):
            raise ValueError(f"fields and resolvers differ: {sorted(set(fields) ^ set(resolvers))}; write or remove them")
        for name, resolver in resolvers.items():
            fields[name].resolve = _guarded(name, resolver)
    return schema


def _guarded(name: str, resolver: Resolver) -> Callable[..., Any]:
    def resolve(_root: Any, info: GraphQLResolveInfo[Context], **arguments: Any) -> Any:
        platform, token = info.context.platform, info.context.token
        try:
            if not may(token, name, platform.behaviour.project_token_refuses):
                raise NotAuthorized
            return resolver(Call(platform, token, arguments))
        except ApiError as error:
            raise GraphQLError(str(error)) from None

    return resolve


def _datetimes(schema: GraphQLSchema) -> None:
    """Dates travel as ISO 8601 with milliseconds and a Z."""

    def serialize(value: datetime) -> str:
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def parse(value: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise GraphQLError(f"DateTime cannot represent {value!r}") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    scalar = cast(GraphQLScalarType, schema.type_map["DateTime"])
    scalar.coerce_output_value, scalar.coerce_input_value = serialize, parse
