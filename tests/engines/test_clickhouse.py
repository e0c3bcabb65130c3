"""The ClickHouse engine as programs use it, through clickhouse-connect."""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import clickhouse_connect
import psutil
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error

from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.process import EngineError, wait_until

MEGABYTE = 1 << 20
LARGE = "SELECT number, toString(number) AS text FROM numbers(5000000)"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseEngine]:
    engine = ClickHouseEngine(tmp_path_factory.mktemp("clickhouse"))
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def connect(engine: ClickHouseEngine) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def new(**options: Any) -> Client:
        clients.append(client_of(engine, **options))
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@pytest.fixture
def database(connect: Callable[..., Client]) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    client = connect()
    client.command(f"CREATE DATABASE {name}")
    yield name
    client.command(f"DROP DATABASE {name} SYNC")


def client_of(engine: ClickHouseEngine, **options: Any) -> Client:
    access = {"host": engine.host, "port": engine.port, "username": engine.user, "password": engine.password}
    return clickhouse_connect.get_client(**{**access, **options})


def resident(engine: ClickHouseEngine) -> int:
    return int(psutil.Process(engine.pid).memory_info().rss)


class Peak:
    """The highest resident memory of a process, looked at while a block runs."""

    def __init__(self, engine: ClickHouseEngine) -> None:
        self._engine, self._end = engine, threading.Event()
        self.bytes = 0

    def __enter__(self) -> Peak:
        self._start = resident(self._engine)
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.05):
            self.bytes = max(self.bytes, resident(self._engine) - self._start)


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", False])
def test_odd_types_come_back_as_they_were_inserted(connect: Callable[..., Client], database: str, compress: str | bool) -> None:
    client = connect(database=database, compress=compress, tz_mode="aware")
    columns = {
        "n": "Nullable(Int64)",
        "low": "LowCardinality(String)",
        "map": "Map(String, Array(UInt8))",
        "tup": "Tuple(Int8, Nullable(String))",
        "dec": "Decimal(38, 10)",
        "at": "DateTime64(6, 'UTC')",
        "uid": "UUID",
        "ip": "IPv6",
        "kind": "Enum8('a' = 1, 'b b' = 2)",
        "big": "UInt256",
        "raw": "String",
    }
    client.command(f"CREATE TABLE t ({', '.join(f'`{n}` {t}' for n, t in columns.items())}) ENGINE = MergeTree ORDER BY uid")
    rows: list[list[Any]] = [
        [
            None,
            "",
            {"k'\\": [0, 255], "": []},
            (-128, None),
            decimal.Decimal("-12345678901234567890.0123456789"),
            dt.datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC),
            uuid.UUID(int=1),
            ipaddress.ip_address("2001:db8::1"),
            "b b",
            2**256 - 1,
            "tab\tnew\nline\\ '\" \N{SNOWMAN}\N{GRINNING FACE}\0",
        ],
        [
            2**63 - 1,
            "x" * 300,
            {},
            (127, "\N{LATIN SMALL LETTER E WITH ACUTE}"),
            decimal.Decimal("0E-10"),
            dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
            uuid.UUID(int=2),
            ipaddress.ip_address("::"),
            "a",
            0,
            "",
        ],
    ]
    written = client.insert("t", rows, column_names=list(columns))
    assert written.written_rows == 2
    got = client.query("SELECT * FROM t ORDER BY uid", column_oriented=False).result_rows
    assert [list(row) for row in got] == rows


def test_insert_select_and_materialized_views_report_what_they_wrote(connect: Callable[..., Client], database: str) -> None:
    client = connect(database=database)
    client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    client.command("CREATE TABLE sums (s UInt64) ENGINE = MergeTree ORDER BY s")
    client.command("CREATE MATERIALIZED VIEW v TO sums AS SELECT sum(a) AS s FROM t")
    summary = client.command("INSERT INTO t SELECT number FROM numbers(10)")
    assert getattr(summary, "written_rows") == 11  # noqa: B009 - command() is typed as many things
    assert client.command("SELECT s FROM sums") == 45


def test_settings_of_a_request_take_effect_and_are_gone_with_the_next(connect: Callable[..., Client]) -> None:
    for options in ({"autogenerate_session_id": False}, {"session_id": uuid.uuid4().hex}):
        client = connect(**options)
        names = ("max_execution_time", "s3_request_timeout_ms", "backup_restore_s3_retry_attempts", "max_backup_bandwidth")
        query = f"SELECT {', '.join(f'toUInt64(getSetting({name!r}))' for name in names)}"
        before = client.query(query).result_rows[0]
        settings = dict(zip(names, (17, 12345, 3, 5000), strict=True))
        assert client.query(query, settings=settings).result_rows[0] == (17, 12345, 3, 5000)
        assert client.query(query).result_rows[0] == before


def test_a_time_limit_of_one_request_stops_that_request(connect: Callable[..., Client]) -> None:
    client = connect()
    with pytest.raises(DatabaseError, match="TIMEOUT_EXCEEDED"):
        client.query("SELECT sum(sipHash64(number)) FROM numbers(1000000000000)", settings={"max_execution_time": 1})
    assert client.command("SELECT 1") == 1


