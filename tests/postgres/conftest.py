"""A Postgres 16 and an 18 with the sandbox's roles, an S3 bucket, keys, and fresh databases that are gone after the test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from shared.engines.object_store import S3Engine
from shared.engines.postgres import PostgresEngine
from shared.sandbox.keys import SandboxKeys
from shared.sandbox.postgres_roles import create_roles
from tests.postgres.site import BUCKET, Site


@pytest.fixture(scope="session")
def keys(sandbox_keys: SandboxKeys) -> BackupKeys:
    """Keys that encrypt to the drill's recipient and open what it can open."""
    return BackupKeys(recipients=list(sandbox_keys.recipients), identity=sandbox_keys.drill_identity)


@pytest.fixture(scope="session")
def store(s3_engine: S3Engine) -> BackupStore:
    """A store in a bucket of its own."""
    return Site.make_store(s3_engine, BUCKET)


@pytest.fixture(scope="session")
def server_16(postgres_engine: PostgresEngine, sandbox_keys: SandboxKeys) -> PostgresEngine:
    """Postgres 16 with the sandbox's roles."""
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        create_roles(connection, sandbox_keys.postgres)
    return postgres_engine


@pytest.fixture(scope="session")
def server_18(state_directory: Path, sandbox_keys: SandboxKeys) -> Iterator[PostgresEngine]:
    """Postgres 18 with the sandbox's roles."""
    engine = PostgresEngine(state_directory / "postgres-18", major=18, durable=False)
    engine.start()
    with psycopg.connect(engine.url(), autocommit=True) as connection:
        create_roles(connection, sandbox_keys.postgres)
    yield engine
    engine.stop()


_numbers = itertools.count(1)


@pytest.fixture
def site(server_16: PostgresEngine, sandbox_keys: SandboxKeys, store: BackupStore, keys: BackupKeys) -> Iterator[Site]:
    """Postgres 16 as the flows see it, with a database name and a key prefix that no other test has."""
    site = Site(server_16, sandbox_keys, store, keys, next(_numbers))
    yield site
    site.clean()


@pytest.fixture
def site_18(server_18: PostgresEngine, sandbox_keys: SandboxKeys, store: BackupStore, keys: BackupKeys) -> Iterator[Site]:
    """The same on Postgres 18."""
    site = Site(server_18, sandbox_keys, store, keys, next(_numbers))
    yield site
    site.clean()
