"""What refuses a restore, and that a failed one leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest

from blocks.errors import AccessDenied, IntegrityError, RestoreFailed, RestoreRefused, SettingsError, VersionMismatch
from blocks.keys import BackupKeys
from blocks.postgres import PostgresServer
from flows.backup.manifest import PostgresDatabase
from flows.backup.postgres import dump_database, dump_globals, dump_key
from flows.compare.postgres import compare_database
from flows.restore import postgres as on_postgres
from flows.restore.postgres_roles import create_missing_roles, missing_roles, role_statements
from flows.restore.postgres_swap import describe_undo, swap_databases
from shared.engines.postgres import PostgresEngine
from shared.engines.process import wait_until
from shared.sandbox.hard_postgres import run_sql
from tests.postgres.site import Site

SMALL = "CREATE TABLE t AS SELECT i, repeat('x', 100) AS a FROM generate_series(1, 5000) i; ALTER TABLE t ADD PRIMARY KEY (i)"


@pytest.fixture
def dumped(site: Site) -> PostgresDatabase:
    """A small database and its backup."""
    site.create(SMALL)
    return site.dump()


def assert_untouched(site: Site) -> None:
    assert site.databases() == {site.database: True}


def refuse_pg_restore(site: Site, folder: Path) -> PostgresServer:
    """The server with a pg_restore that leaves a trace when it is started."""
    script = folder / "pg_restore"
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] || : > {folder}/started\nexec {site.engine.bin_dir}/pg_restore "$@"\n')
    script.chmod(0o755)
    return PostgresServer(url=site.admin.url, bin_dirs=[str(folder), str(site.engine.bin_dir)])


@pytest.mark.parametrize("damage", ["truncated", "exchanged", "one bit"])
def test_a_damaged_object_is_refused_before_pg_restore_starts(
    site: Site, dumped: PostgresDatabase, tmp_path: Path, damage: str
) -> None:
    key = site.prefix + dumped.object.key
    stored = site.store.get(key)
    middle = len(stored) // 2
    other = dump_database(site.backup, site.database, site.store, f"{site.prefix}other/", site.keys)  # opens, but is not it
    site.store.put(
        key,
        {
            "truncated": stored[:-1000],
            "exchanged": site.store.get(f"{site.prefix}other/{other.object.key}"),
            "one bit": stored[:middle] + bytes([stored[middle] ^ 1]) + stored[middle + 1 :],
        }[damage],
    )
    server = refuse_pg_restore(site, tmp_path)
    with pytest.raises(IntegrityError, match="is not the one that was backed up"):
        on_postgres.restore_database(server, dumped, site.store, site.prefix, site.keys, site.staged)
    assert not (tmp_path / "started").exists()
    assert_untouched(site)


def test_damage_after_the_check_fails_the_restore_and_drops_the_copy(site: Site, dumped: PostgresDatabase) -> None:
    key = site.prefix + dumped.object.key
    site.store.put(key, site.store.get(key)[:-100])
    with pytest.raises(IntegrityError):
        on_postgres.restore_database(site.admin, dumped, site.store, site.prefix, site.keys, site.staged, verified=True)
    assert_untouched(site)


def test_a_wrong_identity_is_refused_and_nothing_is_left(site: Site, dumped: PostgresDatabase) -> None:
    other = BackupKeys(recipients=site.keys.recipients, identity=str(pyrage.x25519.Identity.generate()))
    with pytest.raises(IntegrityError, match="the age identity cannot open this backup"):
        on_postgres.restore_database(site.admin, dumped, site.store, site.prefix, other, site.staged)
    assert_untouched(site)


def test_a_missing_identity_is_refused_and_nothing_is_left(site: Site, dumped: PostgresDatabase) -> None:
    without = BackupKeys(recipients=site.keys.recipients)
    with pytest.raises(SettingsError, match="no age identity"):
        on_postgres.restore_database(site.admin, dumped, site.store, site.prefix, without, site.staged)
    assert_untouched(site)


def test_a_newer_servers_dump_is_refused(site: Site, dumped: PostgresDatabase) -> None:
    newer = dumped.model_copy(update={"server_major": 17})
    with pytest.raises(VersionMismatch, match="the dump is of a 17 server and cannot be restored to a 16 server"):
        on_postgres.refuse_unfit(site.admin, newer)


def test_a_dump_by_a_newer_pg_dump_is_refused_with_the_remedy(site: Site, dumped: PostgresDatabase) -> None:
    newer = dumped.model_copy(update={"client_version": "99.1"})
    with pytest.raises(
        VersionMismatch,
        match=r"pg_restore .*16.* cannot restore what pg_dump 99 wrote to a 16 server; install postgresql-client-99",
    ):
        on_postgres.refuse_unfit(site.admin, newer)


def test_a_missing_extension_is_refused(site: Site, dumped: PostgresDatabase) -> None:
    needs = dumped.model_copy(update={"extensions": dumped.extensions | {"postgis": "3.4"}})
    with pytest.raises(RestoreRefused, match="the server has no extension postgis"):
        on_postgres.refuse_unfit(site.admin, needs)


def test_a_role_that_is_no_superuser_is_refused(site: Site, dumped: PostgresDatabase) -> None:
    with pytest.raises(AccessDenied, match="role backup is no superuser"):
        on_postgres.refuse_unfit(site.backup, dumped)


def test_a_target_that_exists_is_refused(site: Site, dumped: PostgresDatabase) -> None:
    with pytest.raises(RestoreRefused, match="exists already"):
        on_postgres.restore_database(site.admin, dumped, site.store, site.prefix, site.keys, site.database)
    assert site.value("SELECT count(*) FROM t") == 5000


def test_a_locale_the_server_lacks_is_refused_on_a_live_server_and_replaced_on_scratch(
    site: Site, dumped: PostgresDatabase
) -> None:
    foreign = dumped.properties.model_copy(update={"collate": "xx_XX.utf8", "ctype": "xx_XX.utf8"})
    component = dumped.model_copy(update={"properties": foreign})
    with pytest.raises(RestoreRefused, match=r"cannot create a database with locale xx_XX\.utf8"):
        site.restore(component)
    assert_untouched(site)
    on_postgres.restore_database(site.admin, component, site.store, site.prefix, site.keys, site.staged, elsewhere=True)
    assert [d.where for d in site.compare(component)] == ["database collate", "database ctype"]
    assert compare_database(site.admin, component, site.staged, elsewhere=True) == []


def test_a_failing_pg_restore_is_reported_without_rows_and_leaves_nothing(site: Site) -> None:
    site.create(
        """CREATE TABLE guarded (canary text); INSERT INTO guarded VALUES ('canary-row-4711');
        CREATE FUNCTION refuse(text) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS
          'BEGIN IF current_database() LIKE ''%restore%'' THEN RAISE ''refused here''; END IF; RETURN true; END';
        ALTER TABLE guarded ADD CHECK (refuse(canary))"""
    )
    component = site.dump()
    with pytest.raises(RestoreFailed, match=r"pg_restore .* failed with exit status 1: .*refused here") as caught:
        site.restore(component)
    assert "canary-row-4711" not in str(caught.value)
    assert_untouched(site)


def test_a_database_without_the_public_schema_comes_back_without_it(site: Site) -> None:
    site.create("DROP SCHEMA public; DROP EXTENSION plpgsql; CREATE SCHEMA app; CREATE TABLE app.t ()")
    component = site.dump()
    site.restore(component)
    assert site.compare(component) == []


def test_odd_database_names_become_safe_keys_and_come_back(site: Site) -> None:
    odd = f'{site.database}__Odd "Näme" 100%/.. \\'
    assert set(dump_key(odd)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_.-~%")
    quoted = '"' + odd.replace('"', '""') + '"'
    run_sql(site.engine, "postgres", f"CREATE DATABASE {quoted}; ALTER DATABASE {quoted} SET work_mem TO '5MB'")
    component = dump_database(site.backup, odd, site.store, site.prefix, site.keys)
    site.restore(component)
    assert site.compare(component) == []
    assert component.properties.settings == ["work_mem=5MB"]


def test_a_dump_of_16_restores_to_18_with_the_same_content(site: Site, site_18: Site) -> None:
    site.create_hard()
    component = site.dump()
    stored = dump_globals(site.backup, site.store, site.prefix, site.keys)
    missing = missing_roles(site_18.admin, component)
    created = create_missing_roles(site_18.admin, stored, site.store, site.prefix, site.keys)
    assert set(missing) <= set(created)
    server = PostgresServer(url=site_18.admin.url, bin_dirs=[str(site.engine.bin_dir), str(site_18.engine.bin_dir)])
    on_postgres.restore_database(server, component, site.store, site.prefix, site.keys, site_18.staged)
    assert compare_database(server, component, site_18.staged, elsewhere=True) == []


def test_missing_roles_are_named_and_created_without_login(site: Site, tmp_path: Path) -> None:
    run_sql(
        site.engine,
        "postgres",
        """CREATE ROLE "New, role" LOGIN PASSWORD 'canary-4711' CONNECTION LIMIT 3 CREATEDB; GRANT litellm TO "New, role";
        ALTER ROLE "New, role" SET search_path TO "a b", public; COMMENT ON ROLE "New, role" IS 'x; y'""",
    )
    site.create('CREATE TABLE t (); GRANT SELECT ON t TO "New, role"')
    component = site.dump()
    stored = dump_globals(site.backup, site.store, site.prefix, site.keys)
    engine = PostgresEngine(tmp_path / "empty", durable=False)
    engine.start()
    try:
        empty = PostgresServer(url=engine.url(), bin_dirs=[str(engine.bin_dir)])
        assert missing_roles(empty, component) == ["New, role", "langfuse"]
        with pytest.raises(RestoreRefused, match="the server lacks the roles New, role, langfuse; create them first"):
            on_postgres.restore_database(empty, component, site.store, site.prefix, site.keys, site.staged)
        created = create_missing_roles(empty, stored, site.store, site.prefix, site.keys)
        assert {"New, role", "backup", "litellm", "langfuse", "restore"} <= set(created)
        with empty.connect() as connection:
            row = connection.execute(
                """SELECT rolcanlogin, rolconnlimit, rolcreatedb, rolconfig, shobj_description(oid, 'pg_authid'),
                pg_has_role('New, role', 'litellm', 'MEMBER') FROM pg_roles WHERE rolname = 'New, role'"""
            ).fetchone()
        assert row == (False, 3, True, ['search_path="a b", public'], "x; y", True)
        on_postgres.restore_database(empty, component, site.store, site.prefix, site.keys, site.staged)
        assert compare_database(empty, component, site.staged) == []
        assert create_missing_roles(empty, stored, site.store, site.prefix, site.keys) == []
    finally:
        engine.stop()
        run_sql(site.engine, site.database, 'DROP OWNED BY "New, role"; DROP ROLE "New, role"')


def test_roles_that_exist_are_left_as_they_are() -> None:
    text = """\\restrict x
