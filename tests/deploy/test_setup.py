"""SETUP on a real Postgres and a real S3 server: roles, databases, buckets, and who may do what afterwards."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator

import boto3
import psycopg
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from pydantic import SecretStr

from blocks.errors import AccessDenied, ServiceError, SettingsError, StoreError
from blocks.settings import Settings
from flows.deploy import setup
from flows.deploy.setup_buckets import create_buckets
from flows.deploy.setup_postgres import Roles, create_roles_and_databases
from shared.engines.object_store import S3Engine
from shared.engines.postgres import PostgresEngine
from shared.engines.process import free_port
from shared.sandbox.keys import SandboxKeys
from shared.sandbox.stack import ROOT

CANARY = "canary-7b1d"
Names = tuple[str, str]


@pytest.fixture
def names(postgres_engine: PostgresEngine) -> Iterator[Names]:
    """Names of two databases and their owners that nobody else has."""
    found = (f"litellm_{secrets.token_hex(4)}", f"langfuse_{secrets.token_hex(4)}")
    yield found
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        for name in found:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'DROP ROLE IF EXISTS "{name}"')


@pytest.fixture
def passwords(sandbox_keys: SandboxKeys) -> dict[str, SecretStr]:
    """Of the roles that are of the whole server, which the session's other tests use, too."""
    return {role: SecretStr(sandbox_keys.postgres_passwords[role]) for role in ("backup", "restore")}


def roles(names: Names, passwords: dict[str, SecretStr], password: str = CANARY) -> Roles:
    """Both applications, each with a password of its own."""
    owners = {name: SecretStr(f"{password}-{name}") for name in names}
    return Roles(owners, **passwords)


