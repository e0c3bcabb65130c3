"""`python -m blocks` without saving: what it makes of the environment, and how it says what is wrong."""

from __future__ import annotations

import os

import pytest
from pydantic import SecretStr

from blocks.__main__ import TYPES, documents, main
from blocks.errors import SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.settings import Settings
from blocks.source_bucket import SourceBucket
from shared.engines.redis import RedisEngine

CANARY = "canary-5f1d"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, shared_store: BackupStore, keys: BackupKeys) -> pytest.MonkeyPatch:
    """The smallest environment that is enough."""
    for name in list(os.environ):
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    assert keys.signing_key is not None
    for name, value in {
        "STACK_NAME": "shop",
        "MINIO_ENDPOINT": shared_store.endpoint or "",
        "MINIO_ACCESS_KEY": shared_store.access_key,
        "MINIO_SECRET_KEY": shared_store.secret_key.get_secret_value(),
        "BACKUP_AGE_RECIPIENTS": ",".join(keys.recipients),
        "BACKUP_SIGNING_KEY": keys.signing_key.get_secret_value(),
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_every_block_can_be_checked() -> None:
    assert all(callable(getattr(kind, "check", None)) for kind in TYPES)


def test_only_what_is_described_is_made(environment: pytest.MonkeyPatch) -> None:
    assert [(name, type(block).__name__) for name, block in documents(Settings.load())] == [
        ("shop", "BackupStore"),
        ("shop", "BackupKeys"),
    ]


def test_everything_that_is_described_is_made(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("POSTGRES_BACKUP_URL", f"postgresql://backup:{CANARY}@db/postgres")
    environment.setenv("POSTGRES_RESTORE_URL", f"postgresql://restore:{CANARY}@db/postgres")
    environment.setenv("CLICKHOUSE_HOST", "clickhouse")
    environment.setenv("CLICKHOUSE_PASSWORD", CANARY)
    environment.setenv("REDIS_URL", f"redis://:{CANARY}@redis/0")
    environment.setenv("LITELLM_URL", "http://litellm:4000")
    environment.setenv("LITELLM_MASTER_KEY", CANARY)
    environment.setenv("LANGFUSE_WEB_URL", "http://langfuse-web:3000")
    environment.setenv("LANGFUSE_SECRET_KEY", CANARY)
    environment.setenv("LANGFUSE_WORKER_URL", "http://langfuse-worker:3030")
    environment.setenv("LITELLM_SALT_KEY", CANARY)
    environment.setenv("SOURCE_BUCKETS", "langfuse, Media.Files")
    environment.setenv("COPY_BUCKET", "copies")
    environment.setenv("COPY_ACCESS_KEY", "copier")
    environment.setenv("COPY_SECRET_KEY", CANARY)
    environment.setenv("RAILWAY_API_TOKEN", CANARY)
    environment.setenv("RAILWAY_PROJECT_ID", "project")
    environment.setenv("RAILWAY_ENVIRONMENT_ID", "environment")
    made = list(documents(Settings.load()))
    assert [name for name, _ in made] == [
        "shop",
        "shop",
        "shop-bucket-langfuse",
        "shop-bucket-media-files",
        "shop-copy",
        "shop-backup",
        "shop-restore",
        *["shop"] * 6,
    ]
    assert {type(block) for _, block in made} == set(TYPES)
    assert CANARY not in "".join(repr(block) + str(block) for _, block in made)


def test_copies_into_the_bucket_of_the_backups_are_refused(environment: pytest.MonkeyPatch) -> None:
    settings = Settings.load()
    for name, value in {
        "COPY_ENDPOINT": settings.minio_endpoint,
        "COPY_BUCKET": settings.backup_bucket,
        "COPY_ACCESS_KEY": "copier",
    }.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError, match="COPY_BUCKET: backups is the bucket of the backups themselves"):
        list(documents(Settings.load()))


def test_backups_in_a_bucket_that_is_backed_up_are_left_out(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("SOURCE_BUCKETS", "backups,langfuse")
    found = [block for _, block in documents(Settings.load()) if isinstance(block, SourceBucket)]
    assert [(one.name, one.except_below) for one in found] == [("backups", "backups/shop/"), ("langfuse", "")]


@pytest.mark.parametrize("variable", ["MINIO_ACCESS_KEY", "BACKUP_AGE_RECIPIENTS"])
def test_what_every_flow_needs_is_asked_for(environment: pytest.MonkeyPatch, variable: str) -> None:
    environment.delenv(variable)
    with pytest.raises(SettingsError, match=f"setting {variable} is not set"):
        list(documents(Settings.load()))


def test_what_is_missing_is_said_in_one_line(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.delenv("MINIO_ACCESS_KEY")
    assert main(["--dry-run"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "setting MINIO_ACCESS_KEY is not set; Access key of the store\n"


def test_each_system_is_asked_and_the_wrong_one_is_named(
    environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], redis_engine: RedisEngine
) -> None:
    environment.setenv("REDIS_URL", f"http://:{CANARY}@redis/0")
    assert main(["--dry-run", "--check"]) == 1
    said = capsys.readouterr()
    assert said.out == "backup-store/shop: read, answers\nbackup-keys/shop: read, answers\n"
    assert said.err == "redis-server/shop: redis: REDIS_URL is not redis://[:password@]host:port/0\n"
    environment.setenv("REDIS_URL", redis_engine.url)
    assert main(["--dry-run", "--check"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.endswith("redis-server/shop: read, answers\n")
    assert redis_engine.password not in said.out


def test_secrets_of_the_environment_are_not_shown(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("BACKUP_AGE_IDENTITY", CANARY)
    environment.setenv("MINIO_SECRET_KEY", CANARY)
    assert main(["--dry-run", "--check"]) == 1
    said = capsys.readouterr()
    assert CANARY not in said.out + said.err
    assert "BACKUP_AGE_IDENTITY is not an age secret key" in said.err
    assert SecretStr(CANARY) == Settings.load().backup_age_identity
