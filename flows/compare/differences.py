"""What a comparison found: one difference, one line a person can act on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Difference:
    """Something that is not as the manifest says.

    Attributes:
        component: `postgres litellm`, `clickhouse default`.
        where: what differs, for example `table public."LiteLLM_SpendLogs"` or `grant on table public.users`.
        expected: what the manifest says. found: what was there.
    """

    component: str
    where: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.component}: {self.where}: expected {_short(self.expected)}, found {_short(self.found)}"


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def compare_mappings(component: str, what: str, expected: dict[str, str], found: dict[str, str]) -> list[Difference]:
    """Compare two mappings and name every key that is missing, added or changed, in order."""
    return [
        Difference(component, f"{what} {key}".strip(), expected.get(key, "nothing"), found.get(key, "nothing"))
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]
