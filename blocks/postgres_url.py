"""Postgres URLs, also those that were written for an application's Prisma client."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict

from blocks.errors import SettingsError

PRISMA_ONLY = frozenset(
    {
        "connection_limit",
        "max_connection_lifetime",
        "max_idle_connection_lifetime",
        "pgbouncer",
        "pool_timeout",
        "schema",
        "single_use_connections",
        "socket_timeout",
        "sslaccept",
        "sslidentity",
        "statement_cache_size",
    }
)
"""What Prisma reads from a URL and libpq does not know (Prisma's connection URL reference and quaint's `PostgresUrl`)."""

DEFAULTS = {"port": "5432", "connect_timeout": "10", "application_name": "stack-operations"}
KEEPALIVES = {"keepalives": "1", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
"""A server that vanished without a word is noticed within a minute, also while a dump waits for its first byte."""

_LIBPQ = frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())
_VARIABLES = {option.keyword.decode(): option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar}
_EXPECTED = "expected postgresql://user:password@host:port/database, special characters of the password percent-encoded"


def parse_url(url: str) -> dict[str, str]:
    """Turn a URL into libpq's connection parameters.

    Prisma's own parameters are left out, but what they ask of security is kept: `sslaccept=strict` becomes `verify-full`.

    Args:
        url: `postgresql://user:password@host:port/database?sslmode=...`.
    Raises:
        SettingsError: it is no such URL, or has parameters that neither libpq nor Prisma know. The message does not quote it.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        raise SettingsError(f"postgres: the URL cannot be read; {_EXPECTED}") from None
    if parts.scheme not in ("postgres", "postgresql") or not _has_user(parts.netloc) or parts.fragment:
        raise SettingsError(f"postgres: the URL cannot be read; {_EXPECTED}")
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(name for name in query if name not in _LIBPQ and name not in PRISMA_ONLY)
    if unknown:
        raise SettingsError(f"postgres: the URL has parameters that Postgres does not know: {', '.join(unknown)}; remove them")
    kept = {name: value for name, value in query.items() if name not in PRISMA_ONLY}
    if query.get("sslaccept") == "strict" and not kept.get("sslmode", "").startswith("verify"):
        kept |= {"sslmode": "verify-full", "sslrootcert": kept.get("sslrootcert", "system")}
    plain = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(kept, quote_via=quote), ""))
    try:
        parameters = {name: str(value) for name, value in conninfo_to_dict(plain).items() if value is not None}
    except ProgrammingError:  # its text quotes parts of the URL, the password's among them
        raise SettingsError(f"postgres: the URL cannot be read; {_EXPECTED}") from None
    if "host" not in parameters:
        raise SettingsError(f"postgres: the URL names no host; {_EXPECTED}")
    if not all(port.isdigit() or not port for port in parameters.get("port", "").split(",")):
        raise SettingsError(f"postgres: the URL's port is no number; {_EXPECTED}")
    return {**DEFAULTS, **KEEPALIVES, "dbname": "postgres", **parameters}


def environment(parameters: dict[str, str]) -> dict[str, str]:
    """Say the same to a client program, in the variables that libpq reads; what has none (keepalives) is left out."""
    return {_VARIABLES[name]: value for name, value in parameters.items() if name in _VARIABLES}


def _has_user(netloc: str) -> bool:
    user, at, _ = netloc.rpartition("@")
    return bool(at) and bool(user.partition(":")[0])
