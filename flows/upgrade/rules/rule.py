"""What a rule about an upgrade is. A refusal says which one it was, and where it is known from, as in `railway/rules/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from flows.upgrade.rules.facts import Facts
from flows.upgrade.rules.version import Version
from railway.rules.refusal import Refusal

__all__ = ["Change", "Refusal", "Rule", "named"]


@dataclass(frozen=True)
class Change:
    """A service that is to run another version.

    Attributes:
        service: by its name on Railway. old: what runs, new: what is asked for. facts: of the stack.
    """

    service: str
    old: Version
    new: Version
    facts: Facts

    @property
    def is_back(self) -> bool:
        """Whether the new version is older than what runs, as far as both are known."""
        return bool(self.new.numbers) and self.new < self.old


@dataclass(frozen=True)
class Rule:
    """One thing that an upgrade has to be, or not to be.

    Attributes:
        name: in messages and in the docs. about: in a sentence. source: where it is known from.
        services: that it is about; none: all. check: yields a sentence for what breaks it: what is wrong, what to do.
    """

    name: str
    about: str
    source: str
    services: tuple[str, ...]
    check: Callable[[Change], Iterator[str]]

    def refusals(self, change: Change) -> Iterator[Refusal]:
        """Yield what in this change breaks the rule."""
        if not self.services or change.service in self.services:
            for sentence in self.check(change):
                yield Refusal(self.name, change.service, sentence, self.source)


def named(name: str, source: str, *services: str) -> Callable[[Callable[[Change], Iterator[str]]], Rule]:
    """Make a rule of a function, whose docstring says what it is about.

    Args:
        name: of the rule. source: where it is known from: an issue, a page, a measurement. services: that it is about.
    """

    def make(check: Callable[[Change], Iterator[str]]) -> Rule:
        return Rule(name, " ".join((check.__doc__ or "").split()), source, services, check)

    return make
