"""A database that is hard to copy survives a backup and a restore, and what does not survive is named."""

from __future__ import annotations

import subprocess

import pytest

from flows.compare.postgres_catalogue import settled
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
