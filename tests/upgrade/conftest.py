"""A Postgres 16 and an 18 for moves from the one to the other; nobody else's, as one of them is closed for writers at times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shared.engines.postgres import PostgresEngine
from shared.sandbox.keys import SandboxKeys
from shared.sandbox.postgres_roles import create_roles


@pytest.fixture(scope="session")
def old(state_directory: Path, sandbox_keys: SandboxKeys) -> Iterator[PostgresEngine]:
    """A 16 with roles of every kind, and a database that a restore keeps."""
    engine = PostgresEngine(state_directory / "upgrade-16", durable=False)
    engine.start()
    with psycopg.connect(engine.url(), autocommit=True) as connection:
        create_roles(connection, sandbox_keys.postgres)
        connection.execute("ALTER ROLE litellm PASSWORD 'canary-c41f' CONNECTION LIMIT 40 VALID UNTIL '2099-01-01'")
        connection.execute("ALTER ROLE langfuse SET work_mem TO '9MB'")
        connection.execute("CREATE ROLE readers NOLOGIN; GRANT readers TO litellm WITH ADMIN OPTION")
        connection.execute("CREATE DATABASE app__kept_abc123")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def new(state_directory: Path) -> Iterator[PostgresEngine]:
    """An 18 that is as initdb left it, but for roles that a test before has put there."""
    engine = PostgresEngine(state_directory / "upgrade-18", major=18, durable=False)
    engine.start()
    yield engine
    engine.stop()
