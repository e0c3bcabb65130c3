"""A Postgres 16's databases and roles on a real 18: equal, or not there at all; and a server that is closed for writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.errors import BackupFailed, GuardRefused, RestoreFailed, RestoreRefused, VersionMismatch
from blocks.postgres import PostgresServer
from flows.upgrade.postgres.fence import close_for_writers, keep_out, let_in, open_for_writers, refuse_unfenceable, writes
from flows.upgrade.postgres.moving import drop_copy, left_behind, movable, move_database, outline, refuse_target
from flows.upgrade.postgres.roles import compare_roles, drop_roles, move_roles
from shared.engines.postgres import PostgresEngine
from shared.sandbox.hard_postgres import create_hard_database
from shared.sandbox.keys import SandboxKeys

HARD = "hard"
CANARY = "canary-c41f"


def server(engine: PostgresEngine, *bin_dirs: Path) -> PostgresServer:
    """An engine as its superuser."""
    folders = bin_dirs or tuple(PostgresEngine.bin_dir_for(major) for major in PostgresEngine.available_majors())
    return PostgresServer(url=SecretStr(engine.url()), bin_dirs=[str(folder) for folder in folders])


@pytest.fixture(scope="module", autouse=True)
def hard(old: PostgresEngine) -> Iterator[None]:
    """A database that is hard to copy."""
    create_hard_database(old, HARD)
    yield
    run(old, f"DROP DATABASE {HARD} WITH (FORCE)", 'DROP ROLE "Odd role"')


def databases(engine: PostgresEngine) -> set[str]:
    with psycopg.connect(engine.url("template1")) as connection:
        return {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")}


def run(engine: PostgresEngine, *statements: str, database: str = "postgres") -> None:
    with psycopg.connect(engine.url(database), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def small(old: PostgresEngine) -> Iterator[str]:
    """A database that a test may spoil."""
    run(old, "CREATE DATABASE small OWNER langfuse")
    run(old, "CREATE TABLE t AS SELECT i, repeat('x', 50) AS a FROM generate_series(1, 500) i", database="small")
    yield "small"
    run(old, "DROP DATABASE small WITH (FORCE)")


@pytest.fixture
def with_roles(old: PostgresEngine, new: PostgresEngine) -> None:
    """Both have the same roles."""
    move_roles(server(old), server(new))


# --- databases -----------------------------------------------------------------------------------------------------------


def test_everything_in_a_database_that_is_hard_to_copy_is_the_same_on_the_newer_server(
    old: PostgresEngine, new: PostgresEngine, with_roles: None
) -> None:
    component, differences = move_database(server(old), server(new), HARD)
    assert [str(one) for one in differences] == []
    assert (component.server_major, component.client_version[:2]) == (16, "18")
    assert (component.properties.connection_limit, bool(component.tables), bool(component.large_objects.count)) == (
        77,
        True,
        True,
    )
    with pytest.raises(RestoreRefused, match="with something in it"):
        move_database(server(old), server(new), HARD)
    drop_copy(server(new), HARD)
    assert HARD not in databases(new)


def test_a_copy_that_differs_is_told_and_named(
    old: PostgresEngine, new: PostgresEngine, small: str, with_roles: None, tmp_path: Path
) -> None:
    """Whatever spoils a copy: here a pg_restore that does something else, besides."""
    real = PostgresEngine.bin_dir_for(18)
    script = tmp_path / "pg_restore"
    spoil = "DELETE FROM t WHERE i = 7"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {real}/pg_restore --version\n{real}/pg_restore "$@" || exit 1\n'
        f'exec {real}/psql --quiet --no-psqlrc --command "{spoil}"\n'
    )
    script.chmod(0o755)
    _, differences = move_database(server(old), server(new, tmp_path, real), small)
    assert [one.where for one in differences] == ["table public.t"]
    assert [one.split()[0] for one in (differences[0].expected, differences[0].found)] == ["500", "499"]
    drop_copy(server(new), small)


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_a_program_that_dies_in_the_middle_leaves_no_copy(
    old: PostgresEngine, new: PostgresEngine, small: str, with_roles: None, tmp_path: Path, program: str
) -> None:
    real = PostgresEngine.bin_dir_for(18)
    script = tmp_path / program
    ends = {"pg_dump": f'{real}/pg_dump "$@" | head -c 5000; kill -9 $$', "pg_restore": "head -c 100 > /dev/null; exit 1"}
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && exec {real}/{program} --version\n{ends[program]}\n')
    script.chmod(0o755)
    sources = {"pg_dump": (server(old, tmp_path, real), server(new)), "pg_restore": (server(old), server(new, tmp_path, real))}
    source, target = sources[program]
    with pytest.raises((BackupFailed, RestoreFailed), match=program):
        move_database(source, target, small)
    assert small not in databases(new)


def test_what_is_moved_is_what_people_use_and_the_rest_is_named(old: PostgresEngine, small: str) -> None:
    assert movable(server(old)) == [HARD, small]
    assert left_behind(server(old), [HARD, small]) == [
        "database app__kept_abc123 (a copy that a restore keeps, a template, or closed)"
    ]
    run(old, "CREATE TABLE public.upstream_puts_everything_here (id int)")
    try:
        assert movable(server(old)) == [HARD, "postgres", small]
    finally:
        run(old, "DROP TABLE public.upstream_puts_everything_here")


def test_the_database_that_every_server_has_is_moved_where_somebody_uses_it(
    old: PostgresEngine, new: PostgresEngine, with_roles: None
) -> None:
    run(old, "CREATE TABLE public.kept AS SELECT 42 AS answer", "ALTER DATABASE postgres SET work_mem TO '6MB'")
    try:
        _, differences = move_database(server(old), server(new), "postgres")
        assert [str(one) for one in differences] == []
        with psycopg.connect(new.url()) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    finally:
        run(old, "DROP TABLE public.kept", "ALTER DATABASE postgres RESET work_mem")
        drop_copy(server(new), "postgres")
    assert server(new).is_empty("postgres")


def test_a_target_that_is_not_empty_too_old_or_without_an_extension_is_refused(
    old: PostgresEngine, new: PostgresEngine, small: str
) -> None:
    plain = outline(server(old), small, 18)
    refuse_target(server(new), [plain])
    with pytest.raises(RestoreRefused, match="no extension earthdistance; install it"):
        refuse_target(server(new), [plain.model_copy(update={"extensions": {"earthdistance": "1.1"}})])
    run(new, "CREATE DATABASE mine")
    run(new, "CREATE TABLE precious (id int)", database="mine")
    try:
        with pytest.raises(RestoreRefused, match="not empty: there is something in its database mine"):
            refuse_target(server(new), [plain])
        refuse_target(server(new), [plain], begun=["mine"])
    finally:
        run(new, "DROP DATABASE mine")
    newer = plain.model_copy(update={"server_major": 19})
    with pytest.raises(VersionMismatch, match="of a 19 server and cannot be restored to a 18 server"):
        refuse_target(server(new), [newer])


# --- roles ---------------------------------------------------------------------------------------------------------------


def test_roles_come_with_attributes_memberships_settings_and_the_passwords_they_had(
    old: PostgresEngine, new: PostgresEngine, sandbox_keys: SandboxKeys
) -> None:
    with psycopg.connect(new.url()) as connection:
        before = {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    created = move_roles(server(old), server(new))
    assert set(created) == {"Odd role", "backup", "langfuse", "litellm", "readers", "restore"} - before
    assert move_roles(server(old), server(new)) == []
    assert compare_roles(server(old), server(new)) == []
    psycopg.connect(new.url(user="litellm", password=CANARY)).close()
    psycopg.connect(new.url(user="restore", password=sandbox_keys.postgres.restore)).close()
    psycopg.connect(new.url()).close()  # as whom we came: its own password is left alone


def test_every_difference_between_roles_is_named_and_no_password_is_shown(
    old: PostgresEngine, new: PostgresEngine, with_roles: None
) -> None:
    run(
        new,
        "ALTER ROLE litellm CREATEDB PASSWORD 'another'",
        "ALTER ROLE langfuse RESET work_mem",
        "REVOKE readers FROM litellm",
    )
    try:
        found = compare_roles(server(old), server(new))
        assert [one.where for one in found] == [
            "membership of litellm in readers",
            "role litellm",
            "settings of role langfuse",
            "password of role litellm",
        ]
        assert "SCRAM" not in repr(found)
    finally:
        run(
            new,
            "GRANT readers TO litellm WITH ADMIN OPTION",
            "ALTER ROLE litellm NOCREATEDB",
            "ALTER ROLE langfuse SET work_mem TO '9MB'",
        )
        move_roles(server(old), server(new))
    assert compare_roles(server(old), server(new)) == []


def test_roles_that_own_something_stay_when_those_that_were_created_are_dropped(new: PostgresEngine) -> None:
    run(new, "CREATE ROLE free_one", "CREATE ROLE owner_of_one", "CREATE SCHEMA owned AUTHORIZATION owner_of_one")
    assert drop_roles(server(new), ["free_one", "owner_of_one", "never_there"]) == ["free_one"]
    run(new, "DROP SCHEMA owned", "DROP ROLE owner_of_one")


# --- closing for writers -------------------------------------------------------------------------------------------------


def test_a_closed_server_takes_no_write_from_anybody_is_read_all_the_same_and_is_opened_again(
    old: PostgresEngine, small: str
) -> None:
    with psycopg.connect(old.url(small), autocommit=True) as writer:
        writer.execute("INSERT INTO t VALUES (1000, 'y')")
        before = close_for_writers(server(old), [small])
        with pytest.raises(psycopg.OperationalError):
            writer.execute("INSERT INTO t VALUES (1001, 'z')")
    assert before == {small: 501}
    with psycopg.connect(old.url(small), autocommit=True) as reader:
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (501,)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("DELETE FROM t")
    assert close_for_writers(server(old), [small]) == before
    keep_out(server(old), [small])
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(old.url(small))
    let_in(server(old), [small])
    open_for_writers(server(old))
    open_for_writers(server(old))
    run(old, "INSERT INTO t VALUES (1002, 'w')", database=small)
    assert writes(server(old), small) == 502


def test_a_server_whose_writers_could_not_be_kept_out_is_refused(old: PostgresEngine, small: str) -> None:
    refuse_unfenceable(server(old), [small])
    name = sql.Identifier(small).as_string(None)
    run(old, f"ALTER ROLE litellm IN DATABASE {name} SET default_transaction_read_only TO off")
    with pytest.raises(GuardRefused, match="role litellm may write although the server is read-only"):
        refuse_unfenceable(server(old), [small])
    run(old, f"ALTER ROLE litellm IN DATABASE {name} RESET default_transaction_read_only")
