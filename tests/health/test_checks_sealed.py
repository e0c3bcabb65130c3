"""Whether the applications' keys open what is stored, seen by a sweep on a real Postgres."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from blocks.settings import Settings
from flows.health.observation import Status
from flows.health.targets import Limits, Postgres, Targets
from shared.engines.postgres import PostgresEngine
from shared.sandbox.langfuse_postgres import encrypt
from shared.sandbox.litellm_front.sealing import seal
from tests.health.looks import CANARY, Seen, look

SALT, HEX = f"sk-{CANARY}-salt", "ab" * 32
TABLES = """
CREATE TABLE "LiteLLM_ProxyModelTable" (model_name text, litellm_params jsonb, updated_at timestamp DEFAULT now());
CREATE TABLE llm_api_keys (id text, secret_key text);
"""


class Vault:
    """One database that both applications are looked for in."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine, self.database = engine, f"sealed_{secrets.token_hex(4)}"
        with psycopg.connect(engine.url(), autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{self.database}"'.encode())
        self.run(TABLES)

    def run(self, sql: str, *parameters: object) -> None:
        with psycopg.connect(self.engine.url(self.database), autocommit=True) as connection:
            connection.execute(sql.encode(), list(parameters) or None)

    def model(self, key: str) -> None:
        params = {"model": seal("openai/gpt-4o", key), "api_key": seal(CANARY, key), "rpm": 3, "note": "plain"}
        self.run('INSERT INTO "LiteLLM_ProxyModelTable" VALUES (%s, %s)', "gpt", json.dumps(params))

    def look(self, service: str, keys: dict[str, str]) -> Seen:
        given = tuple((name, SecretStr(key)) for name, key in keys.items())
        target = Postgres(SecretStr(self.engine.url()), ((service, self.database),), keys=given)
        return look(Targets(postgres=target, timeout=20, limits=Limits(connections_percent=100)), service)


@pytest.fixture
def vault(postgres_engine: PostgresEngine) -> Iterator[Vault]:
    made = Vault(postgres_engine)
    yield made
    with psycopg.connect(postgres_engine.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{made.database}" WITH (FORCE)'.encode())


def test_models_that_the_salt_key_does_not_open_are_degraded(vault: Vault) -> None:
    assert vault.look("litellm", {"litellm": SALT}).bad() == {}
    vault.model(SALT)
    seen = vault.look("litellm", {"litellm": SALT})
    assert seen.bad() == {}
    assert "opens the 2 stored secrets" in seen.sentence("salt-key")
    vault.model("sk-another")
    seen = vault.look("litellm", {"litellm": SALT})
    assert seen.bad() == {"salt-key": Status.DEGRADED}
    assert "does not open 2 of 4 stored secrets of LiteLLM" in seen.sentence("salt-key")
    assert "salt-key" not in vault.look("litellm", {}), "nobody knows the key, so nobody looks"


def test_provider_keys_that_the_encryption_key_does_not_open_are_degraded(vault: Vault) -> None:
    vault.run("INSERT INTO llm_api_keys VALUES ('1', %s), ('2', NULL)", encrypt(CANARY, HEX))
    assert vault.look("langfuse-web", {"langfuse-web": HEX}).bad() == {}
    assert vault.look("langfuse-web", {"langfuse-web": "cd" * 32}).bad() == {"encryption-key": Status.DEGRADED}


def test_the_keys_come_of_the_settings_and_are_not_shown() -> None:
    given = {"postgres_backup_url": "postgresql://a@b/c", "litellm_master_key": SALT, "encryption_key": HEX}
    target = Targets.from_settings(Settings.model_validate(given)).postgres
    assert target is not None
    assert {name: key.get_secret_value() for name, key in target.keys} == {"litellm": SALT, "langfuse-web": HEX}
    assert CANARY not in repr(target)
