"""What went wrong, as ClickHouse says it: a code, a name, a text, and the HTTP status that belongs to the code."""

from __future__ import annotations

import re
from http import HTTPStatus

__all__ = ["ClickHouseError"]

# The codes this server raises itself; all others come from the engine.
SYNTAX_ERROR = (62, "SYNTAX_ERROR")
UNKNOWN_COMPRESSION_METHOD = (89, "UNKNOWN_COMPRESSION_METHOD")
UNKNOWN_SETTING = (115, "UNKNOWN_SETTING")
INCORRECT_DATA = (117, "INCORRECT_DATA")
NOT_IMPLEMENTED = (48, "NOT_IMPLEMENTED")
INTO_OUTFILE_NOT_ALLOWED = (113, "INTO_OUTFILE_NOT_ALLOWED")
ABORTED = (236, "ABORTED")
TOO_MANY_SIMULTANEOUS_QUERIES = (202, "TOO_MANY_SIMULTANEOUS_QUERIES")
CANNOT_READ_ALL_DATA = (33, "CANNOT_READ_ALL_DATA")
READONLY = (164, "READONLY")
QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING = (216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING")
QUERY_IS_TOO_LARGE = (223, "QUERY_IS_TOO_LARGE")
SESSION_NOT_FOUND = (372, "SESSION_NOT_FOUND")
SESSION_IS_LOCKED = (373, "SESSION_IS_LOCKED")
INVALID_SESSION_TIMEOUT = (374, "INVALID_SESSION_TIMEOUT")
AUTHENTICATION_FAILED = (516, "AUTHENTICATION_FAILED")
UNKNOWN_EXCEPTION = (1002, "UNKNOWN_EXCEPTION")

# Source: exceptionCodeToHTTPStatus in ClickHouse's src/Server/HTTP/exceptionCodeToHTTPStatus.cpp, by code.
_STATUS = {
    HTTPStatus.UNAUTHORIZED: {194},
    HTTPStatus.FORBIDDEN: {192, 193, 497, 516},
    HTTPStatus.BAD_REQUEST: {
        6,
        15,
        25,
        26,
        27,
        36,
        38,
        41,
        43,
        44,
        53,
        62,
        69,
        72,
        117,
        167,
        168,
        376,
        427,
        441,
        467,
        675,
        676,
    },
    HTTPStatus.NOT_FOUND: {46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336},
    HTTPStatus.REQUEST_TIMEOUT: {159},
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: {223},
    HTTPStatus.LENGTH_REQUIRED: {381},
    HTTPStatus.NOT_IMPLEMENTED: {48},
    HTTPStatus.SERVICE_UNAVAILABLE: {76, 209, 439},
}
_STATUS_OF_CODE = {code: status for status, codes in _STATUS.items() for code in codes}
_ENGINE_TEXT = re.compile(r"Code: (?P<code>\d+)\. (?P<text>.*)", re.DOTALL)


class ClickHouseError(Exception):
    """A refused or failed query.

    Args:
        kind: code and name, see https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
        message: without code and name.
    """

    def __init__(self, kind: tuple[int, str], message: str) -> None:
        self.code, name = kind
        self.text = f"Code: {self.code}. DB::Exception: {message} ({name})"
        super().__init__(self.text)

    @classmethod
    def of(cls, error: Exception) -> ClickHouseError:
        """What the engine raised, which has code and name only in its text ("Code: 60. DB::Exception: ...")."""
        if isinstance(error, cls):
            return error
        found = _ENGINE_TEXT.search(str(error))
        if found is None:
            return cls(UNKNOWN_EXCEPTION, str(error))
        this = cls(UNKNOWN_EXCEPTION, "")
        this.code, this.text = int(found["code"]), found[0].strip()
        this.args = (this.text,)
        return this

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status ClickHouse answers with."""
        return _STATUS_OF_CODE.get(self.code, HTTPStatus.INTERNAL_SERVER_ERROR)
