"""A swap happens whole or not at all, wherever it dies, and can be taken back."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from blocks.errors import RestoreFailed, RestoreRefused, ServiceError
from flows.restore import postgres as on_postgres
from flows.restore.postgres_swap import describe_undo, settle_swap, swap_databases, undo_swap
from shared.engines.postgres import PostgresEngine
from shared.sandbox.hard_postgres import run_sql
from tests.postgres.site import Site

OLD, NEW = "old", "new"
STEPS = ["close live", "close staged", "disconnect", "begin", "rename live", "rename staged", "commit", "open live", "done"]


@pytest.fixture(scope="module")
def pair(server_16: PostgresEngine) -> Iterator[dict[str, int]]:
    """Oids of a database with old content and one with new; tests rename them, which is faster than making them."""
    oids: dict[str, int] = {}
    yield oids
    with psycopg.connect(server_16.url(), autocommit=True) as connection:
        for (name,) in connection.execute("SELECT datname FROM pg_database WHERE oid = ANY (%s)", [list(oids.values())]):
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def staged(site: Site, pair: dict[str, int]) -> Iterator[Site]:
    """A live database with old content, and a staged one with new."""
    for what, name in ((OLD, site.database), (NEW, site.staged)):
        with site.connect("postgres") as connection:
            present = connection.execute("SELECT datname FROM pg_database WHERE oid = %s", [pair.get(what)]).fetchone()
            if present is None:
                connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
                row = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [name]).fetchone()
                assert row is not None
                pair[what] = row[0]
            else:
                connection.execute(f"ALTER DATABASE {present[0]} ALLOW_CONNECTIONS true".encode())
                connection.execute(f"ALTER DATABASE {present[0]} RENAME TO {name}".encode())
        with site.connect(name) as connection:
            connection.execute(f"DROP TABLE IF EXISTS content; CREATE TABLE content AS SELECT '{what}' AS what".encode())
            connection.execute("SELECT pg_stat_force_next_flush()")
            connection.execute("SELECT pg_stat_reset()")
    yield site
    with site.connect("postgres") as connection:
        for what, oid in pair.items():
            row = connection.execute("SELECT datname FROM pg_database WHERE oid = %s", [oid]).fetchone()
            if row is not None:
                connection.execute(f"ALTER DATABASE {row[0]} RENAME TO spare_{what}".encode())


def content(site: Site, database: str | None = None) -> object:
    return site.value("SELECT what FROM content", database)


def kept(site: Site) -> str:
    return site.beside("kept")


def swap(site: Site, **options: object) -> None:
    swap_databases(site.admin, site.database, site.staged, kept(site), **options)  # type: ignore[arg-type]  # passed on


def step_name(site: Site, step: str) -> str:
    return step.replace("live", site.database).replace("staged", site.staged)


def die_at(site: Site, step: str) -> None:
    """Have a process swap and be killed with SIGKILL right before one of its steps."""
    wanted, child = step_name(site, step), os.fork()
    if child == 0:
        try:
            swap(site, hook=lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == wanted else None)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the step was never reached"


def test_a_swap_gives_the_live_name_to_the_restored_data_and_keeps_the_old(staged: Site) -> None:
    told: list[str] = []
    swap(staged, hook=told.append)
    assert told == [step_name(staged, step) for step in STEPS]
    assert content(staged) == NEW
    assert staged.databases() == {staged.database: True, kept(staged): False}


def test_a_swap_ends_the_connections_of_the_applications(staged: Site) -> None:
    with staged.connect() as application:
        application.execute("SELECT 1")
        swap(staged)
        with pytest.raises(psycopg.OperationalError):
            application.execute("SELECT 1")


@pytest.mark.parametrize("step", STEPS)
def test_a_swap_that_is_killed_at_any_step_is_settled(staged: Site, step: str) -> None:
    die_at(staged, step)
    outcome = settle_swap(staged.admin, staged.database, staged.staged, kept(staged))
    if step in ("open live", "done"):
        assert outcome == "swapped"
        assert (content(staged), staged.databases()) == (NEW, {staged.database: True, kept(staged): False})
    else:
        assert outcome == "untouched"
        assert (content(staged), staged.databases()) == (OLD, {staged.database: True, staged.staged: True})
    swap(staged)
    assert (content(staged), staged.databases()) == (NEW, {staged.database: True, kept(staged): False})


@pytest.mark.parametrize("step", ["disconnect", "commit", "open live"])
def test_a_swap_that_was_killed_and_not_settled_is_finished_by_the_next_one(staged: Site, step: str) -> None:
    die_at(staged, step)
    swap(staged)
    assert (content(staged), content_of_kept(staged)) == (NEW, OLD)
    swap(staged)  # and once more changes nothing
    assert content(staged) == NEW


def content_of_kept(site: Site) -> object:
    run_sql(site.engine, "postgres", f"ALTER DATABASE {kept(site)} ALLOW_CONNECTIONS true")
    return content(site, kept(site))


@pytest.mark.parametrize("step", ["close staged", "disconnect", "rename staged", "commit", "open live"])
def test_a_lost_connection_at_any_step_is_settled_at_once(staged: Site, step: str) -> None:
    wanted = step_name(staged, step)

    def hook(name: str) -> None:
        if name == wanted:
            ending = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'restore'"
            staged.value(ending, "postgres")

    if step == "open live":
        swap(staged, hook=hook)
        assert content(staged) == NEW
    else:
        with pytest.raises(RestoreFailed, match="taken back, the live name has the data it had"):
            swap(staged, hook=hook)
        assert (content(staged), staged.databases()) == (OLD, {staged.database: True, staged.staged: True})


def test_a_swap_works_where_the_live_database_was_dropped(staged: Site) -> None:
    run_sql(staged.engine, "postgres", f"DROP DATABASE {staged.database}")
    swap(staged, existed=False)
    assert (content(staged), staged.databases()) == (NEW, {staged.database: True})
    assert settle_swap(staged.admin, staged.database, staged.staged, kept(staged), existed=False) == "swapped"
    swap(staged, existed=False)
    undone = staged.beside("undone")
    assert "the name becomes free" in describe_undo(staged.admin, staged.database, kept(staged), existed=False)
    undo_swap(staged.admin, staged.database, kept(staged), undone, existed=False)
    assert staged.databases() == {undone: False}
    undo_swap(staged.admin, staged.database, kept(staged), undone, existed=False)


def test_a_staged_database_that_vanished_is_not_called_swapped(staged: Site) -> None:
    on_postgres.drop_database(staged.admin, staged.staged)
    assert settle_swap(staged.admin, staged.database, staged.staged, kept(staged)) == "untouched"
    with pytest.raises(RestoreFailed, match=r"there is no .* to swap in; the live data was not touched"):
        swap(staged)


def test_a_swap_refuses_to_overwrite_what_an_earlier_one_kept(staged: Site) -> None:
    run_sql(staged.engine, "postgres", f"CREATE DATABASE {kept(staged)}")
    with pytest.raises(RestoreRefused, match="exists already"):
        swap(staged)
    assert content(staged) == OLD


def test_nothing_left_to_settle_is_said_plainly(site: Site) -> None:
    with pytest.raises(RestoreFailed, match=r"neither it nor .* exists"):
        settle_swap(site.admin, site.database, site.staged, kept(site))


def test_undo_puts_the_old_data_back_and_says_what_leaves(staged: Site) -> None:
    swap(staged)
    with staged.connect() as application:
        application.execute("INSERT INTO content VALUES ('since')")
        application.execute("SELECT pg_stat_force_next_flush()")
    text = describe_undo(staged.admin, staged.database, kept(staged))
    assert f"{kept(staged)} (" in text
    assert "public.content (1+ 0~ 0-)" in text
    undone = staged.beside("undone")
    undo_swap(staged.admin, staged.database, kept(staged), undone)
    assert content(staged) == OLD
    assert staged.databases() == {staged.database: True, undone: False}
    undo_swap(staged.admin, staged.database, kept(staged), undone)  # once more changes nothing
    assert content(staged) == OLD


def test_undo_of_what_was_forgotten_is_refused(staged: Site) -> None:
    swap(staged)
    on_postgres.drop_database(staged.admin, kept(staged))
    assert "is gone, there is nothing to put back" in describe_undo(staged.admin, staged.database, kept(staged))
    with pytest.raises(RestoreRefused, match="is gone, there is nothing to put back"):
        undo_swap(staged.admin, staged.database, kept(staged), staged.beside("undone"))
    assert content(staged) == NEW


def test_only_databases_that_restores_made_can_be_dropped(staged: Site) -> None:
    with pytest.raises(RestoreRefused, match="its name is not one that restores give"):
        on_postgres.drop_database(staged.admin, staged.database)
    on_postgres.drop_database(staged.admin, staged.staged)
    on_postgres.drop_database(staged.admin, staged.staged)
    assert staged.databases() == {staged.database: True}


def test_a_kept_database_takes_no_connections(staged: Site) -> None:
    swap(staged)
    with pytest.raises(ServiceError, match="not currently accepting connections"):
        staged.admin.connect(kept(staged))
