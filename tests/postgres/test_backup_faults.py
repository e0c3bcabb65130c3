"""Whatever dies in the middle of a backup, no object appears."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from blocks.errors import AccessDenied, BackupFailed, ServiceError, StackError
from flows.backup.postgres import dump_database, dump_globals
from flows.backup.stream import open_encrypted
from flows.restore import postgres as on_postgres
from shared.engines.process import wait_until
from shared.sandbox.hard_postgres import run_sql
from tests.postgres.site import Site

LARGE = """
CREATE TABLE large AS SELECT i, string_agg(encode(sha256((i * 1000 + j)::text::bytea), 'hex'), '') AS a
  FROM generate_series(1, 1500) i, generate_series(1, 300) j GROUP BY i;
"""
"""30 MB that hardly compress."""


def programs(words: str) -> Iterator[tuple[int, str]]:
    """Yield pid and command line of every program that this process has started, runs, and has all these words in it."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            try:
                line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if all(word in line for word in words.split()):
                yield int(pid), line


def written(pid: int) -> int:
    """How many bytes a program has written so far."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


def pg_dump_at_work(site: Site) -> int:
    """Wait until pg_dump of the site's database has written a megabyte; return its pid."""
    found: list[int] = []

    def at_work() -> bool:
        found[:] = [pid for pid, _ in programs(f"pg_dump --format=custom {site.database}") if written(pid) > 1_000_000]
        return bool(found)

    wait_until(at_work, timeout=30, what="pg_dump to be at work")
    return found[0]


def assert_nothing_stored(site: Site) -> None:
    assert site.objects() == []
    assert site.unfinished_uploads() == []


def test_kill_9_of_pg_dump_leaves_no_object(site: Site) -> None:
    site.create(LARGE)
    with ThreadPoolExecutor(1) as pool:
        backup = pool.submit(site.dump)
        os.kill(pg_dump_at_work(site), signal.SIGKILL)
        with pytest.raises(BackupFailed, match="was killed by signal 9") as caught:
            backup.result()
    assert not caught.value.permanent
    assert_nothing_stored(site)
    assert site.dump().tables[0].rows == 1500  # the next one succeeds


@pytest.mark.long
def test_a_killed_server_in_the_middle_of_a_backup_leaves_no_object(site: Site) -> None:
    site.create(LARGE)
    with ThreadPoolExecutor(1) as pool:
        backup = pool.submit(site.dump)
        pg_dump_at_work(site)
        site.engine.kill()
        with pytest.raises(StackError) as caught:
            backup.result()
    site.engine.start()
    assert not caught.value.permanent
    assert_nothing_stored(site)
    assert site.dump().tables[0].rows == 1500


def test_the_end_of_the_connections_that_hold_the_snapshot_leaves_no_object(site: Site) -> None:
    site.create(LARGE)
    holders = f"""SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE datname = '{site.database}'
        AND application_name = 'stack-operations'"""
    with ThreadPoolExecutor(1) as pool:
        backup = pool.submit(site.dump)
        pg_dump_at_work(site)
        wait_until(lambda: site.value(holders, "postgres") is True, timeout=20, what="the holder to be there")
        with pytest.raises(ServiceError):
            backup.result()
    assert_nothing_stored(site)


def test_a_failed_checksum_ends_the_dump_at_once(site: Site) -> None:
    site.create(
        "CREATE TABLE large AS SELECT i FROM generate_series(1, 3000000) i; CREATE TABLE last AS SELECT 1"
    )  # slow to hash
    checksum = f"""SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = '{site.database}'
        AND state = 'active' AND query LIKE '%hashtextextended%FROM ONLY public.large%'"""
    with ThreadPoolExecutor(1) as pool:
        backup = pool.submit(site.dump)
        wait_until(lambda: site.value(checksum, "postgres") is True, timeout=20, what="a checksum to be at work")
        with pytest.raises(ServiceError, match="read tables: canceling statement"):
            backup.result()
    assert_nothing_stored(site)
    assert not list(programs(f"pg_dump --format=custom {site.database}"))


