"""What must not be said: values that came from Railway, or went there, are cut out of every text that comes back.

Two layers: the values that this session has seen, and what looks like a credential anyway. Sealed values can never be read, so
that for them only the second layer stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

__all__ = ["HIDDEN", "Secrets", "Variables"]

HIDDEN = "***"

_SHORTEST = 6
"""Characters from which on any value counts as a secret; shorter ones only by their name: `4000` and `true` are everywhere."""
_SHORTEST_SECRET = 3
_NAMES = re.compile(r"PASS|SECRET|TOKEN|KEY|SALT|AUTH|CREDENTIAL|PRIVATE|DSN", re.IGNORECASE)
_INJECTED = re.compile(r"^RAILWAY_(?!TOKEN|API_TOKEN)")
"""What Railway itself sets: names, ids and domains, which messages need."""

_PATTERNS = (
    (re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"), HIDDEN),
    (re.compile(r"\b(?:sk|pk-lf|sk-lf|pk|rk|xox[abp])-[A-Za-z0-9_\-]{6,}"), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~\-]{6,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(r"(?i)(pass(?:word|wd)?|secret|token|api[_-]?key|salt)([\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]{3,}"),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(r"AGE-SECRET-KEY-[0-9A-Z]+"), HIDDEN),
    (re.compile(r"(?<!sha256:)\b[0-9a-fA-F]{32,}\b"), HIDDEN),
)


class Variables(dict[str, str]):
    """Variables by name; an ordinary dictionary that does not show its values when it is printed."""

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {HIDDEN!r}' for name in self)}}}"

    __str__ = __repr__


class Secrets:
    """Values that are not to be said again. Grows only."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: set[str] = {value for value in values if value}

    def learn(self, variables: Mapping[str, str]) -> None:
        """Remember the values of variables, and the passwords of URLs among them."""
        for name, value in variables.items():
            if _INJECTED.match(name):
                continue
            shortest = _SHORTEST_SECRET if _NAMES.search(name) else _SHORTEST
            lines = {line.strip() for line in value.splitlines()}
            self._values.update(one for one in {value, *lines} if len(one) >= shortest)
            self._values.update(one for one in _passwords(value) if len(one) >= _SHORTEST_SECRET)

    def scrub(self, text: str) -> str:
        """Return the text without them."""
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, HIDDEN)
            escaped = quote(value, safe="")
            if escaped != value:
                text = text.replace(escaped, HIDDEN)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def __repr__(self) -> str:
        return f"Secrets({len(self._values)} values)"


def _passwords(value: str) -> set[str]:
    if "://" not in value:
        return set()
    try:
        password = urlsplit(value).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()
