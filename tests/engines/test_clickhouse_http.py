"""ClickHouse's HTTP interface itself: what curl, the Node client of Langfuse and a careless client send."""

from __future__ import annotations

import gzip
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import lz4.frame  # type: ignore[import-untyped]  # the wheel brings no types
import pytest
import zstandard

from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.clickhouse_http.errors import ClickHouseError
from shared.engines.clickhouse_http.statement import parse
from shared.engines.process import wait_until


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseEngine]:
    engine = ClickHouseEngine(tmp_path_factory.mktemp("clickhouse"), user="operator")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def http(engine: ClickHouseEngine) -> Iterator[httpx.Client]:
    headers = {"X-ClickHouse-User": engine.user, "X-ClickHouse-Key": engine.password}
    with httpx.Client(base_url=engine.url, headers=headers, timeout=20.0) as client:
        yield client


@pytest.fixture
def table(http: httpx.Client) -> Iterator[str]:
    name = f"t_{uuid.uuid4().hex}"
    http.post("/", content=f"CREATE TABLE {name} (id UInt64, text String) ENGINE = MergeTree ORDER BY id").raise_for_status()
    yield name
    http.post("/", content=f"DROP TABLE {name} SYNC").raise_for_status()


def rows(http: httpx.Client, table: str) -> str:
    return http.post("/", content=f"SELECT id, text FROM {table} ORDER BY id, text").raise_for_status().text


def test_ping_needs_no_password(engine: ClickHouseEngine) -> None:
    for path in ("/ping", "/replicas_status", "/"):
        answer = httpx.get(engine.url + path)
        assert (answer.status_code, answer.text) == (200, "Ok.\n")


def test_the_password_may_come_in_headers_in_basic_auth_or_in_the_url(engine: ClickHouseEngine) -> None:
    user, password = engine.user, engine.password
    ways: list[dict[str, Any]] = [
        {"headers": {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}},
        {"auth": (user, password)},
        {"params": {"user": user, "password": password}},
    ]
    for way in ways:
        assert httpx.post(engine.url, content="SELECT 1", **way).text == "1\n"


@pytest.mark.parametrize("user", ["operator", "default", "Operator", "oper\N{LATIN SMALL LETTER A WITH ACUTE}tor"])
def test_a_wrong_password_is_answered_as_clickhouse_does(engine: ClickHouseEngine, user: str) -> None:
    for answer in (
        httpx.post(engine.url, content="SELECT 1", auth=(user, "wrong")),
        httpx.post(engine.url, content="SELECT 1"),
    ):
        assert answer.status_code == 403
        assert answer.headers["X-ClickHouse-Exception-Code"] == "516"
        assert answer.text.startswith("Code: 516. DB::Exception: ")
        assert "(AUTHENTICATION_FAILED)" in answer.text


@pytest.mark.parametrize(
    ("statement", "status", "code", "name"),
    [
        ("SELECT * FROM nothing", 404, "60", "UNKNOWN_TABLE"),
        ("SELEC 1", 400, "62", "SYNTAX_ERROR"),
        ("SELECT throwIf(1)", 500, "395", "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1; SELECT 2", 400, "62", "SYNTAX_ERROR"),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 500, "113", "INTO_OUTFILE_NOT_ALLOWED"),
        ("INSERT INTO nothing FORMAT TSV\n1", 404, "60", "UNKNOWN_TABLE"),
        ("SELECT 1 SETTINGS no_such = 1", 404, "115", "UNKNOWN_SETTING"),
        ("", 400, "62", "SYNTAX_ERROR"),
    ],
)
def test_errors_have_clickhouse_status_code_and_text(
    http: httpx.Client, statement: str, status: int, code: str, name: str
) -> None:
    answer = http.post("/", content=statement, params={"query_id": "mine"})
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (status, code)
    assert answer.headers["X-ClickHouse-Query-Id"] == "mine"
    assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
    assert f"({name})" in answer.text
    assert http.post("/", content="SELECT 1").text == "1\n", "the connection is in order"


def test_answers_carry_clickhouse_headers(http: httpx.Client) -> None:
    answer = http.post("/", content="SELECT 1 AS x", params={"query_id": "abc", "default_format": "JSONEachRow"})
    assert answer.json() == {"x": 1}
    expected = {
        "X-ClickHouse-Format": "JSONEachRow",
        "X-ClickHouse-Query-Id": "abc",
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Server-Display-Name": "sandbox",
        "Content-Type": "application/x-ndjson; charset=UTF-8",
    }
    assert {name: answer.headers[name] for name in expected} == expected
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["read_rows"] == "1"


@pytest.mark.parametrize("output", ["JSON", "JSONCompact", "CSVWithNames", "TSVWithNamesAndTypes", "Parquet", "Arrow"])
def test_formats_with_headers_or_footers_are_whole(http: httpx.Client, output: str) -> None:
    content = http.post("/", content=f"SELECT number FROM numbers(200000) FORMAT {output}").raise_for_status().content
    if output.startswith("JSON"):
        assert json.loads(content)["rows"] == 200000
    elif output in ("Parquet", "Arrow"):
        assert content.startswith(magic := b"PAR1" if output == "Parquet" else b"ARROW1")
        assert content.endswith(magic)
        assert content.count(magic) == 2
    else:
        assert content.count(b"number") == 1


