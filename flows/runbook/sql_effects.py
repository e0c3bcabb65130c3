"""What a migration's SQL leaves behind in Postgres' catalogue, as far as one can tell by reading it; decided on text alone.

Prisma's migrations are plain statements of a few kinds. What is not understood is no effect: the rest of the script decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

__all__ = ["Effect", "Kind", "commits_itself", "effects", "statements"]

Kind = Literal["relation", "type", "label", "column", "constraint"]


@dataclass(frozen=True)
class Effect:
    """Something that is there, or is gone, once the migration was applied.

    Attributes:
        owner: the table of a column or constraint, the type of a label; else empty. there: it exists afterwards.
    """

    kind: Kind
    name: str
    owner: str = ""
    there: bool = True

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.kind} {f'{self.owner}.' if self.owner else ''}{self.name} {'made' if self.there else 'dropped'}"


_NAME = r'(?:(?:"[^"]+"|[\w$]+)\s*\.\s*)?("[^"]+"|[\w$]+)'
_GUARD = r"(?:IF\s+(?:NOT\s+)?EXISTS\s+)?"
_WHOLE: tuple[tuple[Kind, bool, str], ...] = (
    ("relation", True, rf"CREATE\s+(?:UNLOGGED\s+)?TABLE\s+{_GUARD}{_NAME}"),
    ("relation", True, rf"CREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?!ON\b){_GUARD}{_NAME}"),
    ("relation", True, rf"CREATE\s+(?:OR\s+REPLACE\s+)?(?:MATERIALIZED\s+)?VIEW\s+{_GUARD}{_NAME}"),
    ("relation", False, rf"DROP\s+(?:TABLE|INDEX|VIEW|MATERIALIZED\s+VIEW)\s+(?:CONCURRENTLY\s+)?{_GUARD}{_NAME}"),
    ("type", True, rf"CREATE\s+TYPE\s+{_NAME}"),
    ("type", False, rf"DROP\s+TYPE\s+{_GUARD}{_NAME}"),
)
_LABEL = rf"ALTER\s+TYPE\s+{_NAME}\s+ADD\s+VALUE\s+{_GUARD}'([^']+)'"
_TABLE = rf"ALTER\s+TABLE\s+(?:ONLY\s+)?{_GUARD}{_NAME}\s+(.*)"
_PARTS: tuple[tuple[Kind, bool, str], ...] = (
    ("column", True, rf"ADD\s+COLUMN\s+{_GUARD}{_NAME}"),
    ("column", False, rf"DROP\s+COLUMN\s+{_GUARD}{_NAME}"),
    ("constraint", True, rf"ADD\s+CONSTRAINT\s+{_NAME}"),
    ("constraint", False, rf"DROP\s+CONSTRAINT\s+{_GUARD}{_NAME}"),
)
_TOKENS = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|;", re.S)


def statements(script: str) -> list[str]:
    """Split a script at its semicolons, those in texts, names, comments and functions apart; comments are left out."""
    found, begun = [], 0
    kept: list[str] = []
    for token in _TOKENS.finditer(script):
        text = token[0]
        if text == ";":
            kept.append(script[begun : token.start()])
            found.append("".join(kept).strip())
            kept, begun = [], token.end()
        elif text.startswith(("--", "/*")):
            kept.append(script[begun : token.start()] + " ")
            begun = token.end()
    found.append("".join([*kept, script[begun:]]).strip())
    return [one for one in found if one]


def commits_itself(script: str) -> bool:
    """Say whether a script does not run as one transaction: what it did before it failed may have stayed."""
    return any(
        re.match(r"(COMMIT|END|BEGIN|START\s+TRANSACTION|VACUUM)\b|.*\bCONCURRENTLY\b", one, re.I | re.S)
        for one in statements(script)
    )


def effects(script: str) -> list[Effect]:
    """Name what a script makes and drops; of what it makes and drops again, or the other way round, only the last."""
    last: dict[tuple[Kind, str, str], Effect] = {}
    for statement in statements(script):
        for one in _of(statement):
            last.pop((one.kind, one.owner, one.name), None)
            last[one.kind, one.owner, one.name] = one
    return list(last.values())


def _of(statement: str) -> Iterator[Effect]:
    for kind, there, pattern in _WHOLE:
        if found := re.match(pattern, statement, re.I):
            yield Effect(kind, _plain(found[1]), there=there)
            return
    if found := re.match(_LABEL, statement, re.I):
        yield Effect("label", found[2], _plain(found[1]))
    elif found := re.match(_TABLE, statement, re.I | re.S):
        parts = [
            (part.start(), Effect(kind, _plain(part[1]), _plain(found[1]), there))
            for kind, there, pattern in _PARTS
            for part in re.finditer(rf"(?:^|,)\s*{pattern}", found[2], re.I)
        ]
        yield from (one for _, one in sorted(parts, key=lambda part: part[0]))


def _plain(name: str) -> str:
    """The name as the catalogue has it: folded to lower case unless it is quoted."""
    return name[1:-1] if name.startswith('"') else name.lower()