def test_an_unknown_setting_is_refused_and_the_session_lives_on(
    connect: Callable[..., Client], engine: ClickHouseEngine
) -> None:
    client = connect(session_id=uuid.uuid4().hex)
    client.command("CREATE TEMPORARY TABLE mine (a Int8)")
    with pytest.raises(DatabaseError, match="UNKNOWN_SETTING"):
        client.command("SELECT 1", settings={"no_such_setting": "1"})
    assert client.command("SELECT count() FROM mine") == 0


def test_set_and_temporary_tables_stay_in_their_session(connect: Callable[..., Client], database: str) -> None:
    mine, other = connect(session_id=uuid.uuid4().hex), connect(session_id=uuid.uuid4().hex)
    mine.command("SET max_threads = 1")
    mine.command(f"USE {database}")
    mine.command("CREATE TEMPORARY TABLE t (a Int8)")
    mine.insert("t", [[1], [2]], column_names=["a"])
    assert mine.query("SELECT count(), getSetting('max_threads'), currentDatabase() FROM t").result_rows == [(2, 1, database)]
    assert other.command("SELECT currentDatabase()") == "default"
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        other.query("SELECT * FROM t")


def test_two_requests_in_one_session_do_not_mix(connect: Callable[..., Client]) -> None:
    name = uuid.uuid4().hex
    first, second = connect(session_id=name), connect(session_id=name)
    stream = first.query_row_block_stream("SELECT number FROM numbers(100000000)")
    with stream, pytest.raises(DatabaseError, match="SESSION_IS_LOCKED"):
        second.command("SELECT 1")


def test_parameters_are_bound_by_the_server(connect: Callable[..., Client]) -> None:
    client = connect()
    text = "o'brien \\ \t\n {x:String} \N{SNOWMAN}"
    sql = "SELECT {text:String}, {list:Array(String)}, {day:Date}, {none:Nullable(Int8)}"
    parameters = {"text": text, "list": [text, ""], "day": dt.date(2024, 2, 29), "none": None}
    assert client.query(sql, parameters=parameters).result_rows == [(text, [text, ""], dt.date(2024, 2, 29), None)]


def test_parameters_too_long_for_a_url_are_bound_too(connect: Callable[..., Client]) -> None:
    parts = [f"202601_{number}_{number}_0" for number in range(20000)]
    found = connect().query("SELECT length({parts:Array(String)}), {parts:Array(String)}[-1]", parameters={"parts": parts})
    assert found.result_rows == [(20000, parts[-1])]


def test_parameters_in_an_insert(connect: Callable[..., Client], database: str) -> None:
    client = connect(database=database)
    client.command("CREATE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a")
    client.command("INSERT INTO t VALUES ({a:UInt64}, {s:String})", parameters={"a": 7, "s": "it's"})
    assert client.query("SELECT * FROM t").result_rows == [(7, "it's")]


def test_queries_and_inserts_run_in_parallel(connect: Callable[..., Client], database: str) -> None:
    connect(database=database).command("CREATE TABLE t (a UInt64, w UInt8) ENGINE = MergeTree ORDER BY a")

    def work(worker: int) -> int:
        client = connect(database=database)
        for block in range(5):
            client.insert("t", [[block * 1000 + row, worker] for row in range(1000)], column_names=["a", "w"])
        return int(str(client.command(f"SELECT uniqExact(a) FROM t WHERE w = {worker}")))

    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        naps = [pool.submit(connect().command, "SELECT sleep(1)") for _ in range(4)]
        counts = list(pool.map(work, range(4)))
        assert [nap.result() for nap in naps] == [0] * 4
    assert time.monotonic() - started < 4.0, "four sleeps of a second ran one after another"
    assert counts == [5000] * 4
    assert connect(database=database).command("SELECT count() FROM t") == 20000


def test_five_million_rows_stream_in_bounded_memory(connect: Callable[..., Client], engine: ClickHouseEngine) -> None:
    client, rows = connect(), 0
    with Peak(engine) as peak, client.query_row_block_stream(LARGE) as blocks:
        for block in blocks:
            rows += len(block)
    assert rows == 5_000_000
    assert peak.bytes < 150 * MEGABYTE


def test_a_large_insert_streams_in_bounded_memory(
    connect: Callable[..., Client], engine: ClickHouseEngine, database: str
) -> None:
    client = connect(database=database)
    client.command("CREATE TABLE t (a UInt64, s String) ENGINE = Null")  # no merges beside it
    line = b"12345\t" + b"x" * 200 + b"\n"
    blocks = {"min_insert_block_size_rows": 65536, "min_insert_block_size_bytes": 16 * MEGABYTE}  # ClickHouse's: 256 MB
    with Peak(engine) as peak:
        summary = client.raw_insert("t", insert_block=(line * 5000 for _ in range(400)), fmt="TSV", settings=blocks)
    assert summary.written_rows == 2_000_000
    assert peak.bytes < 200 * MEGABYTE  # of 400 MB


