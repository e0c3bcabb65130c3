"""Many objects read fast: signed GETs on kept connections, without the half millisecond of Python that botocore takes for each.

Measured with 2 KB objects: boto3's get_object 1 ms of processor time a request, urllib3 with botocore's signer 0.5 ms, this
0.17 ms. A page of a listing takes a tenth of what boto3 takes. Only reading is here; everything else goes through boto3.
"""

from __future__ import annotations

import builtins
import hashlib
import hmac
import http.client
import io
import os
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

from botocore.exceptions import ClientError
from botocore.httpsession import get_cert_path

from blocks.errors import ConditionFailed, StackError, StoreError
from blocks.object_bucket import ObjectBucket
from blocks.retry import is_transient, retrying
from blocks.s3_errors import translate

__all__ = ["Fetched", "ObjectFetcher", "ObjectStream", "signed_headers"]

T = TypeVar("T")

TRIES = 5
TIMEOUT = 60.0
"""Seconds without a byte, after which a connection counts as dead."""
_EMPTY = hashlib.sha256(b"").hexdigest()
_DEFAULT_TYPES = ("binary/octet-stream", "application/octet-stream")
_BROKEN = (OSError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Fetched:
    """One object, as a GET shows it.

    Attributes:
        etag: with its quotes. bytes: its size. type: content type, empty where it is the default. meta: user metadata.
        data: its bytes; None where it is larger than was asked for.
    """

    etag: str
    bytes: int
    type: str
    meta: Mapping[str, str]
    data: builtins.bytes | None = None


def signed_headers(
    path: str, query: str, host: str, region: str, credentials: tuple[str, str, str | None], now: datetime
) -> dict[str, str]:
    """Sign a GET (AWS Signature Version 4), as botocore does but for the S3 service and a request without body alone.

    Args:
        path: encoded. query: encoded and sorted by name. host: as the Host header has it.
        credentials: access key, secret key, session token.
    Returns: the headers to send.
    """
    access_key, secret_key, token = credentials
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"x-amz-content-sha256": _EMPTY, "x-amz-date": stamp}
    if token:
        headers["x-amz-security-token"] = token
    names = "host;" + ";".join(headers)
    listed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"GET\n{path}\n{query}\nhost:{host}\n{listed}\n{names}\n{_EMPTY}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return headers


