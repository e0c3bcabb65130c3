"""What tests share: real engines, each started at most once a session and only when a test asks for it.

A test that kills an engine starts it again; a test that needs a database makes one of its own. All state lies below
`.sandbox/tests/<pid>` in the repository and is removed at the end, also that of sessions that were killed.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import hypothesis
import pyrage
import pytest
from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, s3_bucket
from railway.worker.plain_http import no_authorities
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.object_store import S3Engine
from shared.engines.postgres import PostgresEngine
from shared.engines.redis import RedisEngine
from shared.sandbox.keys import SandboxKeys
from shared.sandbox.langfuse_double import LangfuseWeb, LangfuseWorker
from shared.sandbox.stack import STATE, Sandbox

_HERE = Path(__file__).parent
_TESTS = STATE / "tests"


def pytest_configure() -> None:
    """Keep Prefect, where tests import it, out of the home directory, off the network and away from any real server."""
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    home = _TESTS / str(os.getpid()) / "prefect-home"
    home.mkdir(mode=0o711, parents=True)
    os.environ.update(PREFECT_HOME=str(home), PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")
    os.environ.update(no_authorities({"PREFECT_API_URL": "http://127.0.0.1"}))
    # no folder, no timing on a shared machine
    hypothesis.settings.register_profile("project", database=None, deadline=None, max_examples=50)
    hypothesis.settings.load_profile("project")


def pytest_unconfigure() -> None:
    """Leave nothing, also where no test asked for an engine."""
    shutil.rmtree(_TESTS / str(os.getpid()), ignore_errors=True)


_LONGEST = (
    *("stack", "clickhouse", "postgres", "upgrade", "runbook", "blocks", "engines", "restore_table", "sandbox", "deploy"),
    *("applications", "copy", "health", "faults", "buckets", "flows", "worker"),
)
"""Groups of tests that take longest, the first one longest; the others follow by name."""


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run two at a time, those that share what is slow to start stay with one process; the longest groups begin.

    Then both processes end at about the same time. xdist's own order, by the number of tests, would leave the few long ones
    for the end, so `make test` turns it off.
    """
    items.sort(key=lambda item: _LONGEST.index(group) if (group := _group(item)) in _LONGEST else len(_LONGEST))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _group(item: pytest.Item) -> str:
    """What a test shares its engines with: all that need the whole stack, or the applications; else its folder."""
    fixtures = getattr(item, "fixturenames", ())
    if "sandbox" in fixtures:
        return "stack"
    return "applications" if "applications" in fixtures else item.path.relative_to(_HERE).parts[0]


def _forget(folder: Path) -> None:
    """Delete what a session that was killed left. Of two that begin at once one does it: the one that could rename it."""
    owner = folder.name.rpartition("-")[2]
    if not owner.isdigit() or Path(f"/proc/{owner}").exists():
        return
    claimed = folder.with_name(f"left-{os.getpid()}")
    with suppress(FileNotFoundError):
        folder.rename(claimed)
        shutil.rmtree(claimed)


@pytest.fixture(scope="session")
def state_directory() -> Iterator[Path]:
    """A folder for this session's engines."""
    for folder in _TESTS.glob("*"):
        _forget(folder)
    mine = _TESTS / str(os.getpid())
    mine.mkdir(mode=0o711, parents=True, exist_ok=True)
    yield mine
    shutil.rmtree(mine)


@pytest.fixture(scope="session")
def sandbox_keys() -> SandboxKeys:
    """Throw-away secrets of every kind; one for the session, because roles of the shared Postgres have their passwords."""
    return SandboxKeys.generate()


@pytest.fixture(scope="session")
def postgres_engine(state_directory: Path) -> Iterator[PostgresEngine]:
    """Postgres 16 without databases or roles of ours. Not durable against a crash of the machine; a kill loses no commit."""
    engine = PostgresEngine(state_directory / "postgres", durable=False, settings={"synchronous_commit": "on"})
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def clickhouse_engine(state_directory: Path) -> Iterator[ClickHouseEngine]:
    """ClickHouse, empty."""
    engine = ClickHouseEngine(state_directory / "clickhouse")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def s3_engine(state_directory: Path) -> Iterator[S3Engine]:
    """An S3 server without buckets."""
    engine = S3Engine(state_directory / "s3")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def bucket(s3_engine: S3Engine) -> str:
    """The name of a bucket for backups, shared by the session."""
    s3_engine.create_bucket("backups")
    return "backups"


@pytest.fixture(scope="session")
def shared_store(s3_engine: S3Engine, bucket: str) -> BackupStore:
    """The store whose client all tests share: to make one takes longer than most of them."""
    secret = SecretStr(s3_engine.secret_key)
    name = s3_bucket(s3_engine.endpoint_url, s3_engine.access_key, secret, bucket, s3_engine.region)
    store = BackupStore(bucket=name, stack="test")
    assert store.client
    return store


@pytest.fixture
def store(shared_store: BackupStore) -> BackupStore:
    """A store on the real S3 server, empty: each test has a stack of its own in the bucket."""
    return shared_store.model_copy(update={"stack": f"test-{secrets.token_hex(6)}"})


@pytest.fixture
def keys() -> BackupKeys:
    """Fresh keys: age identity and recipient, signing key, the applications' secrets."""
    identity = pyrage.x25519.Identity.generate()
    return BackupKeys(
        recipients=[str(identity.to_public())],
        identity=SecretStr(str(identity)),
        signing_key=SecretStr(secrets.token_hex(32)),
        application_keys={"LITELLM_SALT_KEY": SecretStr("sk-salt"), "ENCRYPTION_KEY": SecretStr("00" * 32)},
    )


@pytest.fixture(scope="session")
def redis_engine(state_directory: Path) -> Iterator[RedisEngine]:
    """Redis, empty."""
    engine = RedisEngine(state_directory / "redis")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def sandbox(state_directory: Path) -> Iterator[Sandbox]:
    """The whole stack with the real Prefect server and worker, schedules off; its data is the tests' business."""
    with Sandbox(state_directory / "stack") as stack:
        yield stack


@pytest.fixture(scope="session")
def applications(state_directory: Path) -> Iterator[Sandbox]:
    """The engines with LiteLLM, Langfuse 3 and the alert sinks, without Prefect. A test that breaks something mends it."""
    with Sandbox(state_directory / "applications", prefect=False, applications=True) as stack:
        yield stack


@pytest.fixture(scope="session")
def langfuse_4(applications: Sandbox) -> Iterator[tuple[LangfuseWeb, LangfuseWorker]]:
    """Langfuse 4, web and worker, beside the applications' Langfuse 3, with a ClickHouse database and queues of its own."""
    assert applications.applications is not None
    login = {"X-ClickHouse-User": applications.clickhouse.user, "X-ClickHouse-Key": applications.clickhouse.password}
    create = "CREATE DATABASE langfuse_4 ENGINE = Atomic"
    httpx.post(applications.clickhouse.url, content=create, headers=login, trust_env=False).raise_for_status()
    stores = applications.applications.langfuse_web.configuration.stores
    stores = replace(stores, clickhouse_database="langfuse_4", redis_key_prefix="four")
    web = LangfuseWeb(applications.directory / "web-4", stores, version="4.16.0", drain=1.0)
    worker = LangfuseWorker(applications.directory / "worker-4", stores, version="4.16.0")
    web.start(timeout=280)
    worker.start(timeout=280)
    yield web, worker
    worker.stop()
    web.stop()
