"""The sandbox starts, everything answers, and nothing of it stays behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
import redis
from psycopg.rows import scalar_row

from blocks.settings import Settings
from shared.engines.process import EngineError, wait_until
from shared.sandbox.stack import ROOT, Sandbox


def processes_of(directory: Path) -> set[int]:
    """Every process that has to do with a directory: by its arguments, its environment or where it works."""
    name = str(directory).encode()
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes() + bytes((entry / "cwd").readlink())
        except (OSError, ValueError):
            continue  # not a process, already gone, or another user's
        if name in words and int(entry.name) != os.getpid():
            found.add(int(entry.name))
    return found


WHOLE = ["-m", "shared.sandbox", "--no-applications", "--directory"]
"""The program behind `make sandbox`, without LiteLLM, which takes longer to start than all the rest."""
ENGINES = [
    "-c",
    "import sys, threading, pathlib; from shared.sandbox.stack import Sandbox\n"
    "with Sandbox(pathlib.Path(sys.argv[1]), prefect=False): print('Ctrl-C ends it', flush=True), threading.Event().wait()",
]
"""A program that starts a sandbox without Prefect, which takes a third of the time."""


@contextmanager
def running_program(program: list[str], directory: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A program with a sandbox in a directory, once it says that it is up; its own session, as a terminal would give it."""
    process = subprocess.Popen(
        [sys.executable, *program, str(directory)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        output = ""
        while "Ctrl-C ends it" not in output:
            line = process.stdout.readline()
            assert line, f"it ended:\n{output}"
            output += line
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def directory(state_directory: Path) -> Path:
    """A folder for one sandbox."""
    return state_directory / f"stack-{uuid.uuid4().hex[:8]}"


def test_every_engine_of_the_stack_answers(sandbox: Sandbox) -> None:
    with psycopg.connect(sandbox.postgres.url(), row_factory=scalar_row) as connection:
        names = connection.execute("SELECT datname FROM pg_database").fetchall()
    assert {"litellm", "langfuse"} <= set(names)
    login = {"X-ClickHouse-User": sandbox.clickhouse.user, "X-ClickHouse-Key": sandbox.clickhouse.password}
    answer = httpx.post(sandbox.clickhouse.url, content="SHOW DATABASES", headers=login)
    assert sandbox.clickhouse_database in answer.text.split()
    assert redis.Redis.from_url(sandbox.redis.url).ping()
    assert httpx.get(f"{sandbox.prefect_api_url}/ready").is_success
    assert "<html" in httpx.get(sandbox.prefect_ui_url).text


def test_the_backup_role_reads_what_owners_write_and_writes_nothing(sandbox: Sandbox) -> None:
    with psycopg.connect(sandbox.postgres_url("langfuse", "langfuse"), autocommit=True) as owner:
        owner.execute("CREATE TABLE only_read_me (a int)")
        try:
            with psycopg.connect(sandbox.postgres_url("backup", "langfuse"), autocommit=True) as backup:
                assert backup.execute("SELECT count(*) FROM only_read_me").fetchone() == (0,)
                backup.execute("SET default_transaction_read_only = off")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    backup.execute("INSERT INTO only_read_me VALUES (1)")
        finally:
            owner.execute("DROP TABLE only_read_me")


OF_APPLICATIONS = ("litellm_", "langfuse_", "slack_", "discord_", "pagerduty_", "alert_", "heartbeat_")
"""What settings about the applications begin with; this sandbox has none (see test_applications.py)."""
UNUSED = [
    "postgres_target_url",  # Postgres moves nowhere
    "clickhouse_store_endpoint",  # ClickHouse reaches the store under the same address
    "smoke_model",  # the cheapest
    "prefect_api_auth_string",  # the server is open
    "prefect_api_key",  # and no cloud
    "gateway_token",
    "gateway_url",
    "railway_webhook_secret",  # nobody tells the gateway anything
    "alertmanager_webhook_token",
    "railway_token",  # this is not Railway
    "railway_api_token",
    "railway_project_id",
    "railway_environment_id",
    "railway_service_id",
    "source_endpoint",  # Langfuse's bucket is on the same server
    "source_url_style",
    "copy_lock_mode",  # nothing is locked
    "worker_image",  # nothing is deployed from here
    "setup_postgres_url",  # the roles are there already
    "backup_db_password",
    "restore_db_password",
]


def test_the_environment_says_all_that_settings_can_ask(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    required = [name for name, field in Settings.model_fields.items() if field.default in (None, "")]
    unset = [name for name in required if not getattr(settings, name)]
    assert [name for name in unset if not name.startswith(OF_APPLICATIONS)] == UNUSED


def test_the_environment_file_is_private_and_complete(sandbox: Sandbox) -> None:
    assert sandbox.environment_file.stat().st_mode & 0o777 == 0o600
    script = f"source {sandbox.environment_file}; printenv MINIO_SECRET_KEY PREFECT_API_URL"
    shell = subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True, check=True)
    assert shell.stdout.split() == [sandbox.keys.store_secret_key, sandbox.prefect_api_url]


def test_every_deployment_is_there_and_a_worker_waits(sandbox: Sandbox) -> None:
    assert {"backup/nightly", "backup/on-demand", "drill/on-demand", "restore/on-demand", "prune/daily"} <= set(
        sandbox.api.deployments()
    )
    assert sandbox.api.online_workers("ops")


def test_a_run_with_wrong_parameters_is_refused_before_it_starts(sandbox: Sandbox) -> None:
    with pytest.raises(EngineError, match=r"answered (409|422)"):
        sandbox.run_deployment("backup/on-demand", {"request": {"components": 7}})


def test_a_directory_in_use_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(EngineError, match=f"in use by the sandbox of process {os.getpid()}"):
        Sandbox(sandbox.directory).start()
    assert sandbox.postgres.running


@pytest.mark.long
def test_ctrl_c_ends_everything_and_home_stays_empty(directory: Path, tmp_path: Path) -> None:
    with running_program(WHOLE, directory, tmp_path) as program:
        assert len(processes_of(directory)) > 10
        program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0
    assert processes_of(directory) == set()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def used(state_directory: Path) -> Sandbox:
    """A sandbox that has ended; in LiteLLM's database is a table of ours."""
    with (
        Sandbox(state_directory / "stack-used", prefect=False) as sandbox,
        psycopg.connect(sandbox.postgres.url("litellm")) as db,
    ):
        db.execute("CREATE TABLE kept AS SELECT 1 AS a")
    return sandbox


def test_a_start_that_fails_leaves_nothing_running(used: Sandbox) -> None:
    version = used.postgres.data / "PG_VERSION"
    before = version.read_text()
    version.write_text("9.6\n")
    with pytest.raises(EngineError, match=r"(?s)postgres.*version 9.6"):
        Sandbox(used.directory, prefect=False, fresh=False).start()
    assert processes_of(used.directory) == set()
    version.write_text(before)


@pytest.mark.long
def test_data_stays_when_asked_to(used: Sandbox) -> None:
    with Sandbox(used.directory, prefect=False, fresh=False) as sandbox:
        assert sandbox.keys == used.keys
        with psycopg.connect(sandbox.postgres_url("backup", "litellm")) as connection:
            assert connection.execute("SELECT a FROM kept").fetchone() == (1,)


@pytest.mark.long
def test_kill_of_the_program_and_its_supervisors_leaves_nothing_after_the_next_start(directory: Path, tmp_path: Path) -> None:
    with running_program(ENGINES, directory, tmp_path) as program:
        supervisors = {pid for pid in processes_of(directory) if b"supervisor.py" in Path(f"/proc/{pid}/cmdline").read_bytes()}
        for pid in (program.pid, *supervisors):
            os.kill(pid, signal.SIGKILL)
        program.wait(10)
    with Sandbox(directory, prefect=False) as sandbox:
        mine = {sandbox.postgres.pid, sandbox.clickhouse.pid, sandbox.redis.pid, sandbox.store.pid}
        assert None not in mine
    wait_until(lambda: not processes_of(directory), timeout=10, what="every process to end")


@pytest.mark.long
def test_sigkill_of_the_program_alone_ends_everything_at_once(directory: Path, tmp_path: Path) -> None:
    with running_program(ENGINES, directory, tmp_path) as program:
        program.kill()
        program.wait(10)
        wait_until(lambda: not processes_of(directory), timeout=10, what="every process to end")
