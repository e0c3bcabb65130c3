"""What a request asks for, and who asks: credentials, parameters, statement and data."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message

from shared.engines.clickhouse_http.body import Body, decompressed, form_fields
from shared.engines.clickhouse_http.connection import Context, SessionRequest
from shared.engines.clickhouse_http.errors import (
    AUTHENTICATION_FAILED,
    INVALID_SESSION_TIMEOUT,
    NOT_IMPLEMENTED,
    ClickHouseError,
)
from shared.engines.clickhouse_http.query import Query

__all__ = ["Account", "read_query"]

_FORM_LIMIT = 1 << 28
_MAX_SESSION_SECONDS = 3600.0
# Parameters of the interface; every other one is a setting. Source: HTTPHandler.cpp.
_RESERVED = {
    "query",
    "database",
    "default_format",
    "query_id",
    "session_id",
    "session_timeout",
    "session_check",
    "close_session",
    "user",
    "password",
    "quota_key",
    "role",
    "stacktrace",
    "wait_end_of_query",
    "buffer_size",
    "compress",
    "decompress",
    "client_protocol_version",
}


@dataclass(frozen=True)
class Account:
    """The one user there is."""

    user: str
    password: str = field(repr=False)

    def check(self, headers: Message, fields: Mapping[str, str]) -> None:
        """Look for the credentials in ClickHouse's headers, basic authentication and the URL, in this order.

        Raises:
            ClickHouseError: they are wrong; it says no more than ClickHouse does.
        """
        user, password = fields.get("user", "default"), fields.get("password", "")
        scheme, _, credentials = headers.get("Authorization", "").partition(" ")
        if "X-ClickHouse-User" in headers:
            user, password = headers["X-ClickHouse-User"], headers.get("X-ClickHouse-Key", "")
        elif scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise ClickHouseError(AUTHENTICATION_FAILED, "Invalid Basic authentication header") from None
        right_user = hmac.compare_digest(user.encode(errors="replace"), self.user.encode())
        right_password = hmac.compare_digest(password.encode(errors="replace"), self.password.encode())
        if not (right_user and right_password):
            reason = "Authentication failed: password is incorrect, or there is no user with such name."
            raise ClickHouseError(AUTHENTICATION_FAILED, f"{user}: {reason}")


def read_query(headers: Message, fields: dict[str, str], raw: Iterator[bytes], query_id: str, *, read_only: bool) -> Query:
    """Make a query of a request.

    Args:
        headers: of the request.
        fields: the URL's parameters. Those of a multipart form are added.
        raw: the body, see `raw_body`. Data of an INSERT stay in it.
        query_id: the client's, or one made for it.
        read_only: it came by GET.
    Raises:
        ClickHouseError: it asks for what there is not, or is no statement.
    """
    body = _body(headers, fields, raw)
    parameters = {name.removeprefix("param_"): value for name, value in fields.items() if name.startswith("param_")}
    settings = {
        name: value for name, value in fields.items() if name not in _RESERVED and not name.startswith("param_") and value
    }
    if read_only:
        settings.setdefault("readonly", "2")
    database = fields.get("database") or headers.get("X-ClickHouse-Database")
    default_format = fields.get("default_format") or headers.get("X-ClickHouse-Format") or "TabSeparated"
    return Query(body, Context(query_id, database, settings, _session(fields)), parameters, default_format)


def _body(headers: Message, fields: dict[str, str], raw: Iterator[bytes]) -> Body:
    """The statement, whose beginning may be in the URL, and the data that follow it."""
    for name in ("compress", "decompress"):
        if fields.get(name) in ("1", "true"):
            reason = f"{name}=1 (ClickHouse's own framing) is not implemented here; use HTTP's"
            raise ClickHouseError(NOT_IMPLEMENTED, reason)
    pieces = decompressed(raw, headers.get("Content-Encoding", ""))
    content_type = headers.get("Content-Type", "")
    if content_type.startswith("multipart/form-data"):
        fields.update(form_fields(Body(b"", pieces).whole(_FORM_LIMIT), content_type))
        pieces = iter(())
    in_url = fields.get("query", "").encode(errors="surrogateescape")
    return Body(in_url + b"\n" if in_url else b"", pieces)


def _session(fields: Mapping[str, str]) -> SessionRequest | None:
    if not fields.get("session_id"):
        return None
    text = fields.get("session_timeout", "60")
    if not text.isdigit() or int(text) > _MAX_SESSION_SECONDS:
        raise ClickHouseError(INVALID_SESSION_TIMEOUT, f"Invalid session timeout: '{text}'")
    return SessionRequest(
        fields["session_id"], float(text), fields.get("session_check") == "1", fields.get("close_session") == "1"
    )
