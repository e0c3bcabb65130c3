"""The runbooks' part of RUNBOOK.md, made from the flows themselves: their docstrings, their forms, the catalogue, the checks.

`python -m flows.runbook.book` writes it between `<!-- runbooks: NAME -->` and `<!-- end of runbooks -->`, where NAME is
`symptoms` or `runbooks`; `--check` changes nothing and says whether the file is out of date.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml
from rich.console import Console

from flows.health.dependencies import ORDER
from flows.runbook.catalogue import Entry, Kind, entries
from flows.runbook.frame import RunbookRequest
from flows.runbook.sentences import Said, sentence_of, spoken

__all__ = ["BOOK", "HEADINGS", "fill", "paragraphs", "pieces"]

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "railway/production/docs/RUNBOOK.md"
HEADINGS = ("Symptom", "Diagnosis", "Remedy", "When not to")
"""What a runbook's docstring has, in this order."""

_MARKED = re.compile(r"(<!-- runbooks: ([a-z]+) -->\n).*?(<!-- end of runbooks -->)", re.DOTALL)
_BY_ITSELF: Mapping[Kind, str] = {"automatic": "runs by itself", "asks": "asks first", "manual": "by hand"}


def fill(text: str, made: Mapping[str, str] | None = None) -> str:
    """Put the pieces into a Markdown text, in the place of those that are there.

    Args:
        made: by name; default all of them.
    Raises:
        ValueError: the text asks for a piece that there is not, or for none.
    """
    known = pieces() if made is None else made
    asked = [match[2] for match in _MARKED.finditer(text)]
    if sorted(asked) != sorted(known):
        raise ValueError(f"its marks are {', '.join(asked) or 'none'}, expected one each of {', '.join(known)}")
    return _MARKED.sub(lambda match: f"{match[1]}\n{known[match[2]]}\n{match[3]}", text)


def pieces() -> dict[str, str]:
    """Return what goes between the marks: `symptoms`, the index; `runbooks`, a section for each."""
    flows = _flows()
    return {"symptoms": _index(entries(), flows, spoken()), "runbooks": _sections(entries(), flows)}


def paragraphs(docstring: str) -> dict[str, str]:
    """Read a runbook's docstring: the paragraph below each heading, and the first line under `""`.

    Raises:
        ValueError: a heading is missing.
    """
    before, *_ = re.split(r"\n\s*(?:Args|Returns|Raises):\n", inspect.cleandoc(docstring), maxsplit=1)
    found = {"": " ".join(before.partition("\n\n")[0].split())}
    for part in before.split("\n\n")[1:]:
        heading, colon, rest = part.partition(":")
        if colon and heading.strip() in HEADINGS:
            found[heading.strip()] = " ".join(rest.split())
        else:  # goes on with what was said before it
            last = list(found)[-1]
            found[last] = f"{found[last]} {' '.join(part.split())}"
    if missing := [heading for heading in HEADINGS if heading not in found]:
        raise ValueError(f"the docstring has no paragraph {missing[0]!r}; expected {', '.join(HEADINGS)}")
    return found


def _index(known: Sequence[Entry], flows: Mapping[str, typing.Any], said: list[Said]) -> str:
    """A table of what people see, by service in the order of the stack."""
    rows = ["| service | what the alert says | incident | runbook | |", "|---|---|---|---|---|"]
    services = [*ORDER, *sorted({one.service for one in known if one.service and one.service not in ORDER})]
    for service in services:
        for aspect in _once(aspect for one in known if one.service == service for aspect in one.aspects):
            mine = [one for one in known if one.service and one.answers(service, aspect)]
            seen = sentence_of(said, service, aspect) or _first_sentence(paragraphs(flows[mine[0].name].fn.__doc__)["Symptom"])
            names = ", then ".join(_linked(name) for name in _once(one.name for one in mine))
            rows.append(f"| {service} | {_cell(seen)} | `{service}/{aspect}` | {names} | {_BY_ITSELF[mine[0].kind]} |")
    rows += [
        f"| {one.service or 'any'} | {_cell(_first_sentence(paragraphs(flows[one.name].fn.__doc__)['Symptom']))} | "
        f"{', '.join(f'`{aspect}`' for aspect in one.aspects)} | {_linked(one.name)} | {_BY_ITSELF[one.kind]} |"
        for one in known
        if not one.service or not one.aspects
    ]
    return "\n".join(rows) + "\n"


def _sections(known: Sequence[Entry], flows: Mapping[str, typing.Any]) -> str:
    return "\n".join(
        _section(name, [one for one in known if one.name == name], flows[name]) for name in _once(one.name for one in known)
    )


def _section(name: str, mine: Sequence[Entry], flow: typing.Any) -> str:
    """One runbook for a person who reads it at night."""
    said = paragraphs(flow.fn.__doc__)
    answers = ", ".join(f"`{one.service or 'any'}/{aspect}`" for one in mine for aspect in one.aspects)
    kinds = " or ".join(_once(_BY_ITSELF[one.kind] for one in mine))
    lines = [f"### {name}", "", said[""], ""]
    lines += [f"*{kinds}; {f'answers {answers}' if answers else 'no incident starts it'}; `{mine[0].deployment}`*", ""]
    for heading in HEADINGS:
        lines += [f"**{heading}:** {said[heading]}", ""]
    if options := list(_options(flow)):
        lines += ["| parameter | default | |", "|---|---|---|", *options, ""]
    return "\n".join(lines)


def _options(flow: typing.Any) -> Iterator[str]:
    """A row for each parameter that this runbook has beside those of all."""
    request = typing.get_type_hints(flow.fn)["request"]
    for name, field in request.model_fields.items():
        if name in RunbookRequest.model_fields:
            continue
        default = "" if field.is_required() else f"`{_written(field.get_default(call_default_factory=True))}`"
        yield f"| `{name}` | {default} | {_cell(field.description or '')} |"


def _written(value: object) -> str:
    """A default as it is typed into the parameters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f'"{value}"' if isinstance(value, str) else str(value)


def _flows() -> dict[str, typing.Any]:
    """Import the flow of every runbook, by its name."""
    found = {}
    for one in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]:
        if one["name"] == "runbook":
            path, _, function = one["entrypoint"].partition(":")
            flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
            found[flow.name] = flow
    return found


def _linked(name: str) -> str:
    return f"[{name}](#{name})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?;])\s", text, maxsplit=1)[0].rstrip(".;")


def _once(names: typing.Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def main(argv: Sequence[str] | None = None) -> int:
    """Run `python -m flows.runbook.book`; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.runbook.book", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; status 1 where it is out of date")
    parser.add_argument("--file", type=Path, default=BOOK, help="default: the operators' RUNBOOK.md")
    options = parser.parse_args(argv)
    say = Console(soft_wrap=True, highlight=False, markup=False).print
    try:
        text = options.file.read_text(encoding="utf-8")
        filled = fill(text)
    except (OSError, ValueError) as error:
        say(f"{options.file}: {error}")
        return 1
    if filled == text:
        return 0
    if options.check:
        say(f"{options.file}: it does not say what the runbooks do; run python -m flows.runbook.book")
        return 1
    options.file.write_text(filled, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
