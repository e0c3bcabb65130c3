"""A database that is hard to copy survives a backup and a restore, and what does not survive is named."""

from __future__ import annotations

import subprocess

import pytest

from blocks.postgres import PINNED
from flows.compare.postgres_catalogue import settled
from flows.compare.postgres_content import list_tables, table_content
from tests.postgres.site import Site


@pytest.fixture(params=["site", "site_18"])
def any_site(request: pytest.FixtureRequest) -> Site:
    """Either major version that the engines have."""
    found: Site = request.getfixturevalue(request.param)
    return found


def schema(site: Site, database: str) -> list[str]:
    """pg_dump's own view of a database, without data and without what is drawn anew in each run.

    A cast of a whole array comes back as casts of its elements, which Postgres does itself: see `settled`.
    """
    output = subprocess.run(
        [str(site.engine.bin_dir / "pg_dump"), "--schema-only", f"--dbname={site.admin.dbname_argument(database)}"],
        env=site.admin.conninfo_env(database),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [settled(line) for line in output.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_everything_in_a_hard_database_comes_back(any_site: Site) -> None:
    any_site.create_hard()
    component = any_site.dump()
    any_site.restore(component)
    assert any_site.compare(component) == []
    assert schema(any_site, any_site.staged) == schema(any_site, any_site.database)


def test_what_is_not_in_the_dump_is_named(site: Site) -> None:
    site.create_hard()
    assert site.dump().not_taken == [
        "options, such as a password, of the user mapping for litellm on server far away (hidden from this role)",
        "rows of foreign table public.far (they are on another server)",
    ]


@pytest.mark.parametrize(("encoding", "value"), [("LATIN1", b"caf\xe9"), ("SQL_ASCII", b"\xff\xfe caf\xe9")])
def test_a_database_in_another_encoding_comes_back_byte_for_byte(site: Site, encoding: str, value: bytes) -> None:
    with site.connect("postgres") as connection:
        connection.execute(
            f"CREATE DATABASE {site.database} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
    with site.connect() as connection:
        connection.execute("CREATE TABLE t (v text, b bytea)")
        connection.execute("INSERT INTO t VALUES (convert_from(%s, current_setting('server_encoding')), %s)", [value, value])
    component = site.dump()
    site.restore(component)
    assert site.compare(component) == []
    assert site.value("SELECT convert_to(v, current_setting('server_encoding')) = b FROM t", site.staged) is True


def test_only_the_users_rows_of_an_extensions_configuration_table_count(site: Site) -> None:
    site.create(
        """CREATE EXTENSION vector; CREATE TABLE configuration AS SELECT generate_series(1, 10) AS id; CREATE TABLE internal ();
        ALTER EXTENSION vector ADD TABLE configuration; ALTER EXTENSION vector ADD TABLE internal;
        UPDATE pg_extension SET extconfig = ARRAY['configuration'::regclass::oid], extcondition = ARRAY['WHERE id > 7']
        WHERE extname = 'vector'"""
    )
    with site.admin.connect(site.database, settings=PINNED) as connection:
        tables = list_tables(connection)
        assert [(table.name, table_content(connection, table).rows) for table in tables] == [("public.configuration", 3)]
