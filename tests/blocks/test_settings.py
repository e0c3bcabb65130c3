"""Settings: read from the environment, refused by name, never by value."""

from __future__ import annotations

import os

import pytest

from blocks.errors import SettingsError
from blocks.settings import Settings

CANARY = "canary-5f1d"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)


def test_nothing_set_gives_the_defaults() -> None:
    settings = Settings.load()
    assert settings.stack_name == "stack"
    assert settings.postgres_databases == []
    assert settings.postgres_backup_url is None


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_KEEP_LAST", "")
    monkeypatch.setenv("POSTGRES_BACKUP_URL", "")
    settings = Settings.load()
    assert settings.backup_keep_last == 3
    assert settings.postgres_backup_url is None


@pytest.mark.parametrize(
    ("text", "names"),
    [("litellm", ["litellm"]), ("litellm, langfuse", ["litellm", "langfuse"]), (" , a ,, b,", ["a", "b"]), (",", [])],
)
def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch, text: str, names: list[str]) -> None:
    monkeypatch.setenv("POSTGRES_DATABASES", text)
    monkeypatch.setenv("CLICKHOUSE_DB", text)
    settings = Settings.load()
    assert settings.postgres_databases == names
    assert settings.clickhouse_db == names


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("STACK_NAME", f"{CANARY}_!"),
        ("CLICKHOUSE_PORT", CANARY),
        ("CLICKHOUSE_SECURE", CANARY),
        ("MINIO_ENDPOINT", f"{CANARY}:9000"),
        ("CLICKHOUSE_STORE_ENDPOINT", CANARY),
        ("BACKUP_RETENTION_DAYS", "0"),
        ("BACKUP_KEEP_LAST", CANARY),
        ("BACKUP_KEEP_YEARLY", "-1"),
        ("BACKUP_LEASE_SECONDS", "2"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_not_shown(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as raised:
        Settings.load()
    assert f"setting {variable}:" in str(raised.value)
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__, "pydantic's own error, which may quote values, would be printed above it"


def test_every_variable_can_be_refused_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """All typed fields at once: whatever pydantic complains about first, it does not quote it."""
    for name, field in Settings.model_fields.items():
        if field.annotation in (int, bool):
            monkeypatch.setenv(name.upper(), CANARY)
    with pytest.raises(SettingsError) as raised:
        Settings.load()
    assert CANARY not in str(raised.value)


def test_require_returns_text_and_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIO_ACCESS_KEY", "access")
    monkeypatch.setenv("MINIO_SECRET_KEY", CANARY)
    settings = Settings.load()
    assert settings.require("minio_access_key") == "access"
    assert settings.require("minio_secret_key") == CANARY
    for name in ("clickhouse_host", "backup_age_recipients", "redis_url", "clickhouse_password"):
        with pytest.raises(SettingsError, match=f"setting {name.upper()} is not set; "):
            settings.require(name)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    secret_fields = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert len(secret_fields) >= 9
    for name in secret_fields:
        monkeypatch.setenv(name.upper(), f"{CANARY}-{name}")
    settings = Settings.load()
    assert CANARY not in repr(settings) + str(settings) + settings.model_dump_json()


def test_every_setting_is_described() -> None:
    """The README's table and the error messages are made of these."""
    assert all(field.description for field in Settings.model_fields.values())
