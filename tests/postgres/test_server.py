"""The Postgres block: URLs, databases, client programs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from blocks.errors import ServiceError, SettingsError, VersionMismatch
from blocks.postgres import PostgresServer
from blocks.postgres_url import DEFAULTS, KEEPALIVES, environment, parse_url
from flows.restore.properties import literal, parse_acl_item, quoted, setting, unquoted
from shared.engines.process import free_port
from shared.sandbox.hard_postgres import run_sql
from tests.postgres.site import Site

PLAIN = {"host": "db", "user": "u", "password": "p w", "dbname": "app", **DEFAULTS, **KEEPALIVES}


@pytest.mark.parametrize(
    ("query", "changes"),
    [
        ("", {}),
        ("?connection_limit=5&pool_timeout=10&schema=public&pgbouncer=true&socket_timeout=3&statement_cache_size=0", {}),
        ("?connect_timeout=3&sslmode=require&connection_limit=1", {"connect_timeout": "3", "sslmode": "require"}),
        ("?sslaccept=accept_invalid_certs&sslmode=require", {"sslmode": "require"}),
        ("?sslaccept=strict&sslmode=require", {"sslmode": "verify-full", "sslrootcert": "system"}),
        ("?application_name=other&keepalives_idle=7", {"application_name": "other", "keepalives_idle": "7"}),
    ],
)
def test_prismas_parameters_are_left_out_of_a_url(query: str, changes: dict[str, str]) -> None:
    assert parse_url(f"postgres://u:p%20w@db:5432/app{query}") == PLAIN | changes


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:canary@db/app",
        "postgresql://u:canary#x@db/app",
        "postgresql://u:cana/ry@db/app",
        "postgresql://u:canary?@db/app",
        "postgresql://u:canary@db:port/app",
        "postgresql://u:canary@[::1/app",
        "postgresql://:canary@db/app",
        "postgresql://u:canary@/app",
        "postgresql://u:canary@db/app?what=canary",
        "postgresql://u:canary@db,other:54x2/app",
        "canary",
        "",
    ],
)
def test_a_wrong_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_url(url)
    assert "canary" not in str(caught.value)
    assert "ry@" not in str(caught.value)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_password_survives_percent_encoding(password: str) -> None:
    assert parse_url(f"postgresql://u:{quote(password, safe='')}@db/app")["password"] == password


def test_a_client_program_is_told_everything_by_its_environment() -> None:
    assert environment(parse_url("postgresql://u:p@db:6432/app?sslmode=require")) == {
        "PGHOST": "db",
        "PGPORT": "6432",
        "PGUSER": "u",
        "PGPASSWORD": "p",
        "PGDATABASE": "app",
        "PGSSLMODE": "require",
        "PGCONNECT_TIMEOUT": "10",
        "PGAPPNAME": "stack-operations",
    }


def test_a_server_that_is_not_there_can_be_tried_again() -> None:
    server = PostgresServer(url=SecretStr(f"postgresql://u:canary@127.0.0.1:{free_port()}/x"))
    with pytest.raises(ServiceError, match=r"postgres x: no connection: .*refused") as caught:
        server.connect()
    assert not caught.value.permanent
    assert "canary" not in str(caught.value)


def test_databases_to_back_up_are_those_that_people_use(site: Site) -> None:
    site.create("CREATE TABLE t ()")
    run_sql(site.engine, "postgres", f"CREATE DATABASE {site.staged}; CREATE DATABASE {site.beside('kept')}")
    run_sql(
        site.engine,
        "postgres",
        f"CREATE DATABASE {site.database}__closed ALLOW_CONNECTIONS false;"
        f"CREATE DATABASE {site.database}__template IS_TEMPLATE true",
    )
    mine = [name for name in site.backup.database_names() if name.startswith(site.database)]
    assert mine == [site.database]
    assert "template1" not in site.backup.database_names()
    chosen = PostgresServer(url=site.backup.url, databases=["a", "b"])
    assert chosen.database_names() == ["a", "b"]


def test_database_postgres_is_backed_up_once_it_is_used(site: Site) -> None:
    assert "postgres" not in site.backup.database_names()
    run_sql(site.engine, "postgres", "CREATE TABLE somebody_was_here ()")
    try:
        assert "postgres" in site.backup.database_names()
    finally:
        run_sql(site.engine, "postgres", "DROP TABLE somebody_was_here")


def program(folder: Path, name: str, version: str) -> Path:
    """Make a folder with a program that says a version."""
    folder.mkdir()
    path = folder / name
    path.write_text(f'#!/bin/sh\necho "{name} (PostgreSQL) {version}"\n')
    path.chmod(0o755)
    return path


def test_the_smallest_client_that_fits_the_server_is_chosen(tmp_path: Path) -> None:
    found = {n: program(tmp_path / str(n), "pg_thing", f"{n}.3 (Debian {n}.3-1)") for n in (19, 15, 17, 18, 16)}
    server = PostgresServer(url=SecretStr("postgresql://u@db/x"), bin_dirs=[str(path.parent) for path in found.values()])
    assert [server.tool("pg_thing", major) for major in (14, 16, 17, 18)] == [found[n] for n in (15, 16, 17, 18)]
    found[18].unlink()
    assert server.tool("pg_thing", 18) == found[19]
    assert server.tool("pg_thing", 18, dump_major=16) == found[16]
    found[16].unlink()
    with pytest.raises(VersionMismatch, match="pg_thing 15 or 17 or 19 cannot dump a 16 server; install postgresql-client-16"):
        server.tool("pg_thing", 16)  # what pg_dump 17 writes could not be restored to a 16 server
    with pytest.raises(VersionMismatch, match="cannot restore what pg_dump 17 wrote to a 16 server"):
        server.tool("pg_thing", 16, dump_major=17)


def test_a_client_that_is_too_old_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folder = program(tmp_path / "old", "pg_thing", "15.9").parent
    server = PostgresServer(url=SecretStr("postgresql://u@db/x"), bin_dirs=[str(folder)])
    message = "^postgres: pg_thing 15 cannot dump a 16 server; install postgresql-client-16 in the worker image"
    with pytest.raises(VersionMismatch, match=message):
        server.tool("pg_thing", 16)
    with pytest.raises(VersionMismatch, match="there is no pg_other here; install postgresql-client-16"):
        server.tool("pg_other", 16)


def test_debians_wrapper_is_passed_over(tmp_path: Path) -> None:
    wrapper = program(tmp_path / "share", "pg_wrapper", "16.1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pg_thing").symlink_to(wrapper)
    server = PostgresServer(url=SecretStr("postgresql://u@db/x"), bin_dirs=[str(tmp_path / "bin")])
    with pytest.raises(VersionMismatch, match="there is no pg_thing here"):
        server.tool("pg_thing", 16)


@pytest.mark.parametrize(
    ("item", "sql"),
    [
        ("work_mem=7MB", "\"work_mem\" TO '7MB'"),
        ("app.greeting=it's = \\ odd", "\"app\".\"greeting\" TO E'it''s = \\\\ odd'"),
        ('search_path="$user", public, "Odd ""Schema"', """"search_path" TO '$user', 'public', 'Odd "Schema'"""),
        ('search_path=""', "\"search_path\" TO ''"),
    ],
)
def test_a_stored_setting_becomes_sql(item: str, sql: str) -> None:
    assert setting(item) == sql


def test_access_lists_are_read_as_postgres_prints_them() -> None:
    item = parse_acl_item('"a ""b"" = c"=C*T/"x/y"')
    assert (item.grantee, item.grantor, item.privileges) == ('a "b" = c', "x/y", {"C": True, "T": False})
    assert parse_acl_item("=Tc/owner").grantee == ""


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_quoting_a_name_is_undone_by_reading_it(name: str) -> None:
    assert unquoted(quoted(name)) == name
    assert literal(name).count("'") >= 2
