"""The tables of the documentation, made from the stack: what they say is what is deployed.

`python -m railway.tables FILE...` puts them into Markdown files, between `<!-- table: NAME -->` and `<!-- end of table -->`;
`--check` changes nothing and says which files are out of date. NAME is one of `tables()`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rich.console import Console

from railway.rules import RULES
from railway.stack import Literal, Reference, Secret, SecretKind, Service, Stack, Value
from railway.variants import build

__all__ = ["fill", "tables"]

_MARKED = re.compile(r"(<!-- table: ([a-z0-9-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
_LONGEST = 60
"""Characters of a literal that a table shows; whole files are named by their first line."""
_KINDS: Mapping[SecretKind, str] = {
    SecretKind.PASSWORD: "{length} letters and digits",
    SecretKind.HEX: "{length} hexadecimal digits",
    SecretKind.SK: "`sk-` and {length} letters and digits",
    SecretKind.LANGFUSE_PUBLIC_KEY: "`pk-lf-` and a UUID",
    SecretKind.LANGFUSE_SECRET_KEY: "`sk-lf-` and a UUID",
    SecretKind.AUTH_STRING: "`user:` and {length} letters and digits",
    SecretKind.FERNET: "a Fernet key",
    SecretKind.AGE_IDENTITY: "an age secret key",
    SecretKind.AGE_RECIPIENT: "the age public key of {of}",
}


def tables() -> dict[str, str]:
    """Return every table as Markdown, by name.

    `services-<variant>`, `variables-<service>` (of production, Langfuse 3, with what 4 has besides), `secrets`, `limits`,
    `compatibility`, `sources`, `rules`.
    """
    starter, production, four = build("starter"), build("production"), build("production", langfuse_major=4)
    made = {f"services-{stack.variant}": _services(stack) for stack in (starter, production)}
    for name, service in production.services.items():
        made[f"variables-{name}"] = _variables(service, four.services[name])
    made["secrets"] = _secrets(production)
    made["limits"] = _limits(production)
    made["compatibility"] = _compatibility(production, four)
    made["sources"] = _table(
        ("service", "its vendor's documentation"),
        (
            (f"`{one.name}`", " ".join(f"<{url}>" for url in one.documents))
            for one in production.services.values()
            if one.documents
        ),
    )
    made["rules"] = _table(("rule", "what", "source"), ((f"`{rule.name}`", rule.about, rule.source) for rule in RULES))
    return made


def fill(text: str, made: Mapping[str, str] | None = None) -> str:
    """Put the tables into a Markdown text, in the place of those that are there.

    Args:
        made: tables by name; default all of them.
    Raises:
        ValueError: the text asks for a table that there is not.
    """
    known = tables() if made is None else made

    def table(match: re.Match[str]) -> str:
        if match[2] not in known:
            raise ValueError(f"there is no table {match[2]!r}; there are {', '.join(known)}")
        return f"{match[1]}\n{known[match[2]]}\n{match[3]}"

    return _MARKED.sub(table, text)


def _services(stack: Stack) -> str:
    head = ("service", "image", "port", "health path", "volume", "public", "what for")
    return _table(
        head,
        (
            (
                f"`{one.name}`",
                f"`{one.image}`",
                str(one.port or ""),
                f"`{one.health.path}`, {one.health.timeout} s" if one.health else "",
                f"`{one.volume.mount}`, {one.volume.gigabytes} GB" if one.volume else "",
                "yes" if one.public else "no",
                one.about,
            )
            for one in stack.services.values()
        ),
    )


def _variables(three: Service, four: Service) -> str:
    rows = []
    for name in {**three.variables, **four.variables}:
        old, new = three.variables.get(name), four.variables.get(name)
        note = "" if old == new else "Langfuse 4 only" if old is None else "otherwise with Langfuse 4"
        rows.append((f"`{name}`", _value(old or new), note))
    return _table(("variable", "value", ""), rows)


def _secrets(stack: Stack) -> str:
    rows = [
        (f"`{service.name}`", f"`{name}`", _value(value))
        for service in stack.services.values()
        for name, value in service.variables.items()
        if isinstance(value, Secret)
    ]
    return _table(("service", "variable", "what it is"), rows)


def _limits(stack: Stack) -> str:
    head = ("service", "vCPU", "memory, GB", "volume, GB", "draining, s", "overlap, s", "needs", "starts")
    order = stack.start_order()
    return _table(
        head,
        (
            (
                f"`{one.name}`",
                f"{one.limits.cpus:g}" if one.limits else "",
                f"{one.limits.gigabytes:g}" if one.limits else "",
                str(one.volume.gigabytes) if one.volume else "",
                str(one.draining_seconds),
                str(one.overlap_seconds),
                ", ".join(one.needs),
                f"{order.index(one.name) + 1}.",
            )
            for one in stack.services.values()
        ),
    )


def _compatibility(three: Stack, four: Stack) -> str:
    rows = [
        (f"`{name}`", f"`{service.image}`", f"`{four.services[name].image}`")
        for name, service in three.services.items()
        if name != "prefect-worker"
    ]
    return _table(("service", "with Langfuse 3", "with Langfuse 4"), rows)


def _value(value: Value | None) -> str:
    match value:
        case Literal(text):
            first = text.strip().splitlines()[0] if text.strip() else ""
            return f"`{text}`" if text == first and len(text) <= _LONGEST else f"a file: {first.lstrip('#<!- ')}"
        case Reference(text):
            return f"`{text}`"
        case Secret(kind=SecretKind.GIVEN):
            return f"{'' if value.required else 'optional: '}{value.what}"
        case Secret():
            return "drawn: " + _KINDS[value.kind].format(length=value.length, of=f"`{value.of}`")
        case None:
            return ""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(head), *(tuple(row) for row in rows)]
    written = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    written.insert(1, "|" + "---|" * len(lines[0]))
    return "\n".join(written) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Fill files, or check that they are filled; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m railway.tables", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a file is out of date")
    options = parser.parse_args(arguments)
    err = Console(stderr=True, soft_wrap=True)
    made, status = tables(), 0
    say: Callable[[str], None] = lambda line: err.print(line, markup=False, highlight=False)  # noqa: E731 - a short name
    for file in options.files:
        text = file.read_text(encoding="utf-8")
        try:
            filled = fill(text, made)
        except ValueError as error:
            say(f"{file}: {error}")
            status = 1
            continue
        if filled == text:
            continue
        if options.check:
            say(f"{file}: its tables are not those of the stack; run python -m railway.tables {file}")
            status = 1
        else:
            file.write_text(filled, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
