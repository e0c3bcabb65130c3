"""The backup store for programs that start every minute: a few requests by httpx, signed here, none of boto3.

To import boto3 and prefect-aws and to make a client takes a second of processor time, which is a fifth of what a whole sweep
may cost. Small objects only; everything large or unusual goes through `BackupStore`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self
from urllib.parse import quote, unquote_plus, urlsplit
from xml.etree import ElementTree

import httpx
from pydantic import SecretStr

from blocks.bucket_url import UrlStyle, bucket_url
from blocks.errors import ConditionFailed, ObjectMissing, SettingsError, StoreError
from blocks.s3_signature import EMPTY_SHA256, signed_headers

__all__ = ["Item", "LightStore", "Page", "Place", "error_code", "parse_page", "refusal"]


@dataclass(frozen=True)
class Item:
    """One object as a listing shows it."""

    key: str
    bytes: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class Page:
    """One page of a listing.

    Attributes:
        folders: names directly below the prefix, with slash, where a delimiter was asked for.
        token: of the next page, empty after the last.
    """

    items: list[Item]
    folders: list[str]
    token: str


@dataclass(frozen=True)
class Place:
    """A bucket and the key pair to it.

    Attributes:
        endpoint: URL of the server; empty: AWS itself. style: where the bucket stands in URLs.
    """

    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: SecretStr = field(repr=False)
    style: UrlStyle = "path"

    @property
    def server(self) -> str:
        """URL of the server, without slash at its end."""
        return (self.endpoint or f"https://s3.{self.region}.amazonaws.com").rstrip("/")

    @property
    def base(self) -> str:
        """URL of the bucket, without slash at its end."""
        return bucket_url(self.server, self.bucket, self.style)

    def url(self, key: str = "", query: Mapping[str, str] | None = None) -> str:
        """Make the URL of the bucket, or of an object in it; the query sorted, as signatures have it."""
        return self.base + _path(key) + (f"?{_encoded(query)}" if query else "")

    def listing(self, prefix: str, *, token: str = "", delimiter: str = "", limit: int = 1000) -> dict[str, str]:
        """Make the query of a listing (ListObjectsV2)."""
        wanted = {"continuation-token": token, "delimiter": delimiter, "max-keys": "" if limit == 1000 else str(limit)}
        return {"list-type": "2", "prefix": prefix, "encoding-type": "url", **{k: v for k, v in wanted.items() if v}}

    def signed(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        extra: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        """Make a signed request.

        Args:
            key: of the object, empty for the bucket. extra: headers beside the signature's, for example If-Match.
        Raises:
            SettingsError: the endpoint is no URL.
        """
        parts = urlsplit(self.base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError("store: the endpoint is not a URL; expected http(s)://host[:port], as in MINIO_ENDPOINT")
        host = parts.netloc.rpartition("@")[2]
        headers = signed_headers(
            (parts.path + _path(key)) or "/",
            _encoded(query or {}),
            host,
            self.region,
            (self.access_key, self.secret_key.get_secret_value(), None),
            datetime.now(UTC),
            method=method,
            payload=hashlib.sha256(body).hexdigest() if body else EMPTY_SHA256,
        )
        return httpx.Request(method, self.url(key, query), headers={"Host": host, **headers, **(extra or {})}, content=body)


class LightStore:
    """One stack's part of the backup store. Close it, or use it as a context manager.

    Args:
        place: the bucket. root: key prefix of the stack, with a slash at its end.
        timeout: seconds for a connection or an answer. page: keys that a listing asks for at once.
    """

    def __init__(self, place: Place, root: str, *, timeout: float = 5.0, page: int = 1000) -> None:
        self._page = page
        self.root = root
        self._place = place
        # httpx would read a file of certificates for every client, also where there is no TLS
        secure = place.base.startswith("https://")
        self._http = httpx.Client(timeout=timeout, trust_env=False, verify=httpx.create_ssl_context() if secure else False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, key: str) -> bytes:
        """Read an object whole; raises as `get_with_etag`."""
        return self.get_with_etag(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Read an object whole, with its ETag.

        Raises:
            ObjectMissing: there is none.
            StoreError: the store did not answer, or refused.
        """
        answer = self._send(self._place.signed("GET", key), f"read {key}")
        return answer.content, answer.headers.get("etag", "")

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_etag: str | None = None) -> str:
        """Write an object whole; returns its ETag.

        Args:
            if_absent: only where there is none. if_etag: only where there still is the one with this ETag.
        Raises:
            ConditionFailed: the condition does not hold.
            StoreError: as in `get_with_etag`.
        """
        extra = {"If-None-Match": "*"} if if_absent else {"If-Match": if_etag} if if_etag is not None else {}
        answer = self._send(self._place.signed("PUT", key, body=data, extra=extra), f"write {key}")
        etag: str = answer.headers.get("etag", "")
        return etag

    def list(self, prefix: str) -> Iterator[Item]:
        """Yield the objects below a prefix, in the order the store gives them."""
        for page in self._pages(prefix, ""):
            yield from page.items

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the names directly below a prefix that have objects below them, without slash."""
        for page in self._pages(prefix, "/"):
            yield from (name.removeprefix(prefix).rstrip("/") for name in page.folders)

    def remove(self, keys: Iterable[str]) -> int:
        """Delete objects, one request each; returns how many. What is not there is no error."""
        count = 0
        for key in keys:
            self._send(self._place.signed("DELETE", key), f"delete {key}")
            count += 1
        return count

    def _pages(self, prefix: str, delimiter: str) -> Iterator[Page]:
        token = ""
        while True:
            query = self._place.listing(prefix, token=token, delimiter=delimiter, limit=self._page)
            page = parse_page(self._send(self._place.signed("GET", query=query), f"list {prefix}").content)
            yield page
            if not (token := page.token):
                return

    def _send(self, request: httpx.Request, doing: str) -> httpx.Response:
        try:
            answer = self._http.send(request)
        except (httpx.HTTPError, OSError) as error:
            raise StoreError(f"store: {doing}: {type(error).__name__}; is the store reachable?") from None
        if answer.status_code >= 300:
            raise refusal(answer.status_code, answer.content, doing)
        return answer


def refusal(status: int, body: bytes, doing: str) -> StoreError:
    """Turn a refusal of the store into an error of ours: its code only, never its pages of XML.

    Args:
        doing: what was asked for, for example `read sets/x/manifest.json`.
    """
    code = error_code(body) or f"HTTP {status}"
    if status in (409, 412):
        return ConditionFailed(f"store: {doing}: the object changed or exists already ({code})")
    if code == "NoSuchBucket":
        return StoreError(f"store: {doing}: the bucket does not exist; create it or correct its name", permanent=True)
    if status == 404:
        return ObjectMissing(f"store: {doing}: not there ({code})")
    if status in (401, 403):
        denied = f"store: {doing}: refused ({code}); check the access key, its secret and its policy"
        return StoreError(denied, permanent=True)
    return StoreError(f"store: {doing}: {code} (HTTP {status})", permanent=status < 500 and status != 429)


def error_code(body: bytes) -> str:
    """Read S3's own code out of an answer, for example NoSuchBucket; empty where there is none."""
    return body.decode(errors="replace").partition("<Code>")[2].partition("</Code>")[0]


def parse_page(body: bytes) -> Page:
    """Read a page of a listing.

    Raises:
        StoreError: it is none.
    """
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - botocore parses the same answers with the same parser
        space = root.tag.rpartition("}")[0] + "}" if root.tag.startswith("{") else ""
        encoded = root.findtext(f"{space}EncodingType") == "url"

        def text(name: str) -> str:
            return unquote_plus(name) if encoded else name

        items = [
            Item(
                text(item.findtext(f"{space}Key") or ""),
                int(item.findtext(f"{space}Size") or 0),
                item.findtext(f"{space}ETag") or "",
                datetime.fromisoformat(item.findtext(f"{space}LastModified") or ""),
            )
            for item in root.iterfind(f"{space}Contents")
        ]
        folders = [text(one.findtext(f"{space}Prefix") or "") for one in root.iterfind(f"{space}CommonPrefixes")]
    except (ElementTree.ParseError, ValueError):
        raise StoreError("store: the answer is not a listing") from None
    more = root.findtext(f"{space}IsTruncated") == "true"
    return Page(items, folders, root.findtext(f"{space}NextContinuationToken") or "" if more else "")


def _path(key: str) -> str:
    return f"/{quote(key, safe='/~')}" if key else ""


def _encoded(query: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
