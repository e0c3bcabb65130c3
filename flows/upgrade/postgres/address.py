"""Where a Postgres server is, and by which names it is found in variables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

from blocks.errors import SettingsError

__all__ = ["PORT", "Address", "address_of", "mentions", "parts_of", "reached", "swapped"]

PORT = 5432
_SCHEME = re.compile(r"^postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_KEPT = ("sslmode", "sslrootcert", "sslaccept")
"""What a target's URL asks of the way there, and every consumer's has to ask, too."""


@dataclass(frozen=True)
class Address:
    """Where a server is.

    Attributes:
        host, port: as the consumers reach it. service: its name on Railway, empty where it is not there.
        aliases: further `host:port` or `host` that lead to it: a TCP proxy, a name that somebody gave it.
        options: query parameters that a URL of it needs, as `sslmode=require`.
    """

    host: str
    port: int = PORT
    service: str = ""
    aliases: frozenset[str] = frozenset()
    options: tuple[tuple[str, str], ...] = ()

    def is_of(self, host: str, port: int | None) -> bool:
        """Say whether this host and port are the server; without a port Postgres' own is meant."""
        names = {self.host.lower(), *(one.lower() for one in self.aliases)}
        return (host.lower() in names and (port or PORT) == self.port) or f"{host}:{port or PORT}".lower() in names


def address_of(url: str, service: str = "") -> Address:
    """Read where a URL leads.

    Raises:
        SettingsError: it names no host. The message does not quote it.
    """
    parts = parts_of(url)
    if parts is None or not parts.hostname:
        raise SettingsError("postgres: the URL names no host; expected postgresql://user:password@host:port/database")
    options = tuple((name, value) for name, value in parse_qsl(parts.query) if name in _KEPT)
    return Address(parts.hostname, parts.port or PORT, service, options=options)


def parts_of(text: str) -> SplitResult | None:
    """Split what is a URL of Postgres as a whole; None for anything else. SQLAlchemy's `postgresql+asyncpg://` is one, too."""
    if not _SCHEME.match(text.strip()):
        return None
    try:
        parts = urlsplit(text.strip())
        _ = parts.port
    except ValueError:
        return None
    return parts


def mentions(text: str, address: Address) -> bool:
    """Say whether a value names the server: in a URL, as `host=` of a connection string, or as a bare host name."""
    return any(pattern.search(text) for pattern in _patterns(address))


def swapped(text: str, old: Address, new: Address) -> str:
    """Put one server's address in the place of another's, wherever it stands in a value; all else stays as it is.

    What the new address asks of the way there is added where the value is a URL as a whole.
    """
    replacement = f"[{new.host}]" if ":" in new.host else new.host

    def each(match: re.Match[str]) -> str:
        return f"{replacement}:{new.port}" if match["port"] else replacement

    for pattern in _patterns(old):
        text = pattern.sub(each, text)
    text = _dsn_port(text, new)
    parts = parts_of(text)
    if parts is None or not new.options or parts.hostname != new.host:
        return _with_port(text, new)
    query = dict(parse_qsl(parts.query, keep_blank_values=True)) | dict(new.options)
    return _with_port(urlunsplit(parts._replace(query=urlencode(query, quote_via=quote))), new)


def reached(url: str, routes: Sequence[str]) -> str:
    """Say how this program reaches a server: its own way, where the server's private name means nothing here.

    Args:
        routes: `host:port=host:port`, the name in the environment and the way to it from here.
    """
    parts = parts_of(url)
    if parts is None or parts.hostname is None:
        return url
    for route in routes:
        there, _, here = route.partition("=")
        if there.lower() == f"{parts.hostname}:{parts.port or PORT}".lower():
            credentials, at, _ = parts.netloc.rpartition("@")
            return urlunsplit(parts._replace(netloc=f"{credentials}{at}{here}"))
    return url


def _patterns(address: Address) -> Iterable[re.Pattern[str]]:
    """Recognise the names of a server; those with a port first. A longer name that contains one is another host."""
    named = sorted({address.host, *address.aliases}, key=lambda one: (":" not in one, one))
    for name in named:
        host, _, port = name.partition(":") if name.count(":") == 1 else (name, "", "")
        bare = rf"(?<![\w.-])\[?{re.escape(host)}\]?(?![\w-]|\.\w)"
        if port:
            tail = rf"(?P<port>:{port}\b)"
        else:  # where no port is named it is Postgres' own; `/` after the host ends a URL's address
            other = r":\d" if address.port == PORT else r":\d|/"
            tail = rf"(?:(?P<port>:{address.port}\b)|(?!{other}))"
        yield re.compile(bare + tail, re.IGNORECASE)


def _dsn_port(text: str, new: Address) -> str:
    """`host=... port=...`, as libpq writes it."""
    host = re.escape(new.host)
    if not re.search(rf"\bhost\s*=\s*{host}\b", text):
        return text
    return re.sub(r"\bport\s*=\s*\d+", f"port={new.port}", text)


def _with_port(text: str, new: Address) -> str:
    """A URL without port means 5432: where the new server listens elsewhere, it has to say so."""
    parts = parts_of(text)
    if parts is None or parts.hostname != new.host.lower() or parts.port is not None or new.port == PORT:
        return text
    return urlunsplit(parts._replace(netloc=f"{parts.netloc}:{new.port}"))