@pytest.mark.parametrize(
    ("obstacle", "message"),
    [
        ("REVOKE pg_read_all_data FROM backup", "backup cannot read public.t; GRANT pg_read_all_data TO backup"),
        ("ALTER ROLE backup NOBYPASSRLS", "row security hides rows of public.t from backup; ALTER ROLE backup BYPASSRLS"),
        (
            "ALTER ROLE backup RESET lo_compat_privileges",
            "backup cannot read 1 large objects; as a superuser: ALTER ROLE backup SET lo_compat_privileges = on",
        ),
    ],
)
def test_a_role_that_cannot_read_everything_gets_no_backup_but_the_remedy(site: Site, obstacle: str, message: str) -> None:
    site.create(
        """CREATE TABLE t AS SELECT 1 AS id; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (false);
        SELECT lo_from_bytea(0, 'x')"""
    )
    server = site.backup.model_copy(update={"databases": [site.database]})  # other tests' databases are not its business
    server.check()
    run_sql(site.engine, "postgres", obstacle)
    try:
        for attempt in (site.dump, server.check):
            with pytest.raises(AccessDenied) as caught:
                attempt()
            assert f"postgres {site.database}: {message}" in str(caught.value)
    finally:
        run_sql(
            site.engine,
            "postgres",
            "GRANT pg_read_all_data TO backup; ALTER ROLE backup BYPASSRLS; ALTER ROLE backup SET lo_compat_privileges = on",
        )
    assert_nothing_stored(site)


def recording_clients(site: Site, folder: Path) -> Path:
    """Put programs into a folder that note how they were called and become the real ones; returns the notes' file."""
    notes = folder / "calls"
    for program in ("pg_dump", "pg_restore", "pg_dumpall"):
        script = folder / program
        script.write_text(f"""#!/bin/sh\necho "{program} $*" >> '{notes}'\nexec '{site.engine.bin_dir}/{program}' "$@"\n""")
        script.chmod(0o755)
    return notes


def test_passwords_are_in_no_command_line(site: Site, tmp_path: Path) -> None:
    site.create("CREATE TABLE t AS SELECT 1 AS id")
    notes = recording_clients(site, tmp_path)
    backup, admin = (role.model_copy(update={"bin_dirs": [str(tmp_path)]}) for role in (site.backup, site.admin))
    component = dump_database(backup, site.database, site.store, site.prefix, site.keys)
    on_postgres.restore_database(admin, component, site.store, site.prefix, site.keys, site.staged)
    dump_globals(backup, site.store, site.prefix, site.keys)
    lines = [line for line in notes.read_text().splitlines() if "--version" not in line]
    assert {line.split(" ")[0] for line in lines} == {"pg_dump", "pg_restore", "pg_dumpall"}
    secrets = site.secrets.postgres
    for secret in (secrets.backup, secrets.restore, site.engine.password, site.secrets.drill_identity):
        assert not [line for line in lines if secret in line]


def test_the_globals_hold_every_role_and_no_password(site: Site) -> None:
    stored = dump_globals(site.backup, site.store, site.prefix, site.keys)
    with open_encrypted(site.store, site.prefix, stored.object, site.keys) as reader:
        text = reader.read(1_000_000).decode()
    assert {"backup", "litellm", "langfuse", "restore"} <= set(stored.roles)
    assert all(f"CREATE ROLE {role};" in text for role in ("backup", "litellm", "langfuse"))
    assert "PASSWORD" not in text
    assert "SCRAM" not in text


def test_errors_of_a_wrong_password_do_not_show_it(site: Site) -> None:
    server = site.role("backup", "canary-4711")
    attempts: list[Callable[[], object]] = [
        server.check,
        lambda: on_postgres.database_bytes(server, "x"),
        lambda: server.connect(site.database),
    ]
    for attempt in attempts:
        with pytest.raises(AccessDenied, match="password authentication failed") as caught:
            attempt()
        assert "canary-4711" not in str(caught.value)
        assert not isinstance(caught.value.__cause__, psycopg.Error)
    assert "canary-4711" not in repr(server)
