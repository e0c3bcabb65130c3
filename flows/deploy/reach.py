"""Whose variables reach which service: references, also through others."""

from __future__ import annotations

from collections.abc import Iterable

from flows.deploy.actions import Action, CreateDomain, SetVariables
from flows.deploy.fingerprint import PUBLIC_DOMAIN
from railway.stack import Reference, Stack

__all__ = ["reached_by", "touched"]

Variable = tuple[str, str]
"""Service and name."""


def touched(actions: Iterable[Action]) -> frozenset[Variable]:
    """Name the variables that steps change."""
    found: set[Variable] = set()
    for action in actions:
        if isinstance(action, SetVariables):
            found |= {(action.service, one.name) for one in action.assignments}
        elif isinstance(action, CreateDomain):
            found.add((action.service, PUBLIC_DOMAIN))
    return frozenset(found)


def reached_by(stack: Stack, service: str) -> frozenset[Variable]:
    """Name the variables of other services that the variables of one are made of."""
    found: set[Variable] = set()
    new = {(service, name) for name in stack.services[service].variables}
    while new:
        found |= new
        new = {other for one in new for other in _references(stack, one)} - found
    return frozenset(one for one in found if one[0] != service)


def _references(stack: Stack, variable: Variable) -> Iterable[Variable]:
    service, name = variable
    value = stack.services[service].variables.get(name) if service in stack.services else None
    if not isinstance(value, Reference):
        return []
    return [(other or service, referred) for other, referred in value.names()]
