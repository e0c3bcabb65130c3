"""A stack as a template has it: secrets are expressions that Railway evaluates at every deploy of the template.

Railway has two functions for that, `secret()` and `randomInt()`, and no other way to make a value up (facts: railway.md 1.3).
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import replace

from flows.deploy.present import SETUP
from flows.deploy.setup_order import setup_order
from flows.deploy.setup_service import COMMAND
from railway.secret_values import USER
from railway.stack import Literal, Reference, Secret, SecretKind, Service, Stack, Value

__all__ = ["expression", "left_to_people", "literals", "templated"]

_ALPHANUMERIC = string.ascii_letters + string.digits
_URL_SAFE = _ALPHANUMERIC + "-_"
_HEX = "0123456789abcdef"
ORDER = "STARTS_AFTER"
"""A variable that nobody reads: Railway starts services in the order of their references, and has no other way to say it."""


def expression(secret: Secret) -> str | None:
    """Return the template expression for a secret; None where Railway cannot make one up: somebody has to type it in."""
    match secret.kind:
        case SecretKind.PASSWORD:
            return _drawn(secret.length, _ALPHANUMERIC)
        case SecretKind.SK:
            return f"sk-{_drawn(secret.length, _ALPHANUMERIC)}"
        case SecretKind.HEX:
            return _drawn(secret.length, _HEX)
        case SecretKind.LANGFUSE_PUBLIC_KEY | SecretKind.LANGFUSE_SECRET_KEY:
            return f"{secret.kind}-{_drawn(32, _HEX)}"
        case SecretKind.AUTH_STRING:
            return f"{USER}:{_drawn(secret.length, _ALPHANUMERIC)}"
        case SecretKind.FERNET:
            return f"{_drawn(43, _URL_SAFE)}="  # 32 bytes in URL-safe base64: the bits that are too many are not read
        case SecretKind.AGE_IDENTITY | SecretKind.AGE_RECIPIENT | SecretKind.GIVEN:
            return None


def templated(stack: Stack, image: str) -> Stack:
    """Return the stack as a template needs it.

    A template has nobody who runs SETUP, so its service is part of it, and what needs a database starts after it.

    Args:
        stack: with secrets. image: of the worker, for SETUP.
    """
    order = setup_order(stack, image)
    services = {name: _service(service) for name, service in stack.services.items()}
    for name, service in services.items():
        if "postgres" in service.needs:
            services[name] = service.with_variables(**{ORDER: Reference(f"${{{{{SETUP}.DO_NOT_TRACK}}}}")})
    services[SETUP] = Service(
        SETUP,
        "Set-up, once",
        needs=tuple(order.holders),
        image=image,
        variables={name: _value(text) for name, text in order.variables},
        start_command=COMMAND,
        restart="ON_FAILURE",
        about="Creates roles, databases and buckets at the first deploy, then ends; it can be deleted afterwards.",
    )
    return replace(stack, services=services)


def left_to_people(stack: Stack) -> Mapping[str, list[str]]:
    """Name the variables by service that whoever deploys the template has to type in; optional ones are left out of it."""
    found = {
        name: [key for key, value in service.variables.items() if isinstance(value, Secret) and _asked(value)]
        for name, service in stack.services.items()
    }
    return {name: keys for name, keys in found.items() if keys}


def literals(stack: Stack) -> list[tuple[str, str, str]]:
    """List service, variable and value of what Railway drops when it generates a template: plain defaults."""
    return [
        (name, key, value.text)
        for name, service in stack.services.items()
        for key, value in service.variables.items()
        if isinstance(value, Literal)
    ]


def _service(service: Service) -> Service:
    return replace(service, variables={key: made for key, value in service.variables.items() if (made := _templated(value))})


def _templated(value: Value) -> Value | None:
    if not isinstance(value, Secret):
        return value
    text = expression(value)
    if text is not None:
        return Literal(text)
    return Literal("") if _asked(value) else None


def _asked(secret: Secret) -> bool:
    return expression(secret) is None and (secret.required or secret.kind is not SecretKind.GIVEN)


def _value(text: str) -> Value:
    return Reference(text) if "${{" in text else Literal(text)


def _drawn(length: int, alphabet: str) -> str:
    return f'${{{{secret({length}, "{alphabet}")}}}}'
