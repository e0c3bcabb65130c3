"""Where Railway's API is and what it must be shown (facts: railway.md 2.1). Imports nothing heavy: a sweep asks it, too."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

__all__ = ["DEFAULT_URL", "USER_AGENT", "TokenKind", "headers", "public_url"]

DEFAULT_URL = "https://backboard.railway.com/graphql/v2"
USER_AGENT = "stack-operations/0.1"
"""An agent of its own: the edge in front of the API refuses the default one of Python's urllib."""

TokenKind = Literal["project", "workspace", "account"]
"""Scope of a token: one environment of one project, one workspace, or all that its owner may do."""


def headers(token: SecretStr, kind: TokenKind) -> dict[str, str]:
    """Make the headers of every request: never both kinds of authorisation, of which only one would count.

    Args:
        token: as Railway shows it once. kind: what it was made as.
    """
    secret = token.get_secret_value()
    authority = {"Project-Access-Token": secret} if kind == "project" else {"Authorization": f"Bearer {secret}"}
    return {**authority, "User-Agent": USER_AGENT, "Accept": "application/json"}


def public_url(domain: str) -> str:
    """Make the URL of a service's domain: https, and plain http on this machine (the sandbox).

    Args:
        domain: as `RailwayApi.create_domain` returns it, `name.up.railway.app` or `127.0.0.1:1234`.
    """
    place = urlsplit(domain if "://" in domain else f"//{domain}")
    return f"{'http' if _is_here(place.hostname or '') else 'https'}://{place.netloc}"


def _is_here(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