-- comment; with semicolon
CREATE ROLE here;
ALTER ROLE here WITH SUPERUSER LOGIN;
CREATE ROLE "Gone; role";
ALTER ROLE "Gone; role" WITH NOSUPERUSER INHERIT LOGIN NOREPLICATION;
COMMENT ON ROLE "Gone; role" IS 'it''s; LOGIN';
ALTER ROLE here SET work_mem TO '1GB';
GRANT here TO "Gone; role" WITH INHERIT TRUE GRANTED BY nobody;
GRANT elsewhere TO "Gone; role";
GRANT pg_read_all_data TO here GRANTED BY postgres;
"""
    assert list(role_statements(text, ["Gone; role"], ["here"])) == [
        'CREATE ROLE "Gone; role"',
        'ALTER ROLE "Gone; role" WITH NOSUPERUSER INHERIT NOLOGIN NOREPLICATION',
        "COMMENT ON ROLE \"Gone; role\" IS 'it''s; LOGIN'",
        'GRANT here TO "Gone; role" WITH INHERIT TRUE',
    ]


def test_a_database_is_empty_until_somebody_makes_something(site: Site) -> None:
    assert on_postgres.is_empty(site.admin, site.database)
    site.create("CREATE EXTENSION vector")
    assert on_postgres.is_empty(site.admin, site.database)
    run_sql(site.engine, site.database, "CREATE TABLE t ()")
    assert not on_postgres.is_empty(site.admin, site.database)


def test_what_the_restore_wrote_is_not_counted_as_written_since(site: Site, dumped: PostgresDatabase) -> None:
    site.restore(dumped)
    swap_databases(site.admin, site.database, site.staged, site.beside("kept"))
    assert "nothing" in describe_undo(site.admin, site.database, site.beside("kept"))
    analyzed = "SELECT reltuples FROM pg_class WHERE relname = 't'"
    wait_until(lambda: site.value(analyzed) == 5000, timeout=1, what="the planner's statistics")
