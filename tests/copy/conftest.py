"""Two sets of everything, taken once a session: a full one and a difference to it; a fresh second store for each test."""

from __future__ import annotations

import itertools
import logging
import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pyrage
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, s3_bucket
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from blocks.source_bucket import SourceBucket
from flows.lease import acquire
from flows.restore import clickhouse as on_clickhouse
from flows.stack import Stack
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.object_store import Identity, S3Engine
from shared.engines.postgres import PostgresEngine
from tests.copy.lab import CANARY, DATABASE, Lab, store_on, take_set

STACK = "copytests"
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def second_engine(state_directory: Path) -> Iterator[S3Engine]:
    """The second store's server, with key pairs of its own; one of them may only read."""
    engine = S3Engine(state_directory / "s3-second", identities=[Identity("reader", "reader", actions=("Read", "List"))])
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def origin(
    postgres_engine: PostgresEngine, clickhouse_engine: ClickHouseEngine, s3_engine: S3Engine, second_engine: S3Engine
) -> Iterator[Lab]:
    """The stack with its two sets."""
    identity = pyrage.x25519.Identity.generate()
    keys = BackupKeys(
        recipients=[str(identity.to_public())], identity=SecretStr(str(identity)), signing_key=SecretStr(secrets.token_hex(32))
    )
    postgres = PostgresServer(url=SecretStr(postgres_engine.url("postgres")), bin_dirs=[str(postgres_engine.bin_dir)])
    clickhouse = ClickHouseServer(
        host=clickhouse_engine.host,
        port=clickhouse_engine.port,
        user=clickhouse_engine.user,
        password=SecretStr(clickhouse_engine.password),
    )
    store = store_on(s3_engine, "copy-first", STACK)
    s3_engine.create_bucket("copy-source")
    name = s3_bucket(s3_engine.endpoint_url, s3_engine.access_key, SecretStr(s3_engine.secret_key), "copy-source", "us-east-1")
    source = SourceBucket(bucket=name)
    for number in range(5):
        source.put(f"events/{number}.json", f"{CANARY} {number}".encode())
    with psycopg.connect(postgres_engine.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    with psycopg.connect(postgres_engine.url(DATABASE), autocommit=True) as connection:
        connection.execute("CREATE TABLE notes (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO notes SELECT n, %s || n FROM generate_series(1, 2000) n", [CANARY])
    with clickhouse.client() as client:
        client.command(f"CREATE DATABASE {DATABASE} ENGINE = Atomic")
        client.command(f"CREATE TABLE {DATABASE}.t (id UInt64, note String) ENGINE = MergeTree ORDER BY id COMMENT '{CANARY}'")
        client.command(f"INSERT INTO {DATABASE}.t SELECT number, randomPrintableASCII(100) FROM numbers(3000)")
    settings = Settings(backup_lease_seconds=6, backup_lock_wait_seconds=30)
    stack = Stack(
        name=STACK,
        settings=settings,
        store=store,
        keys=keys,
        postgres=postgres,
        postgres_admin=postgres,
        clickhouse=clickhouse,
        redis=None,
        sources=(source,),
        copy=store_on(second_engine, "copies", STACK),
    )
    lease = acquire(store, flow="copy", holder="tests", seconds=600, wait=0)
    full = take_set(stack, lease)
    with clickhouse.client() as client:
        client.command(f"INSERT INTO {DATABASE}.t SELECT number, '{CANARY}' FROM numbers(3000, 1000)")
    source.put("events/5.json", f"{CANARY} later".encode())
    difference = take_set(stack, lease, full)
    yield Lab(stack, lease, full.id, difference.id)
    lease.release()
    on_clickhouse.drop_database(clickhouse, DATABASE)
    with psycopg.connect(postgres_engine.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def lab(origin: Lab) -> Lab:
    """The stack with an empty second store."""
    return origin.with_copy(origin.second.model_copy(update={"prefix": f"test-{next(_numbers)}"}))


@pytest.fixture
def copied(origin: Lab, whole_copy: BackupStore) -> Lab:
    """The stack with both sets in the second store; tests leave them there."""
    return origin.with_copy(whole_copy)


@pytest.fixture(scope="session")
def whole_copy(origin: Lab) -> BackupStore:
    """A second store with both sets in it."""
    lab = origin.with_copy(origin.second.model_copy(update={"prefix": "whole"}))
    lab.copy()
    return lab.second


@pytest.fixture
def empty_first(s3_engine: S3Engine, copied: Lab) -> Iterator[Lab]:
    """The stack after its whole first store was lost: a new, empty bucket in its place; the copies are there."""
    bucket = f"copy-empty-{next(_numbers)}"
    store = store_on(s3_engine, bucket, STACK)
    lease = acquire(store, flow="copy", holder="tests", seconds=600, wait=0)
    yield replace(copied, stack=replace(copied.stack, store=store), lease=lease)
    lease.release()


@pytest.fixture(scope="session")
def versioned_server() -> Iterator[str]:
    """URL of an S3 server that has object lock and versions as S3 has them (moto)."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["moto", "seaweedfs"])
def locked(request: pytest.FixtureRequest, versioned_server: str, second_engine: S3Engine, origin: Lab) -> Iterator[Lab]:
    """The stack with an empty second store whose bucket has object lock, in compliance mode."""
    bucket = f"locked-{next(_numbers)}"
    url, key = (
        (versioned_server, "second") if request.param == "moto" else (second_engine.endpoint_url, second_engine.access_key)
    )
    name = s3_bucket(url, key, SecretStr(second_engine.secret_key), bucket, "us-east-1")
    copy = BackupStore(bucket=name, stack=STACK, lock_mode="compliance", lock_days=7)
    with closing(copy.client):
        copy.client.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
        yield origin.with_copy(copy)
