"""Reaching a service: its name, one more try where it refused, and HTTP whose failures are one phrase for people."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from flows.health.findings import NoAnswer

__all__ = ["Answer", "Web", "causes", "how", "once_more", "resolved", "tls", "web"]

T = TypeVar("T")

AGAIN_AFTER = 0.3
"""Seconds before the second try of a connection that was refused: a service that has just been restarted listens by then."""
LONGEST = 10.0
"""Seconds without a byte; every check's own deadline is shorter."""
LARGEST = 1 << 24
"""Bytes of an answer that are read; health endpoints answer with a few, a manifest is the longest."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its body, and the milliseconds until it was complete; `certificate` as the module `ssl` has it."""

    status: int
    body: bytes
    latency_ms: float
    headers: Mapping[str, str]
    certificate: Mapping[str, Any] | None = None

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is something else."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class Web:
    """Asks one server; made by `web`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def get(
        self, path: str, *, query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """GET; see `ask`."""
        return await self.ask(self._client.build_request("GET", path, params=query, headers=headers))

    async def post(
        self,
        path: str,
        content: str | bytes,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """POST; see `ask`."""
        return await self.ask(self._client.build_request("POST", path, content=content, params=query, headers=headers))

    async def ask(self, request: httpx.Request) -> Answer:
        """Send a request.

        Returns: the answer, whatever its status.
        Raises:
            NoAnswer: there is none.
        """
        return await once_more(lambda: self._once(request))

    async def _once(self, request: httpx.Request) -> Answer:
        begun = time.monotonic()
        try:
            answer = await self._client.send(request, stream=True)
            try:
                certificate = _certificate(answer)
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LARGEST:
                        break
            finally:
                await answer.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NoAnswer(how(error)) from error
        return Answer(answer.status_code, body, (time.monotonic() - begun) * 1000, answer.headers, certificate)


@asynccontextmanager
async def web(url: str, headers: Mapping[str, str] | None = None) -> AsyncIterator[Web]:
    """Ask the server at a URL. No proxy, no redirects followed, no deadline but that of the whole check.

    Args:
        headers: of every request.
    Raises:
        NoAnswer: its name does not resolve.
    """
    await resolved(urlsplit(url).hostname or "")
    verify = (
        tls() if url.startswith("https://") else False
    )  # httpx would read the certificates of all authorities for each client
    async with httpx.AsyncClient(base_url=url, timeout=LONGEST, headers=headers, trust_env=False, verify=verify) as client:
        yield Web(client)


@lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """The authorities that are trusted, read once; SSL_CERT_FILE names others, as everywhere."""
    return httpx.create_ssl_context()


async def once_more(call: Callable[[], Awaitable[T]]) -> T:
    """Do something, and again if a connection was refused: a service may be restarting this very moment."""
    try:
        return await call()
    except Exception as error:
        if not any(_refused(one) for one in causes(error)):
            raise
    await asyncio.sleep(AGAIN_AFTER)
    return await call()


async def resolved(host: str) -> None:
    """See that a name resolves.

    The system's resolver cannot be interrupted, and the event loop waits for its threads at the end: so it is asked here, in a
    thread that nobody waits for, before a library asks it.

    Raises:
        NoAnswer: it does not.
    """
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[bool] = loop.create_future()

    def settle(found: bool) -> None:
        if not outcome.done():
            outcome.set_result(found)

    def look_up() -> None:
        try:
            found = bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            found = False
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(settle, found)

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    if not await outcome:
        raise NoAnswer("has a host name that does not resolve")


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it came from, also out of groups, and where a library has hidden it (httpcore does)."""
    left: list[BaseException] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions


def how(error: Exception) -> str:
    """Say in a phrase why there was no answer; without the error's own text, which names hosts."""
    found = list(causes(error))
    if any(_refused(one) for one in found):
        return "refuses connections"
    if any(isinstance(one, ssl.SSLCertVerificationError) for one in found):
        return "shows a certificate that is not valid"
    if any(isinstance(one, ssl.SSLError) for one in found):
        return "does not speak TLS as expected"
    if any(isinstance(one, (TimeoutError, httpx.TimeoutException)) for one in found):
        return "did not answer in time"
    if any(isinstance(one, socket.gaierror) for one in found):
        return "has a host name that does not resolve"
    if any(isinstance(one, (httpx.UnsupportedProtocol, httpx.InvalidURL)) for one in found):
        return "has a URL that is none"
    if any(isinstance(one, httpx.ConnectError) for one in found):
        return "cannot be reached"
    return "broke the connection off"


def _refused(error: BaseException) -> bool:
    return isinstance(error, OSError) and (isinstance(error, ConnectionRefusedError) or error.errno == errno.ECONNREFUSED)


def _certificate(answer: httpx.Response) -> Mapping[str, Any] | None:
    stream = answer.extensions.get("network_stream")
    secured = stream.get_extra_info("ssl_object") if stream is not None else None
    found: Mapping[str, Any] | None = secured.getpeercert() if secured is not None else None
    return found
