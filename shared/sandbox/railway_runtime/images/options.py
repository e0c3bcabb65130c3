"""Options of command lines that have to be others here: where a program listens."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["option", "without"]


def option(arguments: Sequence[str], *names: str) -> str | None:
    """The value of an option, `--name value` or `--name=value`; of the last one where there are several."""
    value = None
    for index, argument in enumerate(arguments):
        name, mark, rest = argument.partition("=")
        if name in names:
            value = rest if mark else arguments[index + 1] if index + 1 < len(arguments) else None
    return value


def without(arguments: Sequence[str], *names: str) -> list[str]:
    """The arguments without an option and its value."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        name, mark, _ = argument.partition("=")
        if skip:
            skip = False
        elif name in names:
            skip = not mark
        else:
            kept.append(argument)
    return kept
