"""BACKUP and RESTORE of the ClickHouse engine to a real S3 server, as the backup flows use them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import boto3
import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from mypy_boto3_s3 import S3Client

from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until

BUCKET = "backups"
NOWHERE = {"url": "http://127.0.0.1:9/bucket/", "access_key_id": "a", "secret_access_key": "b"}
CONTENT = "SELECT count(), sum(cityHash64(tuple(*))) FROM {table}"


@dataclass(frozen=True)
class Rig:
    """An engine, an S3 server that it knows as the named collection `store`, and clients for both."""

    engine: ClickHouseEngine
    store: S3Engine
    s3: S3Client
    client: Client

    def keys(self, prefix: str) -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]

    def rows(self, sql: str, **settings: object) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self.client.query(sql, settings=settings).result_rows]

    def status(self, backup: str) -> tuple[str, str]:
        [(status, error)] = self.rows(f"SELECT status::String, error FROM system.backups WHERE id = '{backup}'")
        return str(status), str(error)

    def wait_for(self, backup: str) -> tuple[str, str]:
        running = ("CREATING_BACKUP", "RESTORING")
        wait_until(lambda: self.status(backup)[0] not in running, timeout=30, what=f"{backup} to end")
        return self.status(backup)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    directory = tmp_path_factory.mktemp("backup")
    store = S3Engine(directory / "s3")
    store.start()
    s3 = boto3.client(
        "s3",
        endpoint_url=store.endpoint_url,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=store.secret_key,
        region_name=store.region,
    )
    s3.create_bucket(Bucket=BUCKET)
    engine = ClickHouseEngine(directory / "clickhouse", named_collections={"store": collection(store), "nowhere": NOWHERE})
    engine.start()
    yield Rig(engine, store, s3, connect(engine))
    engine.stop()
    store.stop()


def collection(store: S3Engine) -> dict[str, str]:
    return {
        "url": f"{store.endpoint_url}/{BUCKET}/",
        "access_key_id": store.access_key,
        "secret_access_key": store.secret_key,
    }


def connect(engine: ClickHouseEngine) -> Client:
    access = {"host": engine.host, "port": engine.port, "username": engine.user, "password": engine.password}
    return clickhouse_connect.get_client(**access, autogenerate_session_id=False)  # type: ignore[arg-type]  # mixed values


@pytest.fixture
def source(rig: Rig) -> Iterator[str]:
    """A database with a bit of everything; its name is also a prefix in the bucket."""
    name = f"d{uuid.uuid4().hex}"
    for statement in (
        f"CREATE DATABASE {name}",
        f"""CREATE TABLE {name}.t (
                id UInt64, text LowCardinality(String), n Nullable(Int8), j JSON, twice UInt64 MATERIALIZED id * 2,
                INDEX by_text text TYPE bloom_filter GRANULARITY 1, PROJECTION p (SELECT text, count() GROUP BY text)
            ) ENGINE = MergeTree PARTITION BY id % 2 ORDER BY id SETTINGS min_bytes_for_wide_part = 0""",
        f"CREATE TABLE {name}.counts (text String, c AggregateFunction(count)) ENGINE = AggregatingMergeTree ORDER BY text",
        f"CREATE MATERIALIZED VIEW {name}.v TO {name}.counts AS SELECT text, countState() AS c FROM {name}.t GROUP BY text",
        f"""CREATE DICTIONARY {name}.d (id UInt64, text String) PRIMARY KEY id
            SOURCE(CLICKHOUSE(TABLE 't' DB '{name}')) LAYOUT(HASHED()) LIFETIME(0)""",
        f"""INSERT INTO {name}.t (id, text, n, j)
            SELECT number, toString(number % 7), if(number % 3 = 0, NULL, 1), concat('{{"a":', toString(number), '}}')
            FROM numbers(1000)""",
    ):
        rig.client.command(statement)
    yield name
    for database in (f"{name}_copy", name):
        rig.client.command(f"DROP DATABASE IF EXISTS {database} SYNC")


def test_full_and_differential_backups_restore_beside_the_original(rig: Rig, source: str) -> None:
    assert rig.rows(f"BACKUP DATABASE {source} TO S3(store, '{source}/full/')")[0][1] == "BACKUP_CREATED"
    rig.client.command(f"INSERT INTO {source}.t (id, text) VALUES (5000, 'new')")
    rig.rows(f"BACKUP DATABASE {source} TO S3(store, '{source}/more/') SETTINGS base_backup = S3(store, '{source}/full/')")
    assert len(rig.keys(f"{source}/more/")) < len(rig.keys(f"{source}/full/"))
    rig.rows(f"RESTORE DATABASE {source} AS {source}_copy FROM S3(store, '{source}/more/')")
    for table in ("t", "counts"):
        assert rig.rows(CONTENT.format(table=f"{source}_copy.{table}")) == rig.rows(CONTENT.format(table=f"{source}.{table}"))
    assert rig.rows(f"SELECT dictGet('{source}_copy.d', 'text', toUInt64(5000))") == [("new",)]
    [(definition,)] = rig.rows(f"SELECT create_table_query FROM system.tables WHERE database = '{source}_copy' AND name = 'v'")
    assert f"TO {source}_copy.counts" in str(definition)
    assert f"{source}." not in str(definition)


def test_an_asynchronous_backup_is_followed_in_system_backups(rig: Rig, source: str) -> None:
    backup = f"run-{source}"
    answer = rig.rows(f"BACKUP DATABASE {source} TO S3(store, '{source}/') SETTINGS id = '{backup}' ASYNC")
    assert answer == [(backup, "CREATING_BACKUP")]
    assert rig.wait_for(backup) == ("BACKUP_CREATED", "")
    answer = rig.rows(
        f"RESTORE DATABASE {source} AS {source}_copy FROM S3(store, '{source}/') SETTINGS id = 'r-{backup}' ASYNC"
    )
    assert answer == [(f"r-{backup}", "RESTORING")]
    assert rig.wait_for(f"r-{backup}") == ("RESTORED", "")


def test_the_parts_in_a_backup_are_the_parts_of_the_table_while_merges_are_stopped(rig: Rig, source: str) -> None:
    rig.client.command(f"SYSTEM STOP MERGES {source}.t")
    try:
        rig.client.command(f"INSERT INTO {source}.t (id, text) VALUES (2, 'again')")
        rig.rows(f"BACKUP TABLE {source}.t TO S3(store, '{source}/')")
        rig.client.command(f"INSERT INTO {source}.t (id, text) VALUES (4, 'after')")
        with pytest.raises(DatabaseError, match="ABORTED"):
            rig.client.command(f"OPTIMIZE TABLE {source}.t FINAL")
        manifest = ElementTree.fromstring(rig.s3.get_object(Bucket=BUCKET, Key=f"{source}/.backup")["Body"].read())  # noqa: S314 - ours
        names = [str(name.text).split("/") for name in manifest.iterfind("contents/file/name")]
        parts = sorted({name[3] for name in names if name[:3] == ["data", source, "t"]})
        sql = f"{CONTENT.format(table=f'{source}.t')} WHERE _part IN {{parts:Array(String)}}"
        live = rig.client.query(sql, parameters={"parts": parts}).result_rows
    finally:
        rig.client.command(f"SYSTEM START MERGES {source}.t")
    rig.client.command(f"OPTIMIZE TABLE {source}.t FINAL")
    rig.rows(f"RESTORE TABLE {source}.t AS {source}.restored FROM S3(store, '{source}/')")
    assert rig.rows(CONTENT.format(table=f"{source}.restored")) == [tuple(row) for row in live]
    assert len(parts) == 3


def test_a_flipped_byte_restores_in_silence_and_shows_when_the_column_is_read(rig: Rig, source: str) -> None:
    rig.rows(f"BACKUP TABLE {source}.t TO S3(store, '{source}/')")
    key = next(key for key in rig.keys(f"{source}/") if key.endswith("/n.bin"))
    data = bytearray(rig.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    data[-1] ^= 1
    rig.s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(data))
    rig.rows(f"RESTORE TABLE {source}.t AS {source}.restored FROM S3(store, '{source}/')")
    assert rig.rows(f"SELECT count(), sum(id) FROM {source}.restored") == [(1000, 499500)]
    with pytest.raises(DatabaseError, match="CHECKSUM_DOESNT_MATCH"):
        rig.rows(CONTENT.format(table=f"{source}.restored"))


def test_tables_are_exchanged_between_databases(rig: Rig, source: str) -> None:
    rig.rows(f"BACKUP DATABASE {source} TO S3(store, '{source}/')")
    rig.client.command(f"TRUNCATE TABLE {source}.t")
    rig.rows(f"RESTORE DATABASE {source} AS {source}_copy FROM S3(store, '{source}/')")
    rig.client.command(f"EXCHANGE TABLES {source}.t AND {source}_copy.t")
    assert rig.rows(f"SELECT count() FROM {source}.t") == [(1000,)]
    assert rig.rows(f"SELECT count() FROM {source}_copy.t") == [(0,)]


def test_backup_settings_of_a_request_take_effect(rig: Rig, source: str) -> None:
    with pytest.raises(DatabaseError, match="Connection refused"):  # not after the 1000 attempts of the default
        rig.rows(f"BACKUP DATABASE {source} TO S3(nowhere, '{source}/')", backup_restore_s3_retry_attempts=2)


def test_an_s3_server_killed_in_the_middle_fails_the_backup_and_leaves_no_manifest(rig: Rig, source: str) -> None:
    rig.client.command(
        f"INSERT INTO {source}.t (id, text, j) SELECT number, randomPrintableASCII(50), '{{}}' FROM numbers(200000)"
    )
    backup = f"run-{source}"
    rig.rows(
        f"BACKUP DATABASE {source} TO S3(store, '{source}/') SETTINGS id = '{backup}' ASYNC",
        max_backup_bandwidth=4_000_000,
        backup_restore_s3_retry_attempts=2,
    )
    try:
        wait_until(lambda: f"{source}/.lock" in rig.keys(f"{source}/"), timeout=10, what="the backup to write")
        rig.store.kill()
        status, error = rig.wait_for(backup)
    finally:
        rig.store.start()
    assert status == "BACKUP_FAILED"
    assert "S3_ERROR" in error
    assert f"{source}/.backup" not in rig.keys(f"{source}/")


def test_statuses_are_lost_and_backups_stay_when_the_engine_is_killed(tmp_path: Path, rig: Rig) -> None:
    engine = ClickHouseEngine(tmp_path / "engine", named_collections={"store": collection(rig.store)})
    engine.start()
    try:
        client = connect(engine)
        client.command("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
        client.command("INSERT INTO t SELECT number FROM numbers(10)")
        client.command("BACKUP DATABASE default TO S3(store, 'killed/')")
        engine.kill()
        engine.start()
        client = connect(engine)
        assert client.command("SELECT count() FROM system.backups") == 0
        client.command("RESTORE TABLE default.t AS default.copy FROM S3(store, 'killed/')")
        assert client.command("SELECT count() FROM copy") == 10
    finally:
        engine.stop()


@pytest.mark.long
def test_stop_does_not_wait_for_a_backup_in_the_background(tmp_path: Path, rig: Rig) -> None:
    engine = ClickHouseEngine(tmp_path / "engine", named_collections={"store": collection(rig.store)})
    engine.start()
    try:
        client = connect(engine)
        client.command("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY tuple()")
        client.command("INSERT INTO t SELECT randomPrintableASCII(100) FROM numbers(500000)")
        client.query("BACKUP TABLE t TO S3(store, 'slow/') ASYNC", settings={"max_backup_bandwidth": 1_000_000})  # 100 s
        wait_until(lambda: "slow/.lock" in rig.keys("slow/"), timeout=10, what="the backup to write")
        started = time.monotonic()
        engine.stop()
        assert time.monotonic() - started < 40.0, "the backup takes a hundred"
        assert "still run" in engine.log.read_text()
        engine.start()
        assert connect(engine).command("SELECT count() FROM t") == 500000
        assert "slow/.backup" not in rig.keys("slow/")
    finally:
        engine.stop()


def test_the_secret_of_the_store_is_nowhere_to_be_read(rig: Rig, source: str) -> None:
    rig.rows(f"BACKUP DATABASE {source} TO S3(store, '{source}/full/')")
    rig.rows(f"BACKUP DATABASE {source} TO S3(store, '{source}/more/') SETTINGS base_backup = S3(store, '{source}/full/')")
    rig.client.command("SYSTEM FLUSH LOGS")
    secret = rig.store.secret_key
    for table in ("query_log", "backup_log", "backups", "named_collections", "processes"):
        text = rig.client.raw_query(f"SELECT * FROM system.{table}", fmt="JSONEachRow").decode()
        assert secret not in text.replace("\\/", "/"), table
    assert secret not in rig.engine.log.read_text()
    for kind in ("full", "more"):
        manifest = rig.s3.get_object(Bucket=BUCKET, Key=f"{source}/{kind}/.backup")["Body"].read()
        assert secret.encode() not in manifest
