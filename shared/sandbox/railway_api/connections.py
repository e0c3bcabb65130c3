"""Lists in pages, as GraphQL's connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.sandbox.railway_api.access import ApiError

__all__ = ["View", "connection", "page"]

View = Mapping[str, Any]
"""An object as the schema names its fields; a value that is a function is asked when the field is."""


def page(nodes: Sequence[View], arguments: Mapping[str, Any]) -> View:
    """A page of a list.

    Args:
        nodes: all of it; the cursor of each is its id. arguments: `first` and `after` of the field; without `first` all comes.
    Raises:
        ApiError: `after` is no cursor of this list.
    """
    first, after = arguments.get("first"), arguments.get("after")
    ids = [str(node["id"]) for node in nodes]
    if after is not None and after not in ids:
        raise ApiError("Invalid cursor")
    start = 0 if after is None else ids.index(after) + 1
    end = len(nodes) if first is None else min(start + max(first, 0), len(nodes))
    return {
        "edges": [{"cursor": ids[index], "node": nodes[index]} for index in range(start, end)],
        "pageInfo": {
            "hasNextPage": end < len(nodes),
            "hasPreviousPage": start > 0,
            "startCursor": ids[start] if start < end else None,
            "endCursor": ids[end - 1] if start < end else None,
        },
    }


def connection(nodes: Callable[[], Sequence[View]]) -> Callable[..., View]:
    """A field that is a list in pages."""
    return lambda _info, **arguments: page(nodes(), arguments)
