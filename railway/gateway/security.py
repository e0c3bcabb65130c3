"""Who may see and start what: token, session cookie, rate limits, and the headers of every answer."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["COOKIE", "HOOKS", "LARGEST_BODY", "LARGEST_HOOK", "Access", "Gate", "Guard", "Limiter", "client_of", "is_secure"]

COOKIE = "stack_session"
SESSION_SECONDS = 7 * 86400
LARGEST_BODY = 4096
"""Bytes: the login form is all that anybody sends here."""
LARGEST_HOOK = 256 << 10
"""Bytes of what others tell below `HOOKS`: Alertmanager groups many alerts, Slack sends the message of a pressed button."""
HOOKS = "/hooks/"
_CLIENTS = 10_000
"""Clients whose mistakes are counted; the oldest are forgotten."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex, nofollow",
}


_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]


class Access(Enum):
    """What a request may do."""

    ALLOWED = "allowed"
    MISSING = "it carries no token"
    WRONG = "its token is wrong"
    LIMITED = "too many wrong tokens came from there"
    UNSET = "the gateway has no token"


class Limiter:
    """So many events a key, refilled with time (a token bucket each).

    Args:
        burst: events at once. refill: seconds after which one more is allowed. clock: seconds, monotonic.
    """

    def __init__(self, burst: int, refill: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._refill, self._clock = burst, refill, clock
        self._known: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Return the seconds until an event is allowed, 0 when it is now. Counts nothing."""
        left, _ = self._now(key)
        return 0.0 if left >= 1 else (1 - left) * self._refill

    def count(self, key: str) -> None:
        """Count an event."""
        left, now = self._now(key)
        self._known[key] = (max(left - 1, 0.0), now)
        self._known.move_to_end(key)
        while len(self._known) > _CLIENTS:
            self._known.popitem(last=False)

    def _now(self, key: str) -> tuple[float, float]:
        now = self._clock()
        left, then = self._known.get(key, (float(self._burst), now))
        return min(float(self._burst), left + (now - then) / self._refill), now


@dataclass
class Gate:
    """Compares tokens, in constant time, and tells who guesses to wait. The right token always passes: many clients may share
    an address, and what keeps it from being guessed is its length.

    Attributes:
        token: None where none is set: then nothing that needs one can be done.
        mistakes: wrong tokens by client.
    """

    token: SecretStr | None
    mistakes: Limiter

    def by_bearer(self, request: Request) -> Access:
        """Judge the Authorization header."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if self.token is None:
            return Access.UNSET
        if scheme.lower() != "bearer" or not given.strip():
            return Access.MISSING
        return self.by_text(request, given.strip())

    def by_text(self, request: Request, given: str) -> Access:
        """Judge a token that was given otherwise: in the login form."""
        if self.token is None:
            return Access.UNSET
        if hmac.compare_digest(_digest(given), _digest(self.token.get_secret_value())):
            return Access.ALLOWED
        client = client_of(request)
        if self.mistakes.wait(client):
            return Access.LIMITED
        self.mistakes.count(client)
        return Access.WRONG

    def by_session(self, request: Request, now: float) -> bool:
        """Say whether the request has a session cookie of ours that has not run out.

        Args:
            now: seconds since 1970.
        """
        expires, _, mark = request.cookies.get(COOKIE, "").partition(".")
        if self.token is None or not expires.isdecimal() or len(expires) > 12 or int(expires) < now:
            return False
        return hmac.compare_digest(mark.encode(), self._mark(expires).encode())

    def session(self, now: float) -> str:
        """Make the value of a session cookie: worthless once the token is another."""
        expires = str(int(now) + SESSION_SECONDS)
        return f"{expires}.{self._mark(expires)}"

    def _mark(self, expires: str) -> str:
        key = _digest(self.token.get_secret_value() if self.token else "")
        return hmac.new(key, f"session:{expires}".encode(), hashlib.sha256).hexdigest()


class Guard:
    """Wraps the app: refuses large bodies before they are read, and puts the headers on every answer.

    Args:
        app: what is wrapped.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request, or a message of the server's own."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[tuple[bytes, bytes]] = [*message["headers"], *_RAW_HEADERS]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                if is_secure(request):
                    headers.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = headers
            await send(message)

        length = request.headers.get("content-length", "0")
        most = LARGEST_HOOK if str(scope["path"]).startswith(HOOKS) else LARGEST_BODY
        if not length.isdecimal() or int(length) > most:
            answer = PlainTextResponse(f"the request is too large; at most {most} bytes\n", 413, {"Connection": "close"})
            await answer(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def client_of(request: Request) -> str:
    """Name the client: what the proxy in front of us says, which is the last entry it appended, or the peer itself.

    A proxy may append to the header's line, or add a line below those that the client made up.
    """
    lines = request.headers.getlist("x-forwarded-for") or [""]
    forwarded = lines[-1].rpartition(",")[2].strip()
    return forwarded[:64] or (request.client.host if request.client else "")


def is_secure(request: Request) -> bool:
    """Say whether the client speaks HTTPS, with us or with the proxy in front of us."""
    return request.headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip() == "https"


def _digest(text: str) -> bytes:
    """Of equal length whatever the text, so that comparing tells nothing about it."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()