class ObjectFetcher:
    """Reads objects and listings of one bucket; may be shared between threads. Close it, or use it as a context manager.

    Args:
        bucket: where; its client says which server, region and credentials.
    """

    def __init__(self, bucket: ObjectBucket) -> None:
        self._name = bucket.name
        url = urlsplit(bucket.client.meta.endpoint_url)
        self._region = bucket.client.meta.region_name
        self._secure = url.scheme == "https"
        self._server, self._port = url.hostname or "", url.port
        self._host = url.netloc.rpartition("@")[2]
        self._base = f"{url.path.rstrip('/')}/{self._name}"
        self._context = _tls(bucket) if self._secure else None
        self._credentials = bucket.bucket.credentials.get_boto3_session().get_credentials()
        self._idle: deque[http.client.HTTPConnection] = deque()

    def __enter__(self) -> ObjectFetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are not in use."""
        while self._idle:
            self._idle.pop().close()

    def get(self, key: str, *, limit: int) -> Fetched:
        """Read an object whole, unless it is larger than `limit` bytes; as often as it takes.

        Raises:
            ObjectMissing: there is none.
            StoreError: what the server said, or that it is out of reach.
        """

        def once() -> Fetched:
            connection, response = self._send(self._path(key), "", f"read {self._name}/{key}")
            size = _length(response)
            if size > limit:
                connection.close()
                return _fetched(response, size, None)
            return _fetched(response, size, self._body(connection, response, f"read {self._name}/{key}"))

        return _patiently(once)

    def open(self, key: str) -> ObjectStream:
        """Open an object for reading from start to end, in constant memory; errors as in `get`."""
        return ObjectStream(self, key)

    def page(self, prefix: str, token: str) -> bytes:
        """Return the XML of one page of a listing (ListObjectsV2).

        Args:
            prefix: of the keys. token: as the page before gave it; empty for the first.
        """
        fields = {"continuation-token": token, "encoding-type": "url", "list-type": "2", "prefix": prefix}
        query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in fields.items() if value or name == "prefix")

        def once() -> bytes:
            connection, response = self._send(self._base, query, f"list {self._name}/{prefix}")
            return self._body(connection, response, f"list {self._name}/{prefix}")

        return _patiently(once)

    def begin(self, key: str, offset: int, etag: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Ask for an object from a byte on; with an ETag only while the object still has it."""
        extra = {"Range": f"bytes={offset}-", "If-Match": etag} if etag else {}
        return self._send(self._path(key), "", f"read {self._name}/{key}", extra)

    def give_back(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        """Keep a connection whose answer was read to its end, for the next request."""
        if response.will_close or not response.isclosed():
            connection.close()
        else:
            self._idle.append(connection)

    def _path(self, key: str) -> str:
        return f"{self._base}/{quote(key, safe='/~')}"

    def _send(
        self, path: str, query: str, doing: str, extra: Mapping[str, str] | None = None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a GET; on a connection that the server has closed meanwhile, once more on a new one."""
        while True:
            try:
                connection, fresh = self._idle.pop(), False
            except IndexError:
                connection, fresh = self._connect(), True
            try:
                connection.request("GET", f"{path}?{query}" if query else path, headers=self._sign(path, query, extra))
                response = connection.getresponse()
            except _BROKEN as error:
                connection.close()
                if not fresh:
                    continue
                raise translate(error, doing) from None
            if response.status in (200, 206):
                return connection, response
            raise _refusal(connection, response, doing)

    def _connect(self) -> http.client.HTTPConnection:
        if self._secure:
            return http.client.HTTPSConnection(self._server, self._port, timeout=TIMEOUT, context=self._context)
        return http.client.HTTPConnection(self._server, self._port, timeout=TIMEOUT)

    def _sign(self, path: str, query: str, extra: Mapping[str, str] | None) -> dict[str, str]:
        if self._credentials is None:
            raise StoreError("store: no credentials; set the access key and its secret", permanent=True)
        frozen = self._credentials.get_frozen_credentials()
        credentials = (str(frozen.access_key), str(frozen.secret_key), frozen.token)
        headers = signed_headers(path, query, self._host, self._region, credentials, datetime.now(UTC))
        return {**headers, **extra} if extra else headers

    def _body(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, doing: str) -> bytes:
        try:
            data = response.read()
        except _BROKEN as error:
            connection.close()
            raise translate(error, doing) from None
        self.give_back(connection, response)
        return data


class ObjectStream(io.RawIOBase):
    """Reads one object from start to end, going on where it was after a broken connection.

    Attributes:
        about: its ETag, size, content type and metadata.
    Raises (in `read`):
        StoreError: the server is gone for good, or the object was replaced meanwhile: reading it anew can help.
    """

    def __init__(self, fetcher: ObjectFetcher, key: str) -> None:
        super().__init__()
        self._fetcher, self._key, self._offset = fetcher, key, 0
        self._connection, self._response = _patiently(lambda: fetcher.begin(key, 0, ""))
        self.about = _fetched(self._response, _length(self._response), None)

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; 0 only at the true end of the object."""
        if self._offset >= self.about.bytes or not len(buffer):
            return 0
        data = _patiently(lambda: self._next(len(buffer)))
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def _next(self, size: int) -> bytes:
        doing = f"read {self._key} at byte {self._offset}"
        if self._response.closed:
            try:
                self._connection, self._response = self._fetcher.begin(self._key, self._offset, self.about.etag)
            except ConditionFailed:
                raise StoreError(f"store: {doing}: the object was replaced while it was read") from None
            if not self._response.getheader("Content-Range", "").startswith(f"bytes {self._offset}-"):
                self._connection.close()
                raise StoreError(f"store: {doing}: the server ignores Range, so reading cannot go on", permanent=True)
        try:
            data = self._response.read(size)
        except _BROKEN as error:
            self._drop()
            raise translate(error, doing) from None
        if not data:
            self._drop()
            raise StoreError(f"store: {doing}: ended before byte {self.about.bytes}")
        return data

    def _drop(self) -> None:
        self._response.close()
        self._connection.close()

    def close(self) -> None:
        """Give the connection up."""
        if not self.closed:
            self._drop()
        super().close()


def _patiently(work: Callable[[], T]) -> T:
    """Do what may be repeated; the first try goes without the retry's own cost, which is that of the request."""
    try:
        return work()
    except StackError as error:
        if not is_transient(error):
            raise
    return retrying(work, attempts=TRIES - 1)


def _length(response: http.client.HTTPResponse) -> int:
    if response.length is None:
        raise StoreError("store: the server does not say how large an object is (no Content-Length)", permanent=True)
    return response.length


def _fetched(response: http.client.HTTPResponse, size: int, data: bytes | None) -> Fetched:
    headers = response.headers
    meta = {name[11:].lower(): value for name, value in headers.items() if name[:11].lower() == "x-amz-meta-"}
    kind = headers.get("Content-Type", "")
    return Fetched(headers.get("ETag", ""), size, "" if kind in _DEFAULT_TYPES else kind, meta, data)


def _refusal(connection: http.client.HTTPConnection, response: http.client.HTTPResponse, doing: str) -> StoreError:
    try:
        text = response.read(1 << 16).decode(errors="replace")
    except _BROKEN:
        text = ""
    connection.close()
    code = text.partition("<Code>")[2].partition("</Code>")[0] or str(response.status)
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": response.status}}
    return translate(ClientError(answer, "GetObject"), doing)


def _tls(bucket: ObjectBucket) -> ssl.SSLContext:
    verify = bucket.bucket.credentials.aws_client_parameters.get_params_override().get("verify", True)
    if verify is False:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    chosen = os.environ.get("AWS_CA_BUNDLE") if verify is True else str(verify)
    return ssl.create_default_context(cafile=chosen or get_cert_path(True))
