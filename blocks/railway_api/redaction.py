"""What must not be said: values that came from Railway, or went there, are cut out of every text that comes back.

Two layers: the values that this session has seen, and what looks like a credential anyway. Sealed values can never be read, so
that for them only the second layer stands. Of the values that were seen, those that whoever opened the session says are public,
as the literals of a stack, stay readable: an error without the word `litellm` in it helps nobody.
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

_PRIVATE_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+]*://)?[a-z0-9-]+\.railway\.internal(?::\d+)?(?:/[a-z0-9/_-]*)?", re.IGNORECASE)
"""Where a service is, without user and password: worth nothing outside the private network, and what an error is about."""

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
        self._always: set[str] = {value for value in values if value}
        self._seen: set[tuple[str, str]] = set()
        self._public: set[tuple[str, str]] = set()

    def publish(self, variables: Iterable[tuple[str, str]]) -> None:
        """Take note that anybody may read these values.

        Args:
            variables: names and values. Another variable of the same value is then public, too, unless its name is that of a
                secret: a password may be a word that stands elsewhere.
        """
        self._public.update((name, line) for name, value in variables for line in _lines(value))

    def learn(self, variables: Mapping[str, str]) -> None:
        """Remember the values of variables, and the passwords of URLs among them."""
        for name, value in variables.items():
            if _INJECTED.match(name):
                continue
            shortest = _SHORTEST_SECRET if _NAMES.search(name) else _SHORTEST
            self._seen.update((name, one) for one in _lines(value) if len(one) >= shortest)
            self._always.update(one for one in _passwords(value) if len(one) >= _SHORTEST_SECRET)

    def scrub(self, text: str) -> str:
        """Return the text without them."""
        for value in sorted(self._values(), key=len, reverse=True):
            text = text.replace(value, HIDDEN)
            escaped = quote(value, safe="")
            if escaped != value:
                text = text.replace(escaped, HIDDEN)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def _values(self) -> set[str]:
        words = {value for _, value in self._public}

        def is_public(name: str, value: str) -> bool:
            if (name, value) in self._public:
                return True
            return not _NAMES.search(name) and (value in words or _PRIVATE_ADDRESS.fullmatch(value) is not None)

        return self._always | {value for name, value in self._seen if not is_public(name, value)}

    def __repr__(self) -> str:
        return f"Secrets({len(self._values())} values)"


def _lines(value: str) -> set[str]:
    return {value, *(line.strip() for line in value.splitlines())}


def _passwords(value: str) -> set[str]:
    if "://" not in value:
        return set()
    try:
        password = urlsplit(value).password
    except ValueError:
        return set()
    return {password, unquote(password)} if password else set()
