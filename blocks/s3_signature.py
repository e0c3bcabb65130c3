"""AWS Signature Version 4 for the S3 service, without botocore, whose import costs a third of a second."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

__all__ = ["EMPTY_SHA256", "Credentials", "signed_headers"]

Credentials = tuple[str, str, str | None]
"""Access key, secret key, session token."""

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
"""Hash of a request without body."""


def signed_headers(
    path: str,
    query: str,
    host: str,
    region: str,
    credentials: Credentials,
    now: datetime,
    *,
    method: str = "GET",
    payload: str = EMPTY_SHA256,
) -> dict[str, str]:
    """Sign a request, as botocore does; other headers than those returned are left unsigned, which S3 accepts.

    Args:
        path: encoded. query: encoded and sorted by name. host: as the Host header has it.
        payload: SHA-256 of the body, hex.
    Returns: the headers to send.
    """
    access_key, secret_key, token = credentials
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    headers = {"x-amz-content-sha256": payload, "x-amz-date": stamp}
    if token:
        headers["x-amz-security-token"] = token
    names = "host;" + ";".join(headers)
    listed = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"{method}\n{path}\n{query}\nhost:{host}\n{listed}\n{names}\n{payload}"
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return headers
