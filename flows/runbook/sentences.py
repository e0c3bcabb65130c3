"""What a check says when something is bad, read from the check's own source: with `…` where it says what it measured.

So the runbook's index shows what people see first in an alert, and cannot say anything else than the check does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from railway.stack import SERVICES

__all__ = ["Said", "sentence_of", "spoken"]

CHECKS = Path(__file__).parents[1] / "health" / "checks"
GAP = "…"
_OF: Mapping[str, tuple[str, ...]] = {
    "langfuse_propagation": ("langfuse-worker",),
    "langfuse_queues": ("langfuse-worker",),
    "postgres_applications": ("litellm", "langfuse-web"),
    "prefect": ("prefect-server", "prefect-worker"),
}
"""Modules that are not called after the service that they look at."""
_GOOD = ("OK", "UNKNOWN")
_LEAST = 12
"""Characters that are left of a sentence without its gaps; what has fewer says nothing."""


@dataclass(frozen=True)
class Said:
    """One sentence of a check.

    Attributes:
        module: of the check, without folder and ending. down: the status, where the source says it, is `down`.
        sentence: what was seen, up to what to do about it.
    """

    module: str
    aspect: str
    down: bool
    sentence: str


def spoken() -> list[Said]:
    """Return every bad sentence of every check, in the order of the sources."""
    return [
        one
        for path in sorted(CHECKS.glob("*.py"))
        for one in _Reader(path.stem).read(ast.parse(path.read_text(encoding="utf-8")))
    ]


def sentence_of(said: list[Said], service: str, aspect: str) -> str:
    """What people see first of an aspect, and what they see where it is down, if that is something else.

    Returns: empty where no check says anything that can be read without running it.
    """
    found = [one for one in said if _is(one.aspect, aspect)]
    mine = [one for one in found if service in _OF.get(one.module, (one.module.replace("_", "-"),))]
    first, worst = ([one.sentence for one in mine or found if one.down is down] for down in (False, True))
    if first and worst and not worst[0].startswith(first[0]):
        return f"{first[0]}; or: {worst[0]}"
    return (worst or first or [""])[0]


class _Reader(ast.NodeVisitor):
    """Reads one module from top to bottom, with the texts that its names stand for at each line."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._texts: dict[str, str] = {}
        self._found: list[Said] = []
        self._silent: list[Said] = []

    def read(self, tree: ast.Module) -> Iterator[Said]:
        """Yield what it says; that it does not answer comes first."""
        self.visit(tree)
        yield from self._silent
        yield from self._found

    def visit_Assign(self, node: ast.Assign) -> None:
        """Keep what a name stands for from here on."""
        self.generic_visit(node)
        match node.targets:
            case [ast.Name(id=name)]:
                self._texts[name] = _text(node.value, self._texts)

    def visit_Call(self, node: ast.Call) -> None:
        """Keep what is said with `found.add`, `found.measure` and `found.looking`."""
        self.generic_visit(node)
        if not isinstance(node.func, ast.Attribute) or not node.args:
            return
        aspect = _text(node.args[0], self._texts)
        match node.func.attr, node.args:
            case "add", [_, status, sentence, *_] if (word := _word(status)) not in _GOOD:
                self._keep(aspect, _text(sentence, self._texts), down=word == "DOWN")
            case "measure", [_, _, _, _, sentence, *_]:
                self._keep(aspect, _text(sentence, self._texts), down=False)
            case "looking", [_, silent] if _word(silent) not in (*_GOOD, ""):
                service = _OF.get(self._module, (self._module.replace("_", "-"),))[0]
                if service in SERVICES and aspect == self._texts.get("MAIN"):
                    said = f"{SERVICES[service].title} does not answer"
                    self._silent.append(Said(self._module, aspect, False, said))

    def _keep(self, aspect: str, sentence: str, *, down: bool) -> None:
        seen = " ".join(sentence.partition("; ")[0].split())
        if len(seen.replace(GAP, "").strip()) >= _LEAST:
            self._found.append(Said(self._module, aspect, down, seen))


def _is(written: str, aspect: str) -> bool:
    """Whether an aspect is the one that a source names, with gaps."""
    parts = [re.escape(part) for part in written.split(GAP)]
    return any(parts) and re.fullmatch(".+".join(parts), aspect.replace("*", "any")) is not None


def _word(status: ast.expr) -> str:
    """`DOWN` of `Status.DOWN`; `?` where that is found out when it runs; nothing for None."""
    match status:
        case ast.Attribute(value=ast.Name(id="Status"), attr=word):
            return word
        case ast.Constant(value=None):
            return ""
    return "?"


def _text(node: ast.expr, known: Mapping[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return known.get(name, GAP)
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, known) for part in parts)
        case ast.FormattedValue(value=value):
            return _text(value, known)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, known) + _text(right, known)
        case ast.IfExp(body=body, orelse=other):  # written as: what is good if it is, else what is bad
            bad = _text(other, known)
            return bad if bad.replace(GAP, "").strip() else _text(body, known)
    return GAP
