"""Which variables of a service have to be set."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from flows.deploy.actions import Assignment
from flows.deploy.present import PresentService
from railway.stack import Secret, SecretKind, Service, Stack

__all__ = ["assignments", "missing", "not_given", "public"]


def assignments(service: Service, there: PresentService, given: Collection[str] = ()) -> tuple[Assignment, ...]:
    """Name the variables to set: those that are missing, and literals and references that are not as the stack has them.

    A secret that is there is never touched, whatever it is. Nor is a sealed variable, which nobody can compare.

    Args:
        service: of the stack. there: on Railway. given: names of secrets that somebody gives.
    """
    found = []
    left_out = missing(service, there, given)
    for name, value in service.variables.items():
        if name in there.sealed or name in left_out:
            continue
        before = there.variables.get(name)
        # A line's end more or less is no change: not every way into Railway keeps it.
        if before is None or not (isinstance(value, Secret) or before.strip() == value.text.strip()):
            found.append(Assignment(name, value, before, given=isinstance(value, Secret) and name in given))
    return tuple(found)


def missing(service: Service, there: PresentService, given: Collection[str] = ()) -> frozenset[str]:
    """Name the secrets that only a person has, and that are neither on Railway nor given."""
    known = {*there.variables, *there.sealed, *given}
    variables = service.variables.items()
    wanted = {name for name, value in variables if isinstance(value, Secret) and value.kind is SecretKind.GIVEN}
    return frozenset(wanted - known)


def not_given(service: Service, there: PresentService, given: Collection[str] = (), *, required: bool) -> list[str]:
    """As `missing`: only those without which the stack does not work, or only the others.

    Returns: a sentence for each: what it is, and how to give it.
    """
    found = []
    for name in sorted(missing(service, there, given)):
        value = service.variables[name]
        if isinstance(value, Secret) and value.required is required:
            what = f" ({value.what})" if value.what else ""
            found.append(f"{service.name}: {name}{what} is not there; export it here, or set it on the service in Railway")
    return found


def public(stack: Stack) -> Iterator[tuple[str, str]]:
    """Yield names and values that stand in the repository, so that a message may have them: all but secrets."""
    for service in stack.services.values():
        yield from ((name, value.text) for name, value in service.variables.items() if not isinstance(value, Secret))
        if service.start_command:
            yield "startCommand", service.start_command
