"""Whose is what in a shared database, which variables change and to what, and names that are exchanged all at once or not."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from blocks.errors import GuardRefused, RestoreFailed
from blocks.postgres import PostgresServer
from flows.runbook.split_names import Renames, exchange
from flows.runbook.split_tables import Content, is_shared, read_content, shares_of
from flows.runbook.split_variables import Names, changes_of, leads_to, pointed
from flows.upgrade.postgres.address import Address
from flows.upgrade.postgres.audit import Holder
from flows.upgrade.postgres.moving import aside
from shared.engines.postgres import PostgresEngine

TABLES = ("LiteLLM_SpendLogs", "LiteLLM_UserTable", "projects", "organizations", "api_keys", "_prisma_migrations")
VIEWS = {"spend": {"LiteLLM_SpendLogs"}, "spend_of_spend": {"spend"}, "people": {"organizations"}, "nothing": set[str]()}
SERVER = Address("postgres.railway.internal", 5432, "postgres")
NAMES = Names("both", "litellm", "langfuse")
URL = "postgresql://app:p%40ss@postgres.railway.internal:5432"


def test_litellm_has_what_is_called_so_and_what_reads_it_langfuse_the_rest_and_the_ledger_is_boths() -> None:
    assert is_shared(TABLES)
    assert not is_shared(["LiteLLM_UserTable", "_prisma_migrations"])
    assert not is_shared(["projects", "organizations", "api_keys"])
    litellm, langfuse = shares_of(Content(TABLES, VIEWS))
    assert (litellm.tables, litellm.views) == (("LiteLLM_SpendLogs", "LiteLLM_UserTable"), ("spend", "spend_of_spend"))
    assert (langfuse.tables, langfuse.views) == (("api_keys", "organizations", "projects"), ("nothing", "people"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Content(TABLES, {"both": {"LiteLLM_UserTable", "projects"}}), "the view both reads tables of both"),
        (Content(TABLES, {}, [("LiteLLM_UserTable", "projects")]), "refers to projects by a foreign key"),
        (Content(TABLES, {}, elsewhere=["other.t"]), "other.t: tables outside `public`"),
        (Content(TABLES, {}, failed=["2026_x"]), "the migration 2026_x has failed, and would stop both"),
    ],
)
def test_what_nobody_can_tell_apart_is_refused(content: Content, reason: str) -> None:
    with pytest.raises(GuardRefused, match=rf"^split-shared-database: nothing was changed: .*{reason}"):
        shares_of(content)


def holder(name: str, **variables: str | tuple[str, str]) -> Holder:
    """One with variables as they are rendered, or as (raw, rendered)."""
    pairs = {key: (text, text) if isinstance(text, str) else text for key, text in variables.items()}
    return Holder(name, {key: raw for key, (raw, _) in pairs.items()}, {key: text for key, (_, text) in pairs.items()})


WHOLE = "${{postgres.DATABASE_URL}}"
PARTS = "postgresql://${{postgres.PGUSER}}:${{postgres.PGPASSWORD}}@${{postgres.RAILWAY_PRIVATE_DOMAIN}}:5432"


def test_each_application_is_led_to_its_own_and_references_stay_where_they_can() -> None:
    found = [
        holder("postgres", DATABASE_URL=f"{URL}/both", POSTGRES_DB="both"),
        holder("LiteLLM", DATABASE_URL=(f"{PARTS}/both?connection_limit=5", f"{URL}/both?connection_limit=5")),
        holder(
            "langfuse-web",
            DATABASE_URL=(WHOLE, f"{URL}/both"),
            DIRECT_URL=(f"{PARTS}/${{{{postgres.POSTGRES_DB}}}}", f"{URL}/both"),
        ),
        holder("langfuse-worker", DATABASE_URL=f"{URL}/both", DATABASE_NAME="both", TITLE="both", OTHER=f"{URL}/elsewhere"),
        holder("redis", REDIS_URL="redis://redis:6379"),
        holder("prefect-worker", POSTGRES_BACKUP_URL=f"{URL}/both", POSTGRES_DATABASES="both, more", LITELLM_DATABASE="both"),
    ]
    assert changes_of(found, SERVER, NAMES) == {
        "LiteLLM": {"DATABASE_URL": f"{PARTS}/litellm?connection_limit=5"},
        "langfuse-web": {"DATABASE_URL": f"{URL}/langfuse", "DIRECT_URL": f"{PARTS}/langfuse"},
        "langfuse-worker": {"DATABASE_URL": f"{URL}/langfuse", "DATABASE_NAME": "langfuse"},
        "prefect-worker": {
            "POSTGRES_BACKUP_URL": f"{URL}/postgres",
            "POSTGRES_DATABASES": "more,litellm,langfuse",
            "LITELLM_DATABASE": "litellm",
            "LANGFUSE_DATABASE": "langfuse",
        },
    }


def test_a_service_that_nobody_knows_or_an_application_that_leads_elsewhere_is_refused() -> None:
    both = [holder("litellm", DATABASE_URL=f"{URL}/both"), holder("langfuse-web", DATABASE_URL=f"{URL}/both")]
    with pytest.raises(GuardRefused, match="metabase: DATABASE_URL leads to both, too"):
        changes_of([*both, holder("metabase", DATABASE_URL=f"{URL}/both")], SERVER, NAMES)
    with pytest.raises(GuardRefused, match=r"langfuse: no variable of it leads to both.*pooler"):
        changes_of([both[0], holder("langfuse-web", DATABASE_URL="postgresql://x:y@pgbouncer:6432/both")], SERVER, NAMES)


@pytest.mark.parametrize(
    ("raw", "rendered", "new"),
    [
        (f"{URL}/both", f"{URL}/both", f"{URL}/new"),
        (f"{URL}/both?a=/both", f"{URL}/both?a=/both", f"{URL}/new?a=/both"),
        (WHOLE, f"{URL}/both?sslmode=require", f"{URL}/new?sslmode=require"),
        ("${{X}}://${{Y}}/both", f"{URL}/both", "${{X}}://${{Y}}/new"),
        ("both", "both", "new"),
    ],
)
def test_only_the_database_changes_in_a_value(raw: str, rendered: str, new: str) -> None:
    assert pointed(raw, rendered, "both", "new") == new


def test_a_url_leads_there_only_with_that_host_and_that_database() -> None:
    assert leads_to(f"{URL}/both?x=1", SERVER, "both")
    assert not leads_to(f"{URL}/both2", SERVER, "both")
    assert not leads_to("postgresql://a:b@other:5432/both", SERVER, "both")
    assert not leads_to("both", SERVER, "both")


# --- on a server ---------------------------------------------------------------------------------------------------------


class Site:
    """Databases with names of their own, all gone afterwards."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.mark = secrets.token_hex(3)
        self.engine, self.server = engine, aside(PostgresServer(url=SecretStr(engine.url())))
        self.admin = psycopg.connect(engine.url(), autocommit=True)

    def name(self, short: str) -> str:
        return f"{short}_{self.mark}"

    def create(self, *names: str) -> None:
        for one in names:
            self.admin.execute(f"CREATE DATABASE {self.name(one)}".encode())

    def there(self) -> dict[str, bool]:
        rows = self.admin.execute("SELECT datname, datallowconn FROM pg_database WHERE datname LIKE %s", [f"%{self.mark}%"])
        return {str(name).partition("_")[0]: bool(allowed) for name, allowed in rows}

    def exchange(self, *pairs: tuple[str, str], opened: tuple[str, ...] = ()) -> None:
        named = Renames([(self.name(one), self.name(other)) for one, other in pairs])
        exchange(self.server, named, opened=[self.name(one) for one in opened])


