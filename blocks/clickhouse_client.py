"""One connection to ClickHouse's HTTP interface: statements in, rows or one clear line of error out.

Settings travel with the request (as URL parameters): ClickHouse 24 refuses core settings such as
`backup_restore_s3_retry_attempts` in the SETTINGS of BACKUP and RESTORE, and takes them there (facts: anchors.md 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from blocks.errors import AccessDenied, ServiceError

__all__ = ["ClickHouseClient", "StatementFailed", "explain", "identifier", "literal", "qualified", "refusal_of"]

Row = Sequence[Any]

_SERVER_MESSAGE = re.compile(r"Code: (?P<code>\d+)\.\s+DB::\w*Exception: (?P<text>.*)", re.DOTALL)
_TAIL = re.compile(r",? Stack trace \(when copying|\s*\(version \d|\s*\(for url |: \(in query: |\. Expected one of: ")
_LONGEST = 600

_DENIED = frozenset({192, 193, 194, 497, 516})
"""UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED."""

_PASSING = frozenset({159, 202, 209, 210, 236, 241, 242, 252, 279, 373, 394, 425, 473, 499, 745, 999, 1000})
"""What may be otherwise in a minute: timeouts, too many queries or parts, memory, read-only, cancelled, S3, overload."""


class StatementFailed(ServiceError):
    """ClickHouse refused a statement.

    Attributes:
        code: ClickHouse's number, for example 60 for UNKNOWN_TABLE.
    """

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message, permanent=code not in _PASSING)
        self.code = code


class ClickHouseClient:
    """A client that several threads may share: no session, so no state on the server between statements.

    Args:
        driver: connected.
        name: of the server, for messages.
        hidden: secrets that no message may carry.
    """

    def __init__(self, driver: Client, name: str, hidden: Iterable[str]) -> None:
        self._driver = driver
        self._name = name
        self._hidden = list(hidden)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._driver.close()

    @property
    def name(self) -> str:
        """What messages call the server."""
        return self._name

    @property
    def version(self) -> str:
        """The server's version as it says it."""
        return str(self._driver.server_version)

    def rows(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Sequence[Row]:
        """Run a query and return its rows.

        Args:
            sql: may hold parameters as ClickHouse has them, `{name:Type}`. parameters: their values.
            settings: for this request; those this server does not know are left out.
        Raises:
            AccessDenied: the user may not.
            StatementFailed: ClickHouse refused it.
            ServiceError: no answer.
        """
        try:
            answer = self._driver.query(sql, parameters=dict(parameters or {}), settings=self.known(settings))
        except ClickHouseError as error:
            raise explain(error, self._name, self._hidden) from None
        rows: Sequence[Row] = answer.result_rows
        return rows

    def row(
        self, sql: str, parameters: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Row | None:
        """Run a query and return its first row, None when there is none; errors as in `rows`."""
        rows = self.rows(sql, parameters, settings)
        return rows[0] if rows else None

    def command(self, sql: str, settings: Mapping[str, Any] | None = None) -> Any:
        """Run a statement; arguments and errors as in `rows`.

        Returns: the value of a query for one value, nothing worth having otherwise.
        """
        try:
            return self._driver.command(sql, settings=self.known(settings))
        except ClickHouseError as error:
            raise explain(error, self._name, self._hidden) from None

    def known(self, settings: Mapping[str, Any] | None) -> dict[str, Any]:
        """Leave out settings that this server does not have, so that one list serves all versions."""
        return {key: value for key, value in (settings or {}).items() if key in self._driver.server_settings or _transport(key)}


def explain(error: ClickHouseError, name: str, hidden: Iterable[str] = ()) -> ServiceError:
    """Turn a driver's error into one of ours: one line, no stack, no URL, no secret.

    Args:
        error: from clickhouse-connect. name: of the server. hidden: secrets to blot out.
    """
    refusal = refusal_of(str(error), name, hidden)
    if refusal is not None:
        return refusal
    text = _without(str(error), hidden)
    if isinstance(error, OperationalError):
        return ServiceError(f"clickhouse {name}: no answer ({_cause(text)}); is it running, and are host and port right?")
    return ServiceError(f"clickhouse {name}: not an answer of ClickHouse: {_short(text)}")


def refusal_of(text: str, name: str, hidden: Iterable[str] = ()) -> ServiceError | None:
    """Read ClickHouse's own error text (`Code: 60. DB::Exception: ...`); None when it is none.

    Args:
        text: of an answer, or of the column `error` in system.backups. name, hidden: as in `explain`.
    """
    found = _SERVER_MESSAGE.search(_without(text, hidden))
    if found is None:
        return None
    code = int(found["code"])
    message = _short(_TAIL.split(found["text"], maxsplit=1)[0])
    if code in _DENIED:
        return AccessDenied(f"clickhouse {name}: {message}; check CLICKHOUSE_USER, CLICKHOUSE_PASSWORD and the grants")
    return StatementFailed(f"clickhouse {name}: {message} [code {code}]", code=code)


def literal(text: str) -> str:
    """Quote a string for SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    """Quote a name for SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def qualified(database: str, table: str) -> str:
    """Quote a table's full name for SQL."""
    return f"{identifier(database)}.{identifier(table)}"


def _transport(key: str) -> bool:
    return key in {"query_id", "wait_end_of_query"}


def _without(text: str, hidden: Iterable[str]) -> str:
    for secret in hidden:
        if secret:
            text = text.replace(secret, "***")
    return text


def _cause(text: str) -> str:
    for phrase in ("Connection refused", "Name or service not known", "timed out", "Connection reset", "certificate"):
        if phrase.lower() in text.lower():
            return phrase.lower()
    return "connection broken"


def _short(text: str) -> str:
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
