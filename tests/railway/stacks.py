"""The stacks that ship, as somebody who has an image of the worker's gets them, and small ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

from railway.stack import LangfuseMajor, Literal, ObjectStore, Reference, Stack, Value, Variant
from railway.variants import build

WORKER = "ghcr.io/example/stack-operations:0.1.0"

Spoil = Callable[[Stack], Stack]
VARIANTS: tuple[Variant, ...] = ("starter", "production")
MAJORS: tuple[LangfuseMajor, ...] = (3, 4)
STORES: tuple[ObjectStore, ...] = ("minio", "bucket")
SHIPPED = list(product(VARIANTS, MAJORS, STORES))


def shipped(variant: Variant = "production", major: LangfuseMajor = 3, store: ObjectStore = "minio", **images: str) -> Stack:
    """Build a stack; `images` by service, with `_` for `-`."""
    given = {name.replace("_", "-"): image for name, image in images.items()}
    own = {"prefect-worker": WORKER} if variant == "production" else {}
    return build(variant, langfuse_major=major, object_store=store, images={**own, **given})


def setting(service: str, **variables: Value | str | None) -> Spoil:
    """Change variables of a service; text becomes a literal, or a reference where it has one; None takes it away."""
    values = {name: _value(value) if isinstance(value, str) else value for name, value in variables.items()}
    return lambda stack: stack.with_service(stack.services[service].with_variables(**values))


def having(service: str, **attributes: Any) -> Spoil:
    """Change other attributes of a service."""
    return lambda stack: stack.with_service(replace(stack.services[service], **attributes))


def without(service: str) -> Spoil:
    """Take a service away."""
    return lambda stack: replace(stack, services={name: one for name, one in stack.services.items() if name != service})


def changed(service: str, variable: str, old: str, new: str) -> Spoil:
    """Replace text within a variable."""

    def spoil(stack: Stack) -> Stack:
        value = stack.services[service].variables[variable]
        assert isinstance(value, Literal | Reference)
        assert old in value.text
        return stack.with_service(
            stack.services[service].with_variables(**{variable: type(value)(value.text.replace(old, new))})
        )

    return spoil


def starting(service: str, old: str, new: str) -> Spoil:
    """Replace text within a start command."""

    def spoil(stack: Stack) -> Stack:
        command = stack.services[service].start_command or ""
        assert old in command
        return having(service, start_command=command.replace(old, new))(stack)

    return spoil


def _value(text: str) -> Value:
    return Reference(text) if "${{" in text else Literal(text)
