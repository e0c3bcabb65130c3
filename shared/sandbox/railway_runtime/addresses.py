"""Private addresses, as they are in variables and commands, and what they are on this machine.

`<service>.railway.internal:<port>` becomes `127.0.0.1:<another port>`, wherever it stands: in a URL, in YAML, in a command.
In a URL without a port it is the scheme's. A variable `X_HOST` that is nothing but a host name goes together with `X_PORT`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

__all__ = ["LOCALHOST", "Addresses"]

LOCALHOST = "127.0.0.1"

_PRIVATE = re.compile(
    r"(?P<front>(?P<scheme>[a-z][a-z0-9+.-]*)://(?:[^\s/@\"']*@)?)?"
    r"(?P<service>[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)\.railway\.internal(?![\w-]|\.\w)(?::(?P<port>\d{1,5})\b)?",
    re.IGNORECASE,
)
_BY_SCHEME = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "redis": 6379, "clickhouse": 9000}
_BY_STEM = {"CLICKHOUSE_": 8123, "PG": 5432, "POSTGRES_": 5432, "REDIS": 6379, "REDIS_": 6379}
"""What is taken for the port where there is a variable `<stem>HOST` and no `<stem>PORT`."""


class Addresses:
    """Translates.

    Args:
        port_of: the port of 127.0.0.1 that stands for a port of a service.
    """

    def __init__(self, port_of: Callable[[str, int], int]) -> None:
        self._port_of = port_of

    def in_variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Translate the values of variables; one may be added, the port of a host that had none."""
        translated = {name: self.in_text(value) for name, value in variables.items()}
        for name, value in variables.items():
            found = _PRIVATE.fullmatch(value)
            if found is None or found["front"] or found["port"] or not name.endswith("HOST"):
                continue
            partner = name.removesuffix("HOST") + "PORT"
            said = variables.get(partner, "")
            port = int(said) if said.isdigit() else _BY_STEM.get(name.removesuffix("HOST"))
            if port is not None:  # a name that stays as it is does not resolve, which is told by who uses it
                translated[name] = LOCALHOST
                translated[partner] = str(self._port_of(found["service"].lower(), port))
        return translated

    def in_text(self, text: str) -> str:
        """Translate every private address with a port, its own or its scheme's, in a text."""
        return _PRIVATE.sub(self._replacement, text)

    def _replacement(self, found: re.Match[str]) -> str:
        scheme = (found["scheme"] or "").partition("+")[0].lower()
        port = int(found["port"]) if found["port"] else _BY_SCHEME.get(scheme)
        if port is None:
            return found[0]
        return f"{found['front'] or ''}{LOCALHOST}:{self._port_of(found['service'].lower(), port)}"