def connects(engine: PostgresEngine, database: str, user: str, password: str) -> bool:
    """Whether a role gets into a database."""
    try:
        psycopg.connect(engine.url(database, user=user, password=password), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


# --- Postgres ------------------------------------------------------------------------------------------------------------


def test_each_application_owns_its_database_and_cannot_connect_to_the_others(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    done = create_roles_and_databases(SecretStr(postgres_engine.url()), roles(names, passwords))
    assert f"database {names[0]}: created, of {names[0]} alone" in done
    for mine, other in (names, names[::-1]):
        password = f"{CANARY}-{mine}"
        with psycopg.connect(postgres_engine.url(mine, user=mine, password=password), autocommit=True) as connection:
            connection.execute("CREATE TABLE ours (id int)")
        assert not connects(postgres_engine, other, mine, password)


def test_the_backup_role_reads_both_and_changes_nothing(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    create_roles_and_databases(SecretStr(postgres_engine.url()), roles(names, passwords))
    name, password = names[0], passwords["backup"].get_secret_value()
    with psycopg.connect(postgres_engine.url(name, user=name, password=f"{CANARY}-{name}"), autocommit=True) as connection:
        connection.execute("CREATE TABLE ours AS SELECT 1 AS id")
    with psycopg.connect(postgres_engine.url(name, user="backup", password=password), autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM ours").fetchone() == (1,)
        with pytest.raises(psycopg.Error):
            connection.execute("INSERT INTO ours VALUES (2)")


def test_a_second_time_nothing_is_new_and_no_data_is_touched(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    wanted, url = roles(names, passwords), SecretStr(postgres_engine.url())
    create_roles_and_databases(url, wanted)
    with psycopg.connect(postgres_engine.url(names[0]), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS id")
    again = create_roles_and_databases(url, wanted)
    assert all("there" in line for line in again)
    with psycopg.connect(postgres_engine.url(names[0])) as connection:
        assert connection.execute("SELECT id FROM kept").fetchone() == (7,)


def test_a_password_that_is_given_again_is_the_roles_password_from_then_on(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    url = SecretStr(postgres_engine.url())
    create_roles_and_databases(url, roles(names, passwords, "old"))
    create_roles_and_databases(url, roles(names, passwords, "new"))
    assert connects(postgres_engine, names[0], names[0], f"new-{names[0]}")
    assert not connects(postgres_engine, names[0], names[0], f"old-{names[0]}")


def test_a_right_that_somebody_added_to_an_application_is_taken_away(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    url = SecretStr(postgres_engine.url())
    create_roles_and_databases(url, roles(names, passwords))
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        connection.execute(f'ALTER ROLE "{names[0]}" SUPERUSER')
        connection.execute(f'GRANT CONNECT ON DATABASE "{names[0]}" TO PUBLIC')
    create_roles_and_databases(url, roles(names, passwords))
    assert not connects(postgres_engine, names[1], names[0], f"{CANARY}-{names[0]}")
    assert not connects(postgres_engine, names[0], names[1], f"{CANARY}-{names[1]}")


def test_the_server_never_sees_a_password(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    """With every statement in its log, as operators switch it on to look for something."""
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres SET log_statement = 'all'")
        try:
            create_roles_and_databases(SecretStr(postgres_engine.url()), roles(names, passwords))
        finally:
            connection.execute("ALTER ROLE postgres RESET log_statement")
    log = "".join(path.read_text(errors="replace") for path in postgres_engine.directory.rglob("*.log"))
    assert f'ROLE "{names[0]}"' in log
    assert CANARY not in log


def test_a_database_that_belongs_to_somebody_else_is_refused(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{names[0]}"')
    with pytest.raises(SettingsError, match=f"{names[0]} belongs to postgres, expected {names[0]}"):
        create_roles_and_databases(SecretStr(postgres_engine.url()), roles(names, passwords))


def test_a_role_that_is_no_superuser_is_refused(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    create_roles_and_databases(SecretStr(postgres_engine.url()), roles(names, passwords))
    url = postgres_engine.url("postgres", user=names[0], password=f"{CANARY}-{names[0]}")
    with pytest.raises(AccessDenied, match="is no superuser"):
        create_roles_and_databases(SecretStr(url), roles(names, passwords))


def test_a_superuser_that_would_take_its_own_rights_away_is_refused(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    create_roles_and_databases(SecretStr(postgres_engine.url()), roles(names, passwords))
    url = postgres_engine.url("postgres", user="restore", password=passwords["restore"].get_secret_value())
    with pytest.raises(SettingsError, match="is called restore, as a role that setup creates"):
        create_roles_and_databases(SecretStr(url), roles(names, passwords))


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        (f"postgresql://postgres:{CANARY}@127.0.0.1:%d/postgres", ServiceError, "no connection"),
        (f"{CANARY} nonsense", SettingsError, "is no URL"),
    ],
)
def test_a_server_that_does_not_answer_is_one_line_without_the_password(
    url: str, error: type[Exception], words: str, names: Names, passwords: dict[str, SecretStr]
) -> None:
    with pytest.raises(error, match=words) as raised:
        create_roles_and_databases(SecretStr(url % free_port() if "%d" in url else url), roles(names, passwords))
    assert CANARY not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_wrong_password_says_that_a_changed_variable_does_not_change_a_volume(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    url = postgres_engine.url("postgres", user="postgres", password=CANARY)
    with pytest.raises(AccessDenied, match="does not change that of a volume") as raised:
        create_roles_and_databases(SecretStr(url), roles(names, passwords))
    assert CANARY not in str(raised.value)


# --- buckets -------------------------------------------------------------------------------------------------------------


def store_settings(s3_engine: S3Engine, *buckets: str) -> Settings:
    """As SETUP finds them in its environment."""
    return Settings(
        minio_endpoint=s3_engine.endpoint_url,
        minio_access_key=s3_engine.access_key,
        minio_secret_key=SecretStr(s3_engine.secret_key),
        setup_buckets=list(buckets),
    )


def test_buckets_are_created_and_strangers_are_refused(s3_engine: S3Engine) -> None:
    name = f"setup-{secrets.token_hex(4)}"
    assert create_buckets(store_settings(s3_engine, name)) == [f"bucket {name}: created, private"]
    assert create_buckets(store_settings(s3_engine, name)) == [f"bucket {name}: there, private"]
    stranger = boto3.client(
        "s3", endpoint_url=s3_engine.endpoint_url, region_name="us-east-1", config=Config(signature_version=UNSIGNED)
    )
    with pytest.raises(ClientError, match=r"403|AccessDenied"):
        stranger.list_objects_v2(Bucket=name)


def test_a_store_that_refuses_the_key_is_told_in_one_line(s3_engine: S3Engine) -> None:
    wrong = store_settings(s3_engine, "setup-refused").model_copy(update={"minio_secret_key": SecretStr(CANARY)})
    with pytest.raises((SettingsError, StoreError), match="setup-refused") as raised:
        create_buckets(wrong)
    assert CANARY not in str(raised.value)


# --- the program ---------------------------------------------------------------------------------------------------------


def run_setup(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m flows.deploy.setup`, as its container starts it."""
    machine = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "flows.deploy.setup", *arguments],
        env={**machine, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_program_creates_everything_and_says_so_last(
    postgres_engine: PostgresEngine, s3_engine: S3Engine, names: Names, passwords: dict[str, SecretStr]
) -> None:
    bucket = f"setup-{secrets.token_hex(4)}"
    environment = {
        "SETUP_POSTGRES_URL": postgres_engine.url(),
        "LITELLM_DATABASE": names[0],
        "LANGFUSE_DATABASE": names[1],
        "LITELLM_DB_PASSWORD": f"{CANARY}-1",
        "LANGFUSE_DB_PASSWORD": f"{CANARY}-2",
        "BACKUP_DB_PASSWORD": passwords["backup"].get_secret_value(),
        "RESTORE_DB_PASSWORD": passwords["restore"].get_secret_value(),
        "MINIO_ENDPOINT": s3_engine.endpoint_url,
        "MINIO_ACCESS_KEY": s3_engine.access_key,
        "MINIO_SECRET_KEY": s3_engine.secret_key,
        "SETUP_BUCKETS": bucket,
    }
    done = run_setup(environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == [f"bucket {bucket}: created, private", setup.DONE]
    assert connects(postgres_engine, names[1], names[1], f"{CANARY}-2")
    assert not any(secret in done.stdout for secret in (CANARY, s3_engine.secret_key, environment["BACKUP_DB_PASSWORD"]))


def test_the_program_names_what_is_missing_before_it_does_anything() -> None:
    done = run_setup({"SETUP_POSTGRES_URL": f"postgresql://postgres:{CANARY}@127.0.0.1:1/postgres"}, "--patience", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("setup: setting LITELLM_DB_PASSWORD is not set")
    assert CANARY not in done.stdout + done.stderr


def test_one_database_for_both_applications_is_refused() -> None:
    settings = Settings(litellm_database="one", langfuse_database="one")
    with pytest.raises(SettingsError, match="in one database lose data"):
        Roles.from_settings(settings)


def test_a_server_that_is_starting_is_waited_for(
    postgres_engine: PostgresEngine, names: Names, passwords: dict[str, SecretStr], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first address is nobody's; what answers at the second try is the real server."""
    monkeypatch.setattr(setup, "PAUSE", 0.01)
    urls = iter([f"postgresql://postgres@127.0.0.1:{free_port()}/postgres", postgres_engine.url()])
    done = setup.patiently(lambda: create_roles_and_databases(SecretStr(next(urls)), roles(names, passwords)), 30)
    assert f"database {names[0]}: created, of {names[0]} alone" in done


def test_the_patience_for_a_server_that_never_starts_ends(names: Names, passwords: dict[str, SecretStr]) -> None:
    url = SecretStr(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    with pytest.raises(ServiceError, match="no connection"):
        setup.patiently(lambda: create_roles_and_databases(url, roles(names, passwords)), 0)