def test_a_failure_late_in_a_result_is_not_mistaken_for_its_end(connect: Callable[..., Client]) -> None:
    client = connect()
    failing = "SELECT throwIf(number = 3000000, 'late') FROM numbers(4000000) SETTINGS max_block_size = 10000, max_threads = 1"

    def read_all() -> int:
        with client.query_row_block_stream(failing) as blocks:
            return sum(len(block) for block in blocks)

    with pytest.raises(Error, match="late"):
        read_all()
    with pytest.raises(DatabaseError, match="late"):
        client.query(failing)


def test_a_query_is_killed_by_its_id(connect: Callable[..., Client]) -> None:
    query_id = uuid.uuid4().hex
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(
            connect(autogenerate_session_id=False).query,
            "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)",
            settings={"query_id": query_id},
        )
        running = f"SELECT count() FROM system.processes WHERE Settings['log_comment'] = '{query_id}'"
        client = connect()
        wait_until(lambda: client.command(running) == 1, timeout=10, what="the query to run")
        client.command(f"KILL QUERY WHERE query_id = '{query_id}' SYNC")
        with pytest.raises(DatabaseError, match="QUERY_WAS_CANCELLED"):
            endless.result(timeout=10)


@pytest.mark.parametrize("statement", ["SELECT nothing", "SELECT * FROM nothing", "SELEC 1", "SELECT 1 FORMAT Nothing"])
def test_errors_carry_clickhouse_codes(connect: Callable[..., Client], statement: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        connect().command(statement)
    codes = {"SELECT nothing": 47, "SELECT * FROM nothing": 60, "SELEC 1": 62, "SELECT 1 FORMAT Nothing": 73}
    assert caught.value.code == codes[statement]


def test_a_wrong_password_is_refused(connect: Callable[..., Client]) -> None:
    for wrong in ({"password": "wrong"}, {"username": "nobody"}):
        with pytest.raises(DatabaseError) as caught:
            connect(**wrong)
        assert caught.value.code == 516


def test_the_password_is_in_no_argument_and_no_log(engine: ClickHouseEngine) -> None:
    process = psutil.Process(engine.pid)
    assert engine.password not in " ".join(process.cmdline()) + " ".join(process.environ().values())
    assert engine.password not in engine.log.read_text()
    assert [path.stat().st_mode & 0o077 for path in (engine.directory, engine.directory / "server.json", engine.log)] == [0] * 3


@pytest.mark.long
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_acknowledged_data_are_there_after_the_next_start(tmp_path: Path, end: str) -> None:
    engine = ClickHouseEngine(tmp_path / "engine", named_collections={"store": {"url": "http://127.0.0.1:1/bucket/"}})
    engine.start()
    try:
        client = client_of(engine)
        client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")  # in `default`, as Langfuse does
        client.command("CREATE DATABASE other")
        client.command("CREATE TABLE other.t (a UInt64) ENGINE = MergeTree ORDER BY a")
        client.command("CREATE MATERIALIZED VIEW other.v TO other.t AS SELECT a + 1 AS a FROM default.t")
        client.command("CREATE DICTIONARY d (a UInt64) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 't')) LAYOUT(FLAT()) LIFETIME(0)")
        client.insert("t", [[1], [2]], column_names=["a"])
        getattr(engine, end)()
        assert not engine.running
        engine.start()
        client = client_of(engine)
        assert client.query("SELECT sum(a), (SELECT sum(a) FROM other.t), dictHas('d', 2) FROM t").result_rows == [(3, 5, 1)]
        client.insert("t", [[10]], column_names=["a"])
        assert client.command("SELECT sum(a) FROM other.t") == 16, "the view across databases works as before"
        assert client.command("SELECT engine FROM system.databases WHERE name = 'default'") == "Atomic"
        assert client.command("SELECT name FROM system.named_collections") == "store"
    finally:
        engine.stop()


def test_stop_does_not_wait_for_ever_for_a_query(tmp_path: Path) -> None:
    engine = ClickHouseEngine(tmp_path / "engine")
    engine.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            client = client_of(engine, autogenerate_session_id=False)
            endless = pool.submit(client.query, "SELECT sum(sipHash64(number)) FROM numbers(1000000000000)")
            watcher = client_of(engine)
            running = "SELECT count() FROM system.processes WHERE query LIKE '%sipHash64%' AND query NOT LIKE '%processes%'"
            wait_until(lambda: watcher.command(running) == 1, timeout=10, what="the query to run")
            started = time.monotonic()
            engine.stop()
            assert time.monotonic() - started < 8.0
            with pytest.raises(Error):
                endless.result(timeout=10)
    finally:
        engine.stop()


def test_one_engine_a_directory(engine: ClickHouseEngine) -> None:
    with pytest.raises(EngineError, match="already runs"):
        ClickHouseEngine(engine.directory).start()
    assert engine.running
