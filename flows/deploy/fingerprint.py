"""What a deployed configuration is recognised by: a hash of all that reaches the container, references resolved.

It is kept beside the configuration itself, in a variable of the service, where everybody who can read it can read that, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from flows.deploy.present import Present, PresentService

__all__ = ["PUBLIC_DOMAIN", "REFERENCE", "fingerprint", "resolve", "setup_fingerprint"]

REFERENCE = re.compile(r"\$\{\{\s*(?:([^.{}]+?)\s*\.\s*)?([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
"""`${{service.NAME}}`, or `${{NAME}}` of the service itself."""
PUBLIC_DOMAIN = "RAILWAY_PUBLIC_DOMAIN"
_PLATFORM = "RAILWAY_"
"""Begins what Railway itself puts there, some of it only once a service runs: no change of ours."""
_LENGTH = 16


def fingerprint(service: PresentService, names: Iterable[str], present: Present) -> str:
    """Recognise the configuration of a service.

    Args:
        service: as it is configured now.
        names: the variables that count: those of the stack. What an operator adds is his business, and his deploy.
        present: where references lead.
    """
    known = {*service.variables, *service.sealed}
    values = {name: _value(service, name, present) for name in sorted(names) if name in known}
    volume = (service.volume.id, service.volume.mount) if service.volume else None
    shape = {name: value for name, value in vars(service.shape).items() if value is not None}
    return _hash({"image": service.image, "shape": shape, "volume": volume, "variables": values})


def setup_fingerprint(service: PresentService, variables: Mapping[str, str], volumes: Iterable[str], present: Present) -> str:
    """Recognise what SETUP is told to create, and on which volumes: a new one is empty.

    Args:
        service: Postgres, where the variables live.
        variables: of SETUP, as they are written. volumes: ids of those that hold what it creates.
        present: where references lead.
    """
    resolved = {name: resolve(text, present, service.name) for name, text in sorted(variables.items())}
    return _hash({"variables": resolved, "volumes": sorted(volumes)})


def resolve(text: str, present: Present, own: str, seen: frozenset[tuple[str, str]] = frozenset()) -> str:
    """Put the values of the variables that a text refers to in their places, through others too.

    Args:
        text: with references. present: where they lead. own: the service whose variable it is.
        seen: references on the way here; one that leads back to itself stays as it is, as does one that leads nowhere.
    """

    def value(match: re.Match[str]) -> str:
        name, variable = match[1] or own, match[2]
        service = present.services.get(name)
        if service is None or (name, variable) in seen:
            return match[0]
        if variable == PUBLIC_DOMAIN and service.domains:
            return service.domains[0]
        if variable not in service.variables or variable.startswith(_PLATFORM):
            return match[0]
        return resolve(service.variables[variable], present, name, seen | {(name, variable)})

    return REFERENCE.sub(value, text)


def _value(service: PresentService, name: str, present: Present) -> str:
    return "(sealed)" if name in service.sealed else resolve(service.variables[name], present, service.name)


def _hash(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:_LENGTH]