def test_totals_are_whole(http: httpx.Client) -> None:
    sql = "SELECT number % 3 AS n, count() FROM numbers(9) GROUP BY n WITH TOTALS ORDER BY n FORMAT TSV"
    assert http.post("/", content=sql).text == "0\t3\n1\t3\n2\t3\n\n0\t9\n"


def test_a_get_may_only_read(http: httpx.Client, table: str) -> None:
    assert http.get("/", params={"query": f"SELECT count() FROM {table}"}).text == "0\n"
    answer = http.get("/", params={"query": f"INSERT INTO {table} VALUES (1, '')"})
    assert answer.headers["X-ClickHouse-Exception-Code"] == "164"
    assert rows(http, table) == ""


@pytest.mark.parametrize("encoding", ["", "gzip", "zstd", "lz4"])
def test_inserts_as_the_node_client_sends_them(http: httpx.Client, table: str, encoding: str) -> None:
    lines = b'{"id":1,"text":"a\\tb"}\n{"id":2,"text":"\xe2\x98\x83"}\n'
    compress = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress}[encoding]
    compressed = compress(lines)
    answer = http.post(
        "/",
        params={
            "query": f"INSERT INTO {table} FORMAT JSONEachRow",
            "async_insert": "1",
            "wait_for_async_insert": "1",
            "date_time_input_format": "best_effort",
        },
        content=(compressed[at : at + 7] for at in range(0, len(compressed), 7)),  # chunked
        headers={"Content-Encoding": encoding} if encoding else {},
    )
    assert answer.status_code == 200
    assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    assert rows(http, table) == "1\ta\\tb\n2\t\N{SNOWMAN}\n"


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO {t} VALUES (1, 'x'), (1 + 1, concat('y', ''))",
        "insert into {t} (text, id) values ('x', 1), ('y', 2);",
        "INSERT INTO {t} FORMAT CSV\n1,x\n2,y\n",
        "INSERT INTO {t} (id, text) FORMAT   TSV\r\n1\tx\n2\ty",
        "/* FORMAT TSV */ INSERT INTO TABLE {t} -- VALUES\n SETTINGS max_threads = 1 "
        'FORMAT JSONEachRow {{"id":1,"text":"x"}} {{"id":2,"text":"y"}}',
        "INSERT INTO {t} SELECT number + 1, ['x', 'y'][number + 1] FROM numbers(2)",
        "INSERT INTO {t} WITH 1 AS one SELECT number + one, if(number = 0, 'x', 'y') FROM numbers(2)",
        "WITH 2 AS two INSERT INTO {t} SELECT number + 1, if(number = 0, 'x', 'y') FROM numbers(two)",
    ],
)
def test_every_way_to_write_an_insert(http: httpx.Client, table: str, text: str) -> None:
    answer = http.post("/", content=text.format(t=table))
    assert answer.status_code == 200, answer.text
    assert rows(http, table) == "1\tx\n2\ty\n"


def test_an_insert_with_one_bad_row_writes_nothing_and_says_why(http: httpx.Client, table: str) -> None:
    good = b'{"id":1,"text":"x"}\n' * 1000
    answer = http.post("/", params={"query": f"INSERT INTO {table} FORMAT JSONEachRow"}, content=good + b'{"id":"x"}\n' + good)
    assert answer.status_code == 400
    assert "at row 1001" in answer.text
    assert rows(http, table) == ""


def test_a_client_that_dies_in_the_middle_of_an_insert_writes_nothing(
    http: httpx.Client, engine: ClickHouseEngine, table: str
) -> None:
    body = b"1\tx\n" * 100000
    request = (
        f"POST /?query=INSERT%20INTO%20{table}%20FORMAT%20TSV HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) * 2}\r\n"
        f"X-ClickHouse-User: {engine.user}\r\nX-ClickHouse-Key: {engine.password}\r\n\r\n"
    )
    with socket.create_connection((engine.host, engine.port)) as connection:
        connection.sendall(request.encode() + body)
        running = f"SELECT count() FROM system.processes WHERE query LIKE '%INTO {table}%' AND query_kind = 'Insert'"
        wait_until(lambda: http.post("/", content=running).text == "1\n", timeout=10, what="the insert to begin")
    wait_until(lambda: http.post("/", content=running).text == "0\n", timeout=10, what="the insert to end")
    assert rows(http, table) == ""


def test_a_client_that_goes_away_ends_its_query(http: httpx.Client, engine: ClickHouseEngine) -> None:
    query_id = uuid.uuid4().hex
    sql = b"SELECT sum(sipHash64(number)) FROM numbers(1000000000000)"
    request = (
        f"POST /?query_id={query_id}&cancel_http_readonly_queries_on_client_close=1 HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {len(sql)}\r\nX-ClickHouse-User: {engine.user}\r\nX-ClickHouse-Key: {engine.password}\r\n\r\n"
    )
    running = f"SELECT count() FROM system.processes WHERE Settings['log_comment'] = '{query_id}'"
    with socket.create_connection((engine.host, engine.port)) as connection:
        connection.sendall(request.encode() + sql)
        wait_until(lambda: http.post("/", content=running).text == "1\n", timeout=10, what="the query to run")
    wait_until(lambda: http.post("/", content=running).text == "0\n", timeout=10, what="the query to end")


