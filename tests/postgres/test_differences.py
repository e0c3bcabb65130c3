"""The comparison notices every kind of change in a restored copy, and names what it is in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PINNED, PostgresServer
from flows.backup.manifest import PostgresDatabase, SequenceBounds
from flows.compare.postgres import find_differences, within
from shared.engines.postgres import PostgresEngine
from shared.sandbox.hard_postgres import run_sql
from shared.sandbox.keys import SandboxKeys
from tests.postgres.site import Site

CHANGES = {
    "one value in a row that also has NULLs": (
        """UPDATE "Table with ""quotes"" and spaces" SET "Column One" = 'b' WHERE "select" = 1""",
        'table public."Table with ""quotes"" and spaces"',
    ),
    "a NULL that became empty": (
        """UPDATE "Table with ""quotes"" and spaces" SET "ünïcode" = '' WHERE "select" = 1""",
        'table public."Table with ""quotes"" and spaces"',
    ),
    "values swapped between two rows": ("UPDATE secrets SET secret = CASE id WHEN 1 THEN 'yours' ELSE 'mine' END WHERE id < 3",
        "table public.secrets"),
    "text moved to the neighbouring column": ("UPDATE child SET note = 'o', own_first = 'cwn'", "table public.child"),
    "a number's scale": ("UPDATE every_type SET c_num = 1.00 WHERE id = 4", "table public.every_type"),
    "a zero's sign": ("UPDATE every_type SET c_double = 0 WHERE id = 4", "table public.every_type"),
    "a space in a json": ("""UPDATE every_type SET c_json = '{"b": 1,  "a": 2, "a": 3}' WHERE id = 1""",
        "table public.every_type"),
    "one byte of a bytea": ("UPDATE every_type SET c_bytea = set_byte(c_bytea, 7, 8) WHERE id = 1", "table public.every_type"),
    "a row twice": ("INSERT INTO dropped_column SELECT * FROM dropped_column WHERE a = 1", "table public.dropped_column"),
    "a row less in a table without columns": (
        "DELETE FROM no_columns WHERE ctid = (SELECT min(ctid) FROM no_columns)", "table public.no_columns"),
    "a row in one partition": (
        "UPDATE measurement SET value = 0 WHERE at = (SELECT min(at) FROM measurement_2024)", "table public.measurement_2024"),
    "column 200 of 251": ("UPDATE wide SET c200 = 0", "table public.wide"),
    "one byte of a large object": ("SELECT lo_put(200001, 2999999, '\\x00')", "large objects"),
    "a sequence": ("SELECT nextval('restarted')", "sequence public.restarted"),
    "a sequence's parameters": ("ALTER SEQUENCE restarted CACHE 5", "parameters of sequence public.restarted"),
    "one grant more": ("GRANT SELECT ON club TO litellm", "grant on table public.club to litellm"),
    "one grant less": ('SET ROLE "Odd role";'
        "REVOKE DELETE ON every_type FROM litellm", "grant on table public.every_type to litellm"),
    "a grant on a column": ("GRANT UPDATE (id) ON club TO litellm", "grant on column public.club.id to litellm"),
    "a grant on a function": ("GRANT EXECUTE ON FUNCTION add_one(int) TO PUBLIC",
        "grant on function public.add_one(integer) to PUBLIC"),
    "a grant on a system function": ("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text) FROM litellm",
        "grant on function pg_ls_dir(text) to litellm"),
    "a default privilege": ("ALTER DEFAULT PRIVILEGES FOR ROLE langfuse IN SCHEMA public REVOKE SELECT ON TABLES FROM litellm",
        "default grant of langfuse in schema public on tables to litellm"),
    "an owner": ("ALTER TABLE club OWNER TO litellm", "table public.club"),
    "a comment": ("COMMENT ON COLUMN person.best_friend IS 'another'", "comment on table column public.person.best_friend"),
    "a column's default": ("ALTER TABLE dropped_column ALTER added SET DEFAULT 43", "column public.dropped_column.added"),
    "a view": ("CREATE OR REPLACE VIEW grouped AS SELECT city, 1::bigint AS n, 1::float8 AS max FROM measurement",
        "view public.grouped"),
    "a function's body": ("CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "function public.touch()"),
    "a trigger switched off": ('ALTER TABLE no_rows DISABLE TRIGGER "touch it"', 'trigger "touch it" on public.no_rows'),
    "an event trigger switched on": ("ALTER EVENT TRIGGER off ENABLE", "event trigger off"),
    "row security switched off": ("ALTER TABLE secrets DISABLE ROW LEVEL SECURITY", "table public.secrets"),
    "a policy": ("ALTER POLICY own ON secrets USING (true)", "policy own on public.secrets"),
    "an index": ('DROP INDEX "hnsw index"', 'index public."hnsw index"'),
    "a constraint": ('ALTER TABLE person VALIDATE CONSTRAINT "in a club"', 'constraint "in a club" on public.person'),
    "a value of an enum": ("ALTER TYPE mood RENAME VALUE 'sad' TO 'glum'", "type public.mood"),
    "a domain's constraint": ("ALTER DOMAIN positive DROP CONSTRAINT positive_check",
        "constraint positive_check on domain public.positive"),
    "a materialised view emptied": ("REFRESH MATERIALIZED VIEW totals WITH NO DATA", "materialized view public.totals"),
    "a rule": ("DROP RULE no_delete ON friends", "rule no_delete on public.friends"),
    "a publication": ('ALTER PUBLICATION "some rows" ADD TABLE club', 'publication "some rows"'),
    "extended statistics": ("ALTER STATISTICS embeddings_stats SET STATISTICS 7", "statistics public.embeddings_stats"),
    "a text search configuration": (
        'ALTER TEXT SEARCH CONFIGURATION "Odd Schema".simple_english DROP MAPPING FOR email',
        'text search configuration "Odd Schema".simple_english',
    ),
    "an extension": ("CREATE TABLE t (); DROP EXTENSION vector CASCADE", "extension vector"),
    "a table more": ("CREATE TABLE more ()", "table public.more"),
    "a table less": ("DROP TABLE unlogged", "table public.unlogged"),
}  # fmt: skip

ALONE = {"one value in a row that also has NULLs", "a sequence", "one grant more", "one grant less", "a comment", "an owner"}
"""Changes that nothing else depends on: nothing else may be named."""


@pytest.fixture(scope="module")
def restored(
    server_16: PostgresEngine, sandbox_keys: SandboxKeys, store: BackupStore, keys: BackupKeys
) -> Iterator[tuple[Site, PostgresDatabase]]:
    """A hard database, restored; tests change copies of it."""
    site = Site(server_16, sandbox_keys, store, keys, 500)
    site.create_hard()
    component = site.dump()
    site.restore(component)
    yield site, component
    site.clean()


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_and_named(restored: tuple[Site, PostgresDatabase], change: str) -> None:
    site, component = restored
    statements, where = CHANGES[change]
    server = PostgresServer(url=SecretStr(site.engine.url()))
    with server.connect(site.staged, autocommit=False, settings=PINNED | {"search_path": "public"}) as connection:
        connection.execute(statements.encode())
        connection.execute("RESET ROLE; SET search_path = ''")
        found = {difference.where for difference in find_differences([connection], component)}
        connection.rollback()
        if change == "a sequence":  # the one thing that no rollback undoes
            connection.execute("SELECT setval('public.restarted', 42, false)")
            connection.commit()
    assert where in found
    if change in ALONE:
        assert found == {where}


def test_every_changed_property_of_the_database_is_named(site: Site) -> None:
    site.create()
    run_sql(site.engine, "postgres", f"COMMENT ON DATABASE {site.database} IS 'x'")
    run_sql(site.engine, "postgres", f"ALTER ROLE litellm IN DATABASE {site.database} SET work_mem TO '9MB'")
    component = site.dump()
    site.restore(component)
    assert site.compare(component) == []
    run_sql(
        site.engine,
        "postgres",
        f"""
        ALTER DATABASE {site.staged} CONNECTION LIMIT 5;
        GRANT CREATE ON DATABASE {site.staged} TO litellm;
        ALTER DATABASE {site.staged} OWNER TO litellm;
        ALTER DATABASE {site.staged} SET work_mem TO '8MB';
        ALTER ROLE litellm IN DATABASE {site.staged} RESET ALL;
        COMMENT ON DATABASE {site.staged} IS NULL;
        """,
    )
    changed = {"connection limit", "acl", "owner", "settings", "role settings", "comment"}
    assert {difference.where for difference in site.compare(component)} == {f"database {name}" for name in changed}


def test_a_difference_reads_as_one_line_with_both_sides(restored: tuple[Site, PostgresDatabase]) -> None:
    site, component = restored
    other = component.model_copy(update={"extensions": component.extensions | {"vector": "0.0.1"}})
    lines = [str(difference) for difference in site.compare(other)]
    assert lines == [f"postgres app_500: extension vector: expected 0.0.1, found {component.extensions['vector']}"]


@pytest.mark.parametrize(
    ("low", "high", "increment", "inside", "outside"),
    [
        (10, 10, 1, [10], [9, 11]),
        (10, 20, 1, [10, 15, 20], [9, 21]),
        (-10, -20, -5, [-10, -20], [-5, -25]),
        (95, 3, 1, [95, 100, 1, 3], [4, 94]),  # wrapped around
        (-95, 7, -1, [-96, -95, 7, 8], [-94, 6]),
    ],
)
def test_a_sequence_may_stand_only_where_it_was_during_the_dump(
    low: int, high: int, increment: int, inside: list[int], outside: list[int]
) -> None:
    bounds = SequenceBounds(name="s", low=low, high=high, increment=increment)
    assert [value for value in inside + outside if within(bounds, value)] == inside
