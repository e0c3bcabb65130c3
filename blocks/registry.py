"""Registries of images, asked by the registry v2 API (the OCI distribution specification): is an image there, which tags are.

Nobody logs in: what this cannot see, a platform that pulls without credentials cannot either. Only questions, so everything may
be tried again. A HEAD request for a manifest is not counted as a pull by Docker Hub.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote, urljoin, urlsplit

import httpx

from blocks.errors import AccessDenied, IntegrityError, ServiceError, SettingsError
from blocks.image_name import DOCKER_HUB, ImageName
from blocks.retry import retrying

__all__ = ["Found", "ImageName", "Registries"]

_HOSTS = {DOCKER_HUB: "https://registry-1.docker.io"}
_LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    *_LISTS,
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_PAGE = 1000
_MOST_PAGES = 60
_LARGEST = 4 * 1024 * 1024
"""Bytes of a manifest or a configuration, as the specification has it."""
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next"?')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Found:
    """An image that is there.

    Attributes:
        digest: `sha256:...` of its manifest, which is what a tag stands for just now.
        created: when it was built, as its configuration says; None where nobody asked, or it does not say.
    """

    digest: str
    created: datetime | None = None


class Registries:
    """Asks registries; a context manager that keeps its connections.

    Args:
        mirror: URL of a registry that has all others' images, each registry's name before its repositories
            (`<mirror>/v2/ghcr.io/berriai/litellm/...`); empty: each registry is asked itself.
        timeout: seconds for a connection or an answer.

    Example:
        ```python
        with Registries() as registries:
            found = registries.find(ImageName.parse("redis:8.2.1"))
        ```
    """

    def __init__(self, mirror: str = "", *, timeout: float = 15.0) -> None:
        if mirror and urlsplit(mirror).scheme not in ("http", "https"):
            raise SettingsError("registry: REGISTRY_URL is no http(s)://host[:port]; correct it, or leave it empty")
        self._mirror = mirror.rstrip("/")
        verify = not mirror.startswith("http://")  # httpx reads all authorities' certificates otherwise: a tenth of a second
        self._client = httpx.Client(timeout=timeout, trust_env=False, verify=verify)
        self._tokens: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def find(self, name: ImageName, *, created: bool = False) -> Found | None:
        """Look for an image.

        Args:
            created: ask when it was built, too: up to three requests more, of which one counts as a pull.
        Returns: what the registry says of it; None where it has no such tag or digest, or no such repository.
        Raises:
            AccessDenied: it wants a login: the repository is private, or is gone: Docker Hub does not say which.
            IntegrityError: what it sends is not what it says. ServiceError: it does not answer.
        """
        answer = self._ask("HEAD", name, f"manifests/{name.wanted}", _MANIFESTS)
        if answer is None:
            return None
        digest = answer.headers.get("docker-content-digest", "")
        if not created and _DIGEST.fullmatch(digest):
            return Found(digest)
        digest, manifest = self._manifest(name, name.wanted)
        return Found(digest, self._created(name, manifest) if created else None)

    def exists(self, name: ImageName) -> bool:
        """Say whether an image is there. Raises: as of `find`."""
        return self.find(name) is not None

    def tags(self, name: ImageName) -> list[str]:
        """List the tags of an image's repository, in the registry's order; empty where there is no such repository.

        Raises: as of `find`.
        """
        return [tag for page in self._pages(name) for tag in page]

    # ------------------------------------------------------------------------------------------------------------------------

    def _pages(self, name: ImageName) -> Iterator[list[str]]:
        path = f"tags/list?n={_PAGE}"
        for _ in range(_MOST_PAGES):
            answer = self._ask("GET", name, path, ("application/json",))
            if answer is None:
                return
            yield [str(tag) for tag in _json(name, answer.content).get("tags") or []]
            link = _NEXT.search(answer.headers.get("link", ""))
            if link is None:
                return
            url, base = urljoin(str(answer.url), link[1]), self._base(name)
            if not url.startswith(base):
                raise ServiceError(
                    f"registry {name.registry}: the next page of the tags of {name} is elsewhere", permanent=True
                )
            path = url.removeprefix(base)
        raise ServiceError(
            f"registry {name.registry}: the tags of {name} have no end after {_MOST_PAGES} pages", permanent=True
        )

    def _manifest(self, name: ImageName, wanted: str) -> tuple[str, Mapping[str, Any]]:
        answer = self._ask("GET", name, f"manifests/{wanted}", _MANIFESTS)
        if answer is None:
            raise ServiceError(f"registry {name.registry}: {name} was there a moment ago and is not now; ask again")
        digest = _sha256(answer.content)
        said = wanted if _DIGEST.fullmatch(wanted) else answer.headers.get("docker-content-digest", digest)
        if said != digest:
            raise IntegrityError(
                f"registry {name.registry}: the manifest of {name} is {digest}, expected {said}; do not pull it"
            )
        return digest, _json(name, answer.content)

    def _created(self, name: ImageName, manifest: Mapping[str, Any]) -> datetime | None:
        """Read when an image was built; of one for several machines, that for the usual one."""
        if manifest.get("mediaType") in _LISTS or "manifests" in manifest:
            usual = [one for one in manifest.get("manifests") or [] if _platform(one) == ("linux", "amd64")]
            if not usual:
                return None
            _, manifest = self._manifest(name, str(usual[0].get("digest", "")))
        digest = str((manifest.get("config") or {}).get("digest", ""))
        answer = self._ask("GET", name, f"blobs/{digest}", ("*/*",)) if _DIGEST.fullmatch(digest) else None
        if answer is None:
            return None
        if _sha256(answer.content) != digest:
            raise IntegrityError(f"registry {name.registry}: the configuration of {name} is not {digest}; do not pull it")
        try:
            at = datetime.fromisoformat(str(_json(name, answer.content).get("created", "")))
        except ValueError:
            return None
        return at if at.tzinfo else None

    def _base(self, name: ImageName) -> str:
        if self._mirror:
            return f"{self._mirror}/v2/{name.registry}/{name.repository}/"
        return f"{_HOSTS.get(name.registry, f'https://{name.registry}')}/v2/{name.repository}/"

    def _ask(self, method: str, name: ImageName, path: str, accept: tuple[str, ...]) -> httpx.Response | None:
        """Ask about a repository; None: there is no such thing."""
        return retrying(lambda: self._once(method, name, path, accept))

    def _once(self, method: str, name: ImageName, path: str, accept: tuple[str, ...]) -> httpx.Response | None:
        url, where = self._base(name) + path, f"{name.registry}/{name.repository}"
        answer = self._send(method, url, name, accept, self._tokens.get(where))
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            token = self._token(name, answer.headers.get("www-authenticate", ""))
            if token is not None:
                self._tokens[where] = token
                answer = self._send(method, url, name, accept, token)
        status = answer.status_code
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise _denied(name)
        if status == httpx.codes.NOT_FOUND:
            return None
        if status == httpx.codes.TOO_MANY_REQUESTS:
            after = answer.headers.get("retry-after", "")
            when = f"in {after} s" if after.isdigit() else "later"
            raise ServiceError(f"registry {name.registry}: too many requests from this address; ask for {name} again {when}")
        if not answer.is_success:
            raise ServiceError(
                f"registry {name.registry}: HTTP {status} for {name}, expected 200; ask again, or see its status page"
            )
        return answer

    def _token(self, name: ImageName, challenge: str) -> str | None:
        """Fetch a token as anybody may have it; None where the registry offers none."""
        scheme, _, rest = challenge.partition(" ")
        asked = dict(_PARAMETER.findall(rest))
        realm = asked.get("realm", "")
        secure = ("https",) if not self._mirror.startswith("http://") else ("https", "http")
        if scheme.lower() != "bearer" or urlsplit(realm).scheme not in secure:
            return None
        wanted = {"service": asked.get("service", ""), "scope": asked.get("scope", f"repository:{name.repository}:pull")}
        query = "&".join(f"{key}={quote(value, safe=':,/')}" for key, value in wanted.items() if value)
        answer = self._send("GET", realm + ("&" if "?" in realm else "?") + query, name, ("application/json",), None)
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise _denied(name)
        if not answer.is_success:
            raise ServiceError(f"registry {name.registry}: HTTP {answer.status_code} where it gives out tokens; ask again")
        found = _json(name, answer.content)
        return str(found.get("token") or found.get("access_token") or "") or None

    def _send(self, method: str, url: str, name: ImageName, accept: tuple[str, ...], token: str | None) -> httpx.Response:
        """Send one request and read its answer, up to a limit; redirects to where blobs are are followed without the token."""
        headers = {"Accept": ", ".join(accept), "User-Agent": "stack-operations"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        try:
            with self._client.stream(method, url, headers=headers, follow_redirects=True) as answer:
                content = b""
                for piece in answer.iter_bytes():
                    content += piece
                    if len(content) > _LARGEST:
                        raise ServiceError(f"registry {name.registry}: its answer about {name} is too large", permanent=True)
                answered = httpx.Response(answer.status_code, headers=_plain(answer.headers), content=content)
                answered.request = answer.request
                return answered
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceError(
                f"registry {name.registry}: no answer about {name} ({type(error).__name__}); is it reachable from here?"
            ) from None


def _plain(headers: httpx.Headers) -> dict[str, str]:
    """The headers without those that say how the content was packed, which it is not any more."""
    return {
        key: value for key, value in headers.items() if key not in ("content-encoding", "content-length", "transfer-encoding")
    }


def _denied(name: ImageName) -> AccessDenied:
    return AccessDenied(
        f"registry {name.registry}: {name} is not given out without a login: its repository is gone, or private; "
        "expected one that anybody may pull"
    )


def _platform(entry: Mapping[str, Any]) -> tuple[str, str]:
    platform = entry.get("platform") or {}
    return str(platform.get("os", "")), str(platform.get("architecture", ""))


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(name: ImageName, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServiceError(f"registry {name.registry}: its answer about {name} is no JSON object; ask again")
    return found