def test_a_late_failure_breaks_the_answer_unless_the_client_waits_for_the_end(http: httpx.Client) -> None:
    sql = "SELECT throwIf(number = 300000, 'late') FROM numbers(400000) SETTINGS max_block_size = 1000, max_threads = 1"
    with http.stream("POST", "/", content=sql) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()
    waited = http.post("/", content=sql, params={"wait_end_of_query": "1"})
    assert (waited.status_code, waited.headers["X-ClickHouse-Exception-Code"]) == (500, "395")


def test_a_query_id_cannot_add_a_header(http: httpx.Client) -> None:
    answer = http.post("/", content="SELECT 1", params={"query_id": "a\r\nX-Evil: 1\N{SNOWMAN}"})
    assert answer.text == "1\n"
    assert "X-Evil" not in answer.headers
    assert answer.headers["X-ClickHouse-Query-Id"] == "a??X-Evil: 1?"


def test_a_session_that_must_exist_and_one_that_ends(http: httpx.Client) -> None:
    params = {"session_id": uuid.uuid4().hex, "session_check": "1"}
    assert http.post("/", content="SELECT 1", params=params).headers["X-ClickHouse-Exception-Code"] == "372"
    http.post("/", content="SET max_threads = 3", params={"session_id": params["session_id"]}).raise_for_status()
    query = "SELECT toUInt8(getSetting('max_threads'))"
    assert http.post("/", content=query, params={**params, "readonly": "1"}).text == "3\n"
    assert http.post("/", content=query, params={**params, "max_threads": "2"}).text == "2\n"
    for change in ("CREATE TABLE no (a Int8) ENGINE = Null", "WITH 1 AS a INSERT INTO FUNCTION null('a UInt8') SELECT a"):
        refused = http.get("/", params={**params, "query": change})
        assert refused.headers["X-ClickHouse-Exception-Code"] == "164"
    assert http.post("/", content=query, params={**params, "close_session": "1"}).text == "3\n"
    assert http.post("/", content="SELECT 1", params=params).headers["X-ClickHouse-Exception-Code"] == "372"


def test_a_session_expires(http: httpx.Client) -> None:
    params = {"session_id": uuid.uuid4().hex}
    http.post("/", content="SET max_threads = 3", params={**params, "session_timeout": "0"}).raise_for_status()
    query = "SELECT getSetting('max_threads') = 3"
    wait_until(lambda: http.post("/", content=query, params=params).text == "0\n", timeout=10, what="the session to expire")


def test_unknown_encodings_and_framings_are_refused_clearly(http: httpx.Client) -> None:
    answer = http.post("/", content=b"x", headers={"Content-Encoding": "br"})
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (500, "89")
    answer = http.post("/", content=b"SELECT 1", params={"compress": "1"})
    assert (answer.status_code, answer.headers["X-ClickHouse-Exception-Code"]) == (501, "48")
    assert http.post("/nowhere", content=b"SELECT 1").status_code == 404


@pytest.mark.parametrize(
    ("text", "verb", "output", "data"),
    [
        (b"select 1", "SELECT", None, None),
        (b"-- c\n/* FORMAT X */ (SELECT 1) UNION ALL SELECT ' FORMAT y' FORMAT JSON;", "(", "JSON", None),
        (b"SELECT format FROM t", "SELECT", None, None),
        (b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "SELECT", "JSON", None),
        (b"INSERT INTO a.format (x, values) FORMAT JSONEachRow \n{}", "INSERT", "JSONEachRow", b"{}"),
        (b"INSERT INTO values VALUES (1), ('FORMAT')", "INSERT", "Values", b" (1), ('FORMAT')"),
        (b"INSERT INTO t SELECT * FROM x FORMAT Null", "INSERT", None, None),
        (b"INSERT INTO FUNCTION s3('x', 'y') FORMAT Native\n\x01\xff", "INSERT", "Native", b"\x01\xff"),
        (b"SELECT 'it''s \\' x', $$ FORMAT $$, \"FORMAT\" FORMAT TSV", "SELECT", "TSV", None),
        (b"", "", None, None),
    ],
)
def test_statements_are_understood(text: bytes, verb: str, output: str | None, data: bytes | None) -> None:
    statement = parse(text)
    found = None if statement.data_at is None else text[statement.data_at :]
    assert (statement.verb, statement.format, found) == (verb, output, data)


def test_files_beside_the_server_are_out_of_reach() -> None:
    for text in (b"SELECT 1 INTO OUTFILE 'x'", b"INSERT INTO t FROM INFILE 'x' FORMAT CSV"):
        with pytest.raises(ClickHouseError, match="INTO_OUTFILE_NOT_ALLOWED"):
            parse(text)
