"""The data of the sandbox is what it claims to be: LiteLLM's real tables, Langfuse's names, the same rows every time."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from cryptography.exceptions import InvalidTag
from psycopg import sql

from shared.engines.postgres import PostgresEngine
from shared.sandbox import langfuse_postgres, litellm_schema

KEY = "0f" * 32


@pytest.fixture
def owned(postgres_engine: PostgresEngine) -> Iterator[tuple[str, str]]:
    """The URL, as superuser, of an empty database, and the name of the role that owns it."""
    name = f"data_{uuid.uuid4().hex[:8]}"
    identifier = sql.Identifier(name)
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {}").format(identifier))
        connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0}").format(identifier))
        yield postgres_engine.url(name), name
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))
        connection.execute(sql.SQL("DROP ROLE {}").format(identifier))


def one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_the_real_litellm_schema_applies_and_belongs_to_the_databases_owner(owned: tuple[str, str]) -> None:
    url, owner = owned
    assert litellm_schema.apply(url) == len(litellm_schema.migrations()) > 200
    assert one(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'LiteLLM\\_%'") == 101
    assert one(url, "SELECT array_agg(DISTINCT tableowner) FROM pg_tables WHERE schemaname = 'public'") == [owner]
    assert one(url, "SELECT count(*) FROM _prisma_migrations WHERE length(checksum) = 64") == len(litellm_schema.migrations())


def test_migrations_run_in_the_order_of_their_full_names() -> None:
    names = [file.parent.name for file in litellm_schema.migrations()]
    assert names == sorted(names)
    assert "20251122125322_Add organization_id to spend logs" in names


@pytest.mark.long
def test_the_same_seed_makes_the_same_rows_and_another_one_other_rows(owned: tuple[str, str]) -> None:
    url, _ = owned
    content = """SELECT sum(hashtextextended(log::text, 0)) FROM "LiteLLM_SpendLogs" AS log"""
    litellm_schema.apply(url)
    assert litellm_schema.load(url, spend_logs=500) > 1000
    first = one(url, content)
    litellm_schema.load(url, spend_logs=100, seed=2)
    assert one(url, 'SELECT count(*) FROM "LiteLLM_SpendLogs"') == 600
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'LiteLLM\\_%'").fetchall()
        names = sql.SQL(", ").join(sql.Identifier(str(name)) for (name,) in tables)
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
    litellm_schema.load(url, spend_logs=500)
    assert one(url, content) == first


def test_the_langfuse_shaped_database_is_filled_and_its_secrets_open_with_the_key(owned: tuple[str, str]) -> None:
    url, owner = owned
    langfuse_postgres.apply(url)
    assert langfuse_postgres.load(url, encryption_key=KEY, items=20) > 2000
    assert one(url, "SELECT array_agg(DISTINCT tableowner) FROM pg_tables WHERE schemaname = 'public'") == [owner]
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert {"organizations", "projects", "api_keys", "prompts", "background_migrations", "trace_media"} <= {
        t for (t,) in tables
    }
    for (table,) in tables:
        assert one(url, f"SELECT count(*) FROM {table}") != 0, f"{table} has no rows"
    stored = str(one(url, "SELECT secret_key FROM llm_api_keys LIMIT 1"))
    assert langfuse_postgres.decrypt(stored, KEY).startswith("sk-provider-")
    with pytest.raises(InvalidTag):
        langfuse_postgres.decrypt(stored, "f0" * 32)
