"""How the gateway listens and serves."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

__all__ = ["listen", "make_server"]

KEEP_ALIVE = 65
"""Seconds that an idle connection is kept: longer than Railway's edge keeps its own (60 s), which so never meets one that was
just closed."""
CONNECTIONS = 500
"""Connections at once; more are answered with 503."""


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Make the server for an ASGI app. It ends on SIGTERM or SIGINT, and finishes the requests that are under way."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=10,
            limit_concurrency=CONNECTIONS,
        )
    )


def listen(host: str | None, port: int) -> socket.socket:
    """Open the listening socket: on one address, or on every one.

    Railway's private network has IPv6 only in older environments, and its edge may come by IPv4 (facts: railway.md 3): a server
    on `::` alone would be deaf to the one, on `0.0.0.0` to the other.

    Raises:
        OSError: the port is taken, or may not be had.
    """
    if host is None and socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, backlog=256, dualstack_ipv6=True)
    return socket.create_server((host or "0.0.0.0", port), backlog=256)  # noqa: S104 - a container's only door
