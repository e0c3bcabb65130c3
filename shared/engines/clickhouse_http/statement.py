"""Just enough of SQL's surface to know what a request asks for: the verb, the format, and where an INSERT's data begins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared.engines.clickhouse_http.errors import INTO_OUTFILE_NOT_ALLOWED, SYNTAX_ERROR, ClickHouseError

__all__ = ["Statement", "parse", "quote"]

_TOKEN = re.compile(
    rb"""
      (?P<space> \s++ | --[^\n]*+ | \#[ !][^\n]*+ | /\*.*?\*/ )
    | (?P<quoted> '[^'\\]*+(?:\\.[^'\\]*+)*+'  |  "[^"\\]*+(?:\\.[^"\\]*+)*+"  |  `[^`\\]*+(?:\\.[^`\\]*+)*+`
                | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<word> [A-Za-z_]\w*+ )
    | (?P<open> [(\[{] )
    | (?P<close> [)\]}] )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_TABLE_COMES_NEXT = {b"INTO", b"TABLE", b"FUNCTION", b"."}
_READS = {"SELECT", "WITH", "FROM", "("}
_SHOWS = {"SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN"}
_REPORTS = {"CHECK", "BACKUP", "RESTORE", "KILL"}


@dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        verb: first word in capitals, or "(", or "" when there is none; INSERT also for `WITH ... INSERT`.
        head: the statement itself; of an INSERT with data up to VALUES or FORMAT.
        format: of the result (None: the request's default), or of an INSERT's data.
        totals: it has WITH TOTALS.
        data_at: where the data of an INSERT begins in the text that was parsed; None when it has none there.
    """

    verb: str
    head: bytes
    format: str | None
    data_at: int | None = None
    totals: bool = False

    @property
    def may_stream(self) -> bool:
        """Whether it reads rows, so that the engine is able to stream them."""
        return self.verb in _READS

    @property
    def changes_nothing(self) -> bool:
        """Whether a read-only request may run it."""
        return self.verb in _READS | _SHOWS | {"SET", "USE"}

    @property
    def has_result(self) -> bool:
        """Whether an answer without rows still has a format."""
        return self.verb in _READS | _SHOWS | _REPORTS


def quote(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def parse(text: bytes) -> Statement:
    """Look at a statement, or at the beginning of an INSERT with data.

    Raises:
        ClickHouseError: it holds several statements, or reads or writes files beside the server.
    """
    words = _top_level(text)
    first = next(words, None)
    if first is None:
        return Statement("", text, None)
    verb = first[0].upper().decode()
    return _parse_insert(text, words) if verb == "INSERT" else _parse_other(text, verb, words)


def _parse_insert(text: bytes, words: Iterator[tuple[bytes, int, int]]) -> Statement:
    previous, selects = b"INSERT", False
    for word, start, end in words:
        keyword = word.upper()
        if previous in _TABLE_COMES_NEXT and keyword not in _TABLE_COMES_NEXT:
            keyword = b""  # the table's name, whatever it is called
        if keyword in (b"SELECT", b"WITH"):
            selects = True
        if previous == b"FROM" and keyword == b"INFILE":
            raise ClickHouseError(INTO_OUTFILE_NOT_ALLOWED, "FROM INFILE is a feature of the command line client")
        if keyword == b"VALUES" and not selects:
            return Statement("INSERT", text[:start], "Values", end)
        if keyword == b"FORMAT" and not selects:
            name = next(words, None)
            if name is None:
                raise ClickHouseError(SYNTAX_ERROR, "FORMAT without a name")
            return Statement("INSERT", text[:start], name[0].decode(), _after_format(text, name[2]))
        previous = keyword or word
    return Statement("INSERT", text, None)


def _after_format(text: bytes, end: int) -> int:
    """Data begins after blanks and one end of line. Source: ParserInsertQuery.cpp."""
    blanks = re.compile(rb"[ \t\f]*;?[ \t\f]*(?:\r?\n)?").match(text, end)
    return end if blanks is None else blanks.end()


def _parse_other(text: bytes, verb: str, words: Iterator[tuple[bytes, int, int]]) -> Statement:
    keywords: list[bytes] = []
    format_name: str | None = None
    for word, _, _ in words:
        keyword = word.upper()
        previous = keywords[-1] if keywords else b""
        if previous == b";" and keyword != b";":
            raise ClickHouseError(SYNTAX_ERROR, "Multi-statements are not allowed")
        if previous == b"INTO" and keyword == b"OUTFILE":
            raise ClickHouseError(INTO_OUTFILE_NOT_ALLOWED, "INTO OUTFILE is not allowed")
        if previous == b"FORMAT":
            format_name = word.decode(errors="replace")
        if verb == "WITH" and previous == b"INSERT" and keyword == b"INTO":
            verb = "INSERT"
        keywords.append(keyword)
    # FORMAT is a clause only at the end, where SETTINGS alone may follow; elsewhere it is somebody's column.
    at = len(keywords) - 1 - keywords[::-1].index(b"FORMAT") if b"FORMAT" in keywords else len(keywords)
    after = keywords[at + 2 : at + 3]
    is_clause = after in ([], [b";"], [b"SETTINGS"])
    return Statement(verb, text, format_name if is_clause else None, totals=b"TOTALS" in keywords)


def _top_level(text: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Words, quoted names and punctuation outside of brackets, with where they begin and end."""
    depth = 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "close":
            depth = max(depth - 1, 0)
        elif depth == 0 and kind != "space":
            yield token[0], token.start(), token.end()
        if kind == "open":
            depth += 1
