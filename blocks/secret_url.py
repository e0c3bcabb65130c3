"""HTTP to a URL that is itself a secret: a webhook's, a heartbeat's.

httpx logs the URL of every request, and puts it into its errors. Here the URL is put in below the client, on the way to the
wire: the client, its log lines and its errors only know the host.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import cache
from urllib.request import getproxies, proxy_bypass

import httpx
from pydantic import SecretStr

from blocks.errors import DeliveryFailed, SettingsError

__all__ = ["SecretUrl", "is_certain_failure", "judge", "retry_after_seconds"]

_ACCEPTED = range(200, 300)
_LONGEST_WAIT_S = 3600.0


class SecretUrl:
    """A client of one secret URL.

    Args:
        url: http(s). who: begins every message, for example `discord`. variable: the setting it comes from, for messages.
        timeout: seconds for connecting, for sending and for each part of the answer.
    Raises:
        SettingsError: it is no such URL.
    """

    def __init__(self, url: SecretStr, *, who: str, variable: str, timeout: float) -> None:
        self.who = who
        self._variable = variable
        self._url = url
        self._timeout = timeout
        try:
            parsed = httpx.URL(url.get_secret_value())
        except httpx.InvalidURL:
            parsed = httpx.URL("")
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise SettingsError(f"setting {variable}: expected http(s)://host/...; correct the environment variable")
        self.host = parsed.host

    def __repr__(self) -> str:
        return f"SecretUrl(who={self.who!r}, host={self.host!r})"

    def request(
        self,
        method: str,
        *,
        below: str = "",
        query: Mapping[str, str] | None = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send one request; a new connection each, because sweeps are a minute and a process apart.

        Args:
            below: appended to the path. query: added to the URL's own. content: the body.
        Returns: the answer, whatever its status.
        Raises:
            DeliveryFailed: no answer; uncertain where the request may have arrived.
        """
        real = httpx.URL(self._url.get_secret_value())
        real = real.copy_with(path=f"{real.path.rstrip('/')}{below}" if below else real.path)
        real = real.copy_merge_params(dict(query or {}))
        shown = httpx.URL(scheme=real.scheme, host=real.host, port=real.port, path="/")
        transport = _Hidden(httpx.HTTPTransport(verify=_tls(), proxy=_proxy(real)), real)
        try:
            with httpx.Client(transport=transport, timeout=self._timeout, follow_redirects=False) as client:
                return client.request(method, shown, content=content, headers=dict(headers or {}))
        except httpx.HTTPError as error:
            raise DeliveryFailed(
                f"{self.who}: no answer from {self.host} ({type(error).__name__}); tried again with the next sweep",
                uncertain=not is_certain_failure(error),
            ) from None

    def checked(self, response: httpx.Response) -> httpx.Response:
        """Return the answer, or raise what its status means.

        Raises:
            DeliveryFailed: see `judge`.
        """
        judge(self.who, self._variable, response.status_code, response.headers)
        return response


def judge(who: str, variable: str, status: int, headers: Mapping[str, str], said: str = "") -> None:
    """Raise what an answer's status means; nothing for 2xx.

    Args:
        who: begins the message. variable: where to look when the channel refuses.
        headers: of the answer, names in any case.
        said: the service's own word for it, without secrets.
    Raises:
        DeliveryFailed: 429: wait as long as it says. 3xx and 4xx: permanent. 5xx: a retry can help; what was asked for may have
            been done before it broke.
    """
    if status in _ACCEPTED:
        return
    words = f"{who}: answered {status}{f' ({said})' if said else ''}"
    if status == 429:
        wait = retry_after_seconds(headers)
        raise DeliveryFailed(f"{words}: too many messages; waiting {wait:g} s", permanent=False, retry_after=wait)
    if status in (408, 425) or status >= 500:
        raise DeliveryFailed(
            f"{words}, expected 2xx; tried again with the next sweep", permanent=False, uncertain=status >= 500
        )
    raise DeliveryFailed(f"{words}, expected 2xx; correct {variable} or the channel's own settings", permanent=True)


def retry_after_seconds(headers: Mapping[str, str]) -> float:
    """How long a 429 asks to wait: seconds from 0 to an hour; a minute where it does not say."""
    given = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    try:
        return min(max(float(given), 0.0), _LONGEST_WAIT_S)
    except ValueError:
        return 60.0


def is_certain_failure(error: httpx.HTTPError) -> bool:
    """Whether nothing can have arrived: no connection came about."""
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.UnsupportedProtocol)


class _Hidden(httpx.BaseTransport):
    """Sends each request to the secret URL instead of the one that the client knows."""

    def __init__(self, transport: httpx.BaseTransport, url: httpx.URL) -> None:
        self._transport = transport
        self._url = url

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        real = httpx.Request(
            request.method, self._url, headers=request.headers, stream=request.stream, extensions=request.extensions
        )
        return self._transport.handle_request(real)

    def close(self) -> None:
        self._transport.close()


@cache
def _tls() -> ssl.SSLContext:
    """What httpx would make anew for each client, in 20 ms."""
    return httpx.create_ssl_context()


def _proxy(url: httpx.URL) -> str | None:
    """The proxy that the environment names for this URL: a client with a transport of its own does not look."""
    return None if proxy_bypass(url.host) else getproxies().get(url.scheme)
