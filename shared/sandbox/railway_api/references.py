"""References in variables, `${{Service.NAME}}`, `${{shared.NAME}}`, `${{NAME}}`: what they say, and who starts after whom.

Source of the rules: facts, railway.md 1.3 and 1.4. What nothing answers to becomes the empty text, without a word; functions
of templates, as `${{secret(32)}}`, mean nothing here and stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

__all__ = ["SHARED", "Reference", "Values", "references", "refers_to", "render", "waits_for"]

SHARED = "shared"
"""The namespace of the variables that an environment shares."""

_REFERENCE = re.compile(r"\$\{\{\s*(?:([^.{}()$]+?)\s*\.\s*)?([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")

Values = Mapping[str, Mapping[str, str]]
"""By namespace (the name of a service or bucket, or `shared`), the variables as they were set."""


@dataclass(frozen=True)
class Reference:
    """One reference. namespace: None for a variable of the same owner."""

    namespace: str | None
    name: str

    def __str__(self) -> str:
        return self.name if self.namespace is None else f"{self.namespace}.{self.name}"


def references(text: str) -> list[Reference]:
    """Every reference in a value, in order."""
    return [Reference(found[1], found[2]) for found in _REFERENCE.finditer(text)]


def render(values: Values, owner: str) -> dict[str, str]:
    """All variables of an owner with what they refer to in its place, also through others."""
    return {name: _resolved(values, owner, name, frozenset()) for name in values.get(owner, {})}


def _resolved(values: Values, namespace: str, name: str, seen: frozenset[tuple[str, str]]) -> str:
    text = values.get(namespace, {}).get(name)
    if text is None or (namespace, name) in seen:
        return ""
    inside = seen | {(namespace, name)}
    return _REFERENCE.sub(lambda found: _resolved(values, found[1] or namespace, found[2], inside), text)


def refers_to(values: Values, owner: str, targets: AbstractSet[tuple[str, str]]) -> bool:
    """Whether a variable of an owner gets its value from one of these, given as namespace and name, also through others."""
    todo, seen = [(owner, name) for name in values.get(owner, {})], set[tuple[str, str]]()
    while todo:
        namespace, name = todo.pop()
        for reference in references(values.get(namespace, {}).get(name, "")):
            found = (reference.namespace or namespace, reference.name)
            if found in targets:
                return True
            if found not in seen:
                seen.add(found)
                todo.append(found)
    return False


def waits_for(values: Values, batch: Iterable[str]) -> dict[str, frozenset[str]]:
    """For each service of a batch, those of it that start first: the ones that it refers to, also through others.

    Members of a cycle do not wait for each other. A host name that is written out is no reference.
    """
    named = list(batch)
    reach = {name: _reachable(values, name) for name in named}
    return {
        name: frozenset(other for other in named if other != name and other in reach[name] and name not in reach[other])
        for name in named
    }


def _reachable(values: Values, start: str) -> set[str]:
    found: set[str] = set()
    todo = [(start, name) for name in values.get(start, {})]
    seen = set(todo)
    while todo:
        namespace, name = todo.pop()
        for reference in references(values.get(namespace, {}).get(name, "")):
            target = reference.namespace or namespace
            if target not in (start, SHARED):
                found.add(target)
            # Of a service, everything counts, not only what was asked for: it needs all of it to run.
            further = [(target, reference.name)] if target == SHARED else [(target, other) for other in values.get(target, {})]
            new = [one for one in further if one not in seen]
            seen.update(new)
            todo.extend(new)
    return found
