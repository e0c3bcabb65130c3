"""The callbacks in LiteLLM's configuration: whether they fit, and the same text with those that do. Values only, no network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from flows.upgrade.facts import callbacks_of
from railway.services.litellm import LINES

__all__ = ["fits", "is_configuration", "refitted", "to_write"]

_SETTINGS = "litellm_settings"
_OLD, _OTEL = LINES
_KEYS = ("callbacks", "success_callback", "failure_callback")
_LINE = re.compile(
    rf"(?P<indent> +)(?P<key>{'|'.join(_KEYS)}):(?P<gap> *)(?P<names>\[[^\[\]#]*\])(?P<rest>\s*|\s+#.*)", re.DOTALL
)
"""A list on one line: what others wrote in another way is theirs to change."""


def is_configuration(text: str) -> bool:
    """Say whether a text is a configuration of LiteLLM's: a YAML mapping; a reference to another variable is none."""
    return _read(text) is not None


def fits(text: str, wanted: str) -> bool:
    """Say whether a configuration brings traces to Langfuse.

    Args:
        wanted: `langfuse` or `langfuse_otel`; the latter is understood wherever the former is.
    """
    named = callbacks_of(text)
    return _OTEL in named and _OLD not in named if wanted == _OTEL else bool({_OLD, _OTEL} & named)


def to_write(wanted: str) -> str:
    """Say what a person has to write, where only a person can."""
    lines = " and ".join(f"`{line.strip()}`" for line in LINES[wanted].splitlines())
    rest = f", and take {_OLD} out of success_callback and failure_callback" if wanted == _OTEL else ""
    return f"write {lines} under {_SETTINGS}{rest}; leave the other callbacks"


def refitted(text: str, wanted: str) -> str | None:
    """Return a configuration with the callbacks that fit; everything else of it, comments too, is as it was.

    Returns: None where its lines are not written in the way that this understands.
    """
    before, found = _read(text), _found(text)
    if before is None or not found:
        return None
    names = _chosen({one.key: one.names for one in found}, wanted)
    lines = text.splitlines(keepends=True)
    first = found[0]
    for one in found:
        lines[one.number] = one.written(names.pop(one.key))
    lines[first.number] = "".join(first.another(key, listed) for key, listed in names.items()) + lines[first.number]
    new = "".join(lines)
    return new if _rest(_read(new)) == _rest(before) and fits(new, wanted) else None  # read again: a text is easily mistaken


@dataclass(frozen=True)
class _Line:
    """A line that names callbacks.

    Attributes:
        number: of the line, from 0. rest: what follows the list, with the end of the line.
    """

    number: int
    indent: str
    key: str
    gap: str
    names: Sequence[str]
    rest: str
    text: str

    def written(self, names: Sequence[str]) -> str:
        """The same with other names; nothing where none is left, and no comment either."""
        if list(names) == list(self.names):
            return self.text
        if not names and not self.rest.strip():
            return ""
        return f"{self.indent}{self.key}:{self.gap}{json.dumps(list(names))}{self.rest}"

    def another(self, key: str, names: Sequence[str]) -> str:
        """A line beside this one."""
        end = "\r\n" if self.rest.endswith("\r\n") else "\n"
        return f"{self.indent}{key}: {json.dumps(list(names))}{end}" if names else ""


def _found(text: str) -> list[_Line]:
    """Find the lines that name callbacks below `litellm_settings`; none where one of them cannot be understood."""
    found: list[_Line] = []
    inside = False
    for number, line in enumerate(text.splitlines(keepends=True)):
        if line[0] not in " #\r\n":
            inside = line.startswith(f"{_SETTINGS}:")
        match = _LINE.fullmatch(line) if inside else None
        if match is None:
            continue
        try:
            names = yaml.safe_load(match["names"])
        except yaml.YAMLError:
            return []
        if not all(isinstance(name, str) for name in names) or match["key"] in (one.key for one in found):
            return []
        found.append(_Line(number, match["indent"], match["key"], match["gap"], names, match["rest"], line))
    return found


def _chosen(names: Mapping[str, Sequence[str]], wanted: str) -> dict[str, list[str]]:
    """Choose the callbacks of each key; those that are not Langfuse's stay where they are."""
    chosen = {key: list(names.get(key, ())) for key in _KEYS}
    if wanted == _OTEL:
        chosen = {key: [name for name in listed if name != _OLD] for key, listed in chosen.items()}
        if not any(_OTEL in listed for listed in chosen.values()):
            chosen["callbacks"].append(_OTEL)
    elif not any({_OLD, _OTEL} & set(listed) for listed in chosen.values()):
        for key in _KEYS[1:]:
            chosen[key].append(_OLD)
    return chosen


def _read(text: str) -> dict[str, Any] | None:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return None
    return found if isinstance(found, dict) else None


def _rest(document: Mapping[str, Any] | None) -> object:
    """All of a configuration but its callbacks, and what in them is not Langfuse's."""
    if document is None or not isinstance(settings := document.get(_SETTINGS), dict):
        return None
    named = {key: found if isinstance(found := settings.get(key) or [], list) else [found] for key in _KEYS}
    others = {key: [name for name in listed if name not in LINES] for key, listed in named.items()}
    return {**document, _SETTINGS: {key: value for key, value in settings.items() if key not in _KEYS}}, others
