"""Where a bucket stands in URLs: in the path, or in front of the host name.

Railway's buckets have a host name each (their older ones, and MinIO, do not); which it is, is said with a bucket's credentials
(`urlStyle`; source: docs.railway.com/storage-buckets). A server that is an IP address has no names below it, so there the
bucket is in the path whatever is asked for, as in every SDK of AWS's.
"""

from __future__ import annotations

import ipaddress
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["UrlStyle", "bucket_url"]

UrlStyle = Literal["path", "virtual"]


def bucket_url(endpoint: str, bucket: str, style: UrlStyle) -> str:
    """Return the URL of a bucket, without slash at its end.

    Args:
        endpoint: URL of the server. style: `path` for `https://host/bucket`, `virtual` for `https://bucket.host`.
    """
    parts = urlsplit(endpoint.rstrip("/"))
    if style == "path" or _is_address(parts.hostname or ""):
        return f"{endpoint.rstrip('/')}/{bucket}"
    return parts._replace(netloc=f"{bucket}.{parts.netloc.rpartition('@')[2]}").geturl()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
