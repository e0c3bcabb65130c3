"""What a rule is, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from railway.stack import Literal, Reference, Secret, Service, Stack

__all__ = ["Finding", "Refusal", "Rule", "named", "render", "text_of"]

Finding = tuple[str, str]
"""The service, and one sentence: what is wrong with it, what was expected, what to do."""


@dataclass(frozen=True)
class Refusal:
    """Why a stack is not deployed.

    Attributes:
        rule: its name. service: that is wrong, or `stack`. sentence: what is wrong, what to do; never a secret's value.
        source: where it is known from.
    """

    rule: str
    service: str
    sentence: str
    source: str

    def __str__(self) -> str:
        return f"{self.service}: {self.sentence} (rule {self.rule}; {self.source})"


@dataclass(frozen=True)
class Rule:
    """One thing that a stack has to be, or not to be.

    Attributes:
        name: in messages and in the docs. about: in a sentence. source: where it is known from. check: yields what breaks it.
    """

    name: str
    about: str
    source: str
    check: Callable[[Stack], Iterator[Finding]]

    def refusals(self, stack: Stack) -> Iterator[Refusal]:
        """Yield what in this stack breaks the rule."""
        for service, sentence in self.check(stack):
            yield Refusal(self.name, service, sentence, self.source)


def named(name: str, source: str) -> Callable[[Callable[[Stack], Iterator[Finding]]], Rule]:
    """Make a rule of a function, whose docstring says what it is about.

    Args:
        name: of the rule. source: where it is known from: an issue, a page, a measurement.
    """

    def make(check: Callable[[Stack], Iterator[Finding]]) -> Rule:
        return Rule(name, " ".join((check.__doc__ or "").split()), source, check)

    return make


def text_of(service: Service | None, name: str) -> str:
    """Return a variable's text as it is written; empty where it is a secret or not there."""
    value = service.variables.get(name) if service else None
    return value.text if isinstance(value, Literal | Reference) else ""


def render(stack: Stack, service: str, name: str, *, depth: int = 8) -> str:
    """Put a variable's text together as Railway would, with a word in place of each secret and of what Railway provides.

    Two variables render the same when they are the same literal, or come from the same secret.

    Args:
        service, name: of the variable. depth: references of references are followed so far.
    Returns: the text; empty where there is no such variable.
    """
    owner = stack.services.get(service)
    value = owner.variables.get(name) if owner else None
    if isinstance(value, Literal):
        return value.text
    if isinstance(value, Secret) or value is None:
        known = value is not None or name.startswith("RAILWAY_") or service in stack.buckets
        return f"<{service}.{name}>" if known else ""
    if depth == 0:
        return value.text
    return value.replaced(lambda of, variable: render(stack, of or service, variable, depth=depth - 1))