@pytest.fixture
def site(postgres_engine: PostgresEngine) -> Iterator[Site]:
    made = Site(postgres_engine)
    yield made
    for name in made.there():
        made.admin.execute(f"DROP DATABASE {made.name(name)} WITH (FORCE)".encode())
    made.admin.close()


PAIRS = (("both", "kept"), ("one", "litellm"), ("two", "langfuse"))


def test_names_are_exchanged_all_at_once_whoever_is_connected_and_a_second_time_changes_nothing(site: Site) -> None:
    site.create("both", "one", "two")
    with psycopg.connect(site.engine.url(site.name("both"))) as connection:
        connection.execute("SELECT 1")
        site.exchange(*PAIRS, opened=("litellm", "langfuse"))
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert site.there() == {"kept": False, "litellm": True, "langfuse": True}
    site.exchange(*PAIRS, opened=("litellm", "langfuse"))
    assert site.there() == {"kept": False, "litellm": True, "langfuse": True}


def test_a_process_that_died_with_the_databases_closed_or_before_they_were_opened_is_followed_by_one_that_finishes(
    site: Site,
) -> None:
    site.create("both", "one", "two")
    site.admin.execute(f"ALTER DATABASE {site.name('both')} ALLOW_CONNECTIONS false".encode())
    site.exchange(*PAIRS)
    assert site.there() == {"kept": False, "litellm": False, "langfuse": False}
    site.exchange(*PAIRS, opened=("litellm", "langfuse"))
    assert site.there() == {"kept": False, "litellm": True, "langfuse": True}


def test_where_a_copy_is_missing_nothing_is_renamed(site: Site) -> None:
    site.create("both", "one")
    with pytest.raises(RestoreFailed, match=r"there is no database two_\w+ to rename; nothing was renamed"):
        site.exchange(*PAIRS)
    assert site.there() == {"both": True, "one": True}


def test_a_catalogue_is_read_as_it_is(site: Site) -> None:
    site.create("both")
    with psycopg.connect(site.engine.url(site.name("both")), autocommit=True) as connection:
        for statement in (
            'CREATE TABLE "LiteLLM_A" (id int PRIMARY KEY); CREATE TABLE projects (id int PRIMARY KEY)',
            'CREATE TABLE "LiteLLM_B" (id int REFERENCES "LiteLLM_A", at date) PARTITION BY RANGE (at)',
            """CREATE TABLE part PARTITION OF "LiteLLM_B" FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')""",
            'CREATE VIEW v AS SELECT * FROM "LiteLLM_A"; CREATE MATERIALIZED VIEW m AS SELECT * FROM v',
            "CREATE SCHEMA other; CREATE TABLE other.t ()",
            "CREATE TABLE _prisma_migrations (migration_name text, finished_at date, rolled_back_at date)",
            "INSERT INTO _prisma_migrations VALUES ('done', now(), NULL), ('broken', NULL, NULL), ('back', NULL, now())",
        ):
            connection.execute(statement.encode())
        found = read_content(connection)
    assert list(found.tables) == ["LiteLLM_A", "LiteLLM_B", "_prisma_migrations", "projects"]
    assert found.views == {"v": {"LiteLLM_A"}, "m": {"v"}}
    assert ("LiteLLM_B", "LiteLLM_A") in found.links
    assert (list(found.elsewhere), list(found.failed)) == (["other.t"], ["broken"])
