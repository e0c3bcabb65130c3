"""table-owner on a real Postgres: what another role owns becomes the application's again, all of it or nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, GuardRefused, NotHealed, SettingsError
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from flows.health.targets import Postgres, Targets
from flows.runbook import ownership
from flows.runbook.frame import Action, RunbookRequest, Verdict
from flows.runbook.ownership import Give, Home, Stray, read_strays
from flows.runbook.table_owner import Application, Known, OwnerRequest, Owners, applications, decide
from shared.engines.postgres import PostgresEngine
from shared.engines.process import wait_until
from tests.forks import Forked
from tests.runbook.cases import IMPATIENT, Desk

TEAM = 'TABLE "LiteLLM_TeamTable"'
SCHEMA = """
SET ROLE {app};
CREATE TYPE "Kind" AS ENUM ('a');
CREATE TABLE "LiteLLM_TeamTable" (id serial PRIMARY KEY, kind "Kind", kinds "Kind"[]);
CREATE TABLE "LiteLLM_User""Table" (id text);
CREATE VIEW "MonthlySpend" AS SELECT id FROM "LiteLLM_TeamTable";
CREATE MATERIALIZED VIEW "Daily" AS SELECT id FROM "LiteLLM_TeamTable";
CREATE SEQUENCE numbers;
"""
OWNERS = """
SELECT relname::text, pg_get_userbyid(relowner)::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'S', 'f')
UNION ALL SELECT typname::text, pg_get_userbyid(typowner)::text FROM pg_type
WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd') ORDER BY 1
"""


class House:
    """A database whose owner is the application's role; roles and database have names of their own."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine, token = engine, secrets.token_hex(4)
        self.database, self.app, self.other, self.reader, self.small = (
            f"{one}_{token}" for one in ("owned", "app", "other", "reader", "small")
        )
        self.server = PostgresServer(url=SecretStr(engine.url()))
        for role in self.roles:
            self.run(f"CREATE ROLE {role} LOGIN PASSWORD 'x'", database="postgres")
        self.run(f"CREATE DATABASE {self.database} OWNER {self.app}", database="postgres")
        self.run(SCHEMA.format(app=self.app))
        self.run(f"GRANT CREATE, USAGE ON SCHEMA public TO {self.app}, {self.other}")

    @property
    def roles(self) -> tuple[str, ...]:
        return self.app, self.other, self.reader, self.small

    def close(self) -> None:
        self.run(f"DROP DATABASE {self.database} WITH (FORCE)", database="postgres")
        for role in self.roles:
            self.run(f"DROP ROLE {role}", database="postgres")

    def run(self, statement: str, database: str = "") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.engine.url(database or self.database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def take(self, *what: str, role: str = "") -> None:
        """Make things somebody else's."""
        for one in what:
            self.run(f"ALTER {one} OWNER TO {role or self.other}")

    def take_all(self) -> None:
        self.take(TEAM, 'TABLE "LiteLLM_User""Table"', 'VIEW "MonthlySpend"', 'MATERIALIZED VIEW "Daily"', "SEQUENCE numbers")
        self.take('TYPE "Kind"')

    def owners(self) -> dict[str, str]:
        return dict(self.run(OWNERS))

    def all_owners(self) -> set[str]:
        return set(self.owners().values())

    def may(self, role: str, table: str = '"LiteLLM_TeamTable"', privilege: str = "SELECT") -> bool:
        return bool(self.run(f"SELECT has_table_privilege('{role}', '{table}', '{privilege}')")[0][0])

    def runbook(self, at_work: str = "", *, role: str = "", service: str = "litellm") -> Owners:
        url = SecretStr(self.engine.url())
        targets = Targets(timeout=20, postgres=Postgres(url, ((service, self.database), ("other", "no_such_database"))))
        server = PostgresServer(url=SecretStr(self.engine.url(user=role, password="x"))) if role else self.server
        return Owners(server, Application(service, self.database), targets, lambda: at_work, reader=self.reader)

    def connected(self, role: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.engine.url(self.database, user=role, password="x"), autocommit=True)


@pytest.fixture
def house(postgres_engine: PostgresEngine) -> Iterator[House]:
    made = House(postgres_engine)
    yield made
    made.close()


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


def test_what_another_role_owns_is_given_back_once_a_person_approves(house: House, desk: Desk) -> None:
    assert desk.heal(house.runbook()) == "nothing to do"
    house.take_all()
    before = house.owners()
    assert desk.heal(house.runbook(), RunbookRequest(dry_run=True)) == "can heal"
    assert (house.owners(), desk.asked) == (before, []), "a dry run"
    with house.connected(house.app) as application, pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
        application.execute('ALTER TABLE "LiteLLM_TeamTable" ADD COLUMN x int')
    assert desk.heal(house.runbook()) == "healed"
    assert house.all_owners() == {house.app}
    with house.connected(house.app) as application:
        application.execute('ALTER TABLE "LiteLLM_TeamTable" ADD COLUMN x int')
        application.execute("ALTER TYPE \"Kind\" ADD VALUE 'b'")
    assert f"what {house.other} could do with them as their owner ends" in desk.asked[0]
    assert desk.heal(house.runbook()) == "nothing to do", "run twice"


def test_the_way_back_stands_in_the_audit_trail_and_leads_back_to_what_was_there(house: House, desk: Desk) -> None:
    house.take_all()
    house.run(f'GRANT SELECT, INSERT ON "LiteLLM_TeamTable" TO {house.app}')
    house.run(f'GRANT UPDATE ON "LiteLLM_TeamTable" TO {house.app} WITH GRANT OPTION')
    rights = "SELECT unnest(relacl)::text FROM pg_class WHERE relname = 'LiteLLM_TeamTable' ORDER BY 1"
    granted = [one for one in house.run(rights) if str(one[0]).startswith(house.app)]
    before = house.owners()
    assert desk.heal(house.runbook()) == "healed"
    (result,) = [one.result for one in desk.trail() if one.kind == "ended"]
    assert result.startswith(f"{house.app} owns 6 more; way back: ALTER ")
    assert result.partition("way back: ")[2] in desk.text()
    house.run(result.partition("way back: ")[2])
    assert house.owners() == before
    assert [one for one in house.run(rights) if str(one[0]).startswith(house.app)] == granted


def test_what_third_roles_were_granted_stays_and_the_backup_role_reads_what_it_read(house: House, desk: Desk) -> None:
    house.take(TEAM, 'TABLE "LiteLLM_User""Table"')
    house.run(f'GRANT SELECT, DELETE ON "LiteLLM_TeamTable" TO {house.small}')
    house.run(f"GRANT {house.other} TO {house.reader}")
    assert house.may(house.reader)
    assert desk.heal(house.runbook()) == "healed"
    assert (house.may(house.small), house.may(house.small, privilege="DELETE")) == (True, True)
    assert (house.may(house.reader), house.may(house.reader, privilege="INSERT")) == (True, False)
    assert house.may(house.reader, '"LiteLLM_User""Table"')
    assert not house.may(house.other), "it was its owner, and is that no more"


def test_a_role_that_could_not_read_before_is_granted_nothing(house: House, desk: Desk) -> None:
    house.take(TEAM)
    assert desk.heal(house.runbook()) == "healed"
    assert not house.may(house.reader)


def test_foreign_tables_other_schemas_and_members_of_extensions_are_left_alone(house: House, desk: Desk) -> None:
    house.run("CREATE SCHEMA elsewhere")
    house.run(
        "CREATE TABLE elsewhere.\"LiteLLM_Other\" (id int); CREATE TYPE mood AS ENUM ('x'); CREATE TABLE traces (mood mood)"
    )
    house.run("CREATE VIEW statistics AS SELECT 1 AS calls; ALTER EXTENSION plpgsql ADD VIEW statistics")
    before = house.owners()
    assert desk.heal(house.runbook()) == "nothing to do"
    house.take(TEAM)
    assert desk.heal(house.runbook()) == "healed"
    assert house.owners() == before
    house.run("ALTER EXTENSION plpgsql DROP VIEW statistics")


def test_in_langfuse_s_database_every_table_is_its_own(house: House, desk: Desk) -> None:
    house.run("CREATE TABLE traces (id int)")
    assert desk.heal(house.runbook()) == "nothing to do"
    assert desk.heal(house.runbook(service="langfuse-web")) == "healed"
    assert house.owners()["traces"] == house.app


def test_too_small_a_role_changes_nothing_and_has_the_statements_for_a_superuser(house: House, desk: Desk) -> None:
    house.take('TABLE "LiteLLM_User""Table"')
    statement = f'ALTER TABLE "public"."LiteLLM_User""Table" OWNER TO "{house.app}"'
    for membership, why in (("", f"nor a member of {house.other}"), (house.other, f"nor a member of {house.app}")):
        if membership:
            house.run(f"GRANT {membership} TO {house.small}")
        with pytest.raises(NotHealed) as error:
            desk.heal(house.runbook(role=house.small))
        assert f"{why}; as a superuser, in {house.database}: {statement}" in str(error.value)
    assert desk.asked == []
    house.run(statement)
    assert desk.heal(house.runbook(role=house.small)) == "nothing to do"


def test_a_member_of_both_roles_does_it_where_the_application_s_may_create_in_the_schema(house: House, desk: Desk) -> None:
    house.take(TEAM)
    house.run(f"GRANT {house.other}, {house.app} TO {house.small}")
    house.run(f"REVOKE CREATE ON SCHEMA public FROM {house.app}, PUBLIC")
    house.run("ALTER SCHEMA public OWNER TO CURRENT_USER")
    with pytest.raises(NotHealed, match=f"{house.app} may not create in the schema public; as a superuser"):
        desk.heal(house.runbook(role=house.small))
    house.run(f"GRANT CREATE ON SCHEMA public TO {house.app}")
    assert desk.heal(house.runbook(role=house.small)) == "healed"


def test_while_the_other_owner_uses_the_database_nothing_is_taken_from_it(house: House, desk: Desk) -> None:
    house.take(TEAM)
    with house.connected(house.other):
        with pytest.raises(NotHealed, match=f"{house.other} uses this database right now, and would lose its rights"):
            desk.heal(house.runbook())
        assert desk.asked == []
    wait_until(lambda: not _connected(house), timeout=20, what="the session to end")
    assert desk.heal(house.runbook()) == "healed"


def _connected(house: House) -> bool:
    return bool(house.run(f"SELECT 1 FROM pg_stat_activity WHERE usename = '{house.other}'"))


def test_without_approval_nothing_is_changed(house: House, desk: Desk) -> None:
    house.take(TEAM)
    before = house.owners()
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(house.runbook())
    assert house.owners() == before


def test_while_prisma_migrates_or_another_flow_works_nothing_is_changed(house: House, desk: Desk) -> None:
    house.take(TEAM)
    before = house.owners()
    (action,) = house.runbook().diagnose().actions
    with pytest.raises(NotHealed, match="backup is under way: wait for its end"):
        desk.heal(house.runbook(at_work="backup"))
    with psycopg.connect(house.engine.url(house.database)) as prisma:
        prisma.execute("SELECT pg_advisory_lock(72707369)")
        with pytest.raises(NotHealed, match="Prisma migrates right now"):
            desk.heal(house.runbook())
        with pytest.raises(GuardRefused, match="Prisma migrates it right now"):
            action.do()
    assert house.owners() == before


def test_where_one_table_stays_locked_none_is_changed(house: House, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_LOCK_SECONDS", 0.2)
    house.take_all()
    before = house.owners()
    with psycopg.connect(house.engine.url(house.database)) as busy:
        busy.execute('SELECT * FROM "LiteLLM_User""Table"')
        with pytest.raises(NotHealed, match=r'somebody uses LiteLLM_User"Table for longer than 0.2 s; nothing was changed'):
            desk.heal(house.runbook())
    assert house.owners() == before
    assert desk.heal(house.runbook()) == "healed"


def test_a_run_that_is_killed_in_the_middle_has_changed_nothing_and_is_run_again(house: House, desk: Desk) -> None:
    house.take_all()
    before = house.owners()
    waits = "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT l.granted AND d.datname = '{}'"
    with psycopg.connect(house.engine.url(house.database)) as busy:
        busy.execute('SELECT * FROM "LiteLLM_User""Table"')
        with Forked(lambda: desk.heal(house.runbook())) as process:
            wait_until(lambda: bool(house.run(waits.format(house.database))), timeout=60, what="the run to wait for a lock")
            process.kill()
    wait_until(lambda: not house.run(waits.format(house.database)), timeout=60, what="Postgres to notice")
    assert house.owners() == before
    assert desk.heal(house.runbook()) == "healed"
    assert house.all_owners() == {house.app}


def test_what_somebody_gave_back_meanwhile_is_not_done_again_and_what_came_meanwhile_is_not_touched(
    house: House, desk: Desk
) -> None:
    house.take(TEAM)
    (action,) = house.runbook().diagnose().actions
    house.take("SEQUENCE numbers")
    house.take(TEAM, role=house.app)
    assert action.needless() == f"{house.app} may alter all of them by now"
    with pytest.raises(GuardRefused, match="may alter all of them by now; nothing was changed"):
        action.do()
    assert house.owners()["numbers"] == house.other
    assert desk.heal(house.runbook()) == "healed"


def test_what_a_superuser_made_is_given_back_though_he_is_connected(house: House, desk: Desk) -> None:
    house.run('CREATE TABLE "LiteLLM_New" (id int)')
    with psycopg.connect(house.engine.url(house.database), autocommit=True):
        assert desk.heal(house.runbook()) == "healed"
    assert house.owners()["LiteLLM_New"] == house.app


def test_a_database_that_the_watch_leaves_alone_is_read_all_the_same(house: House, desk: Desk) -> None:
    house.take('TYPE "Kind"')
    runbook = replace(house.runbook(), targets=Targets())
    assert runbook.wrong() == [f"type Kind ({house.other}'s) in {house.database} is not the application's"]
    assert desk.heal(runbook) == "healed"


def test_each_application_has_a_run_of_its_own_where_it_has_a_database_of_its_own() -> None:
    settings, none = Settings(), Targets()
    url = SecretStr("postgresql://u@h/d")

    def services(targets: Targets, **request: object) -> list[str]:
        return [one.service for one in applications(OwnerRequest.model_validate(request), settings, targets)]

    assert services(none) == ["litellm", "langfuse-web"]
    assert services(Targets(postgres=Postgres(url, (("litellm", "litellm"),)))) == ["litellm"]
    assert services(none, application="langfuse") == ["langfuse-web"]
    shared = settings.model_copy(update={"langfuse_database": settings.litellm_database})
    with pytest.raises(SettingsError, match="run split-shared-database first"):
        applications(OwnerRequest(), shared, none)


HOME = Home("app", "restore", superuser=True, may_be=True, may_create=True)
ONE = Stray(1, "r", "LiteLLM_A", "other", above=False, mine=True)
SMALL = replace(HOME, superuser=False, may_be=False)


@pytest.mark.parametrize(
    ("known", "verdict", "words"),
    [
        (Known([], "litellm", HOME, []), Verdict.NOTHING, "app may alter everything of its own in litellm"),
        (Known(["bad"], "litellm", HOME, [ONE]), Verdict.HEALS, "are not app's: table LiteLLM_A (other's)"),
        (Known(["bad"], "litellm", HOME, [ONE], at_work="drill"), Verdict.PERSON, "drill is under way"),
        (Known(["bad"], "litellm", HOME, [ONE], migrates=True), Verdict.PERSON, "Prisma migrates right now"),
        (Known(["bad"], "litellm", HOME, [ONE], users=["other"]), Verdict.PERSON, "ALTER DATABASE litellm OWNER TO it"),
        (Known(["bad"], "litellm", SMALL, [ONE]), Verdict.PERSON, 'ALTER TABLE "public"."LiteLLM_A" OWNER TO "app"'),
        (Known(["bad"], "litellm", SMALL, [ONE] * 7), Verdict.PERSON, "and 2 more, in the artifact"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, words: str) -> None:
    given: list[Sequence[Stray]] = []

    def ladder(_: Home, strays: Sequence[Stray]) -> tuple[Action, ...]:
        given.append(strays)
        return ()

    found = decide(known, ladder)
    assert found.verdict is verdict, found.sentence
    assert words in found.sentence
    assert given == ([known.strays] if verdict is Verdict.HEALS else [])


def test_many_are_named_by_the_first_of_them() -> None:
    action = Give(PostgresServer(url=SecretStr("postgresql://u@h/d")), "litellm", True, HOME, [ONE] * 7)
    assert action.describe().endswith("and 2 more in litellm to app")


def test_names_are_quoted() -> None:
    one = replace(ONE, name='a"; DROP TABLE b; --', granted=(("SELECT", True),))
    assert one.give('r"').as_string() == 'ALTER TABLE "public"."a""; DROP TABLE b; --" OWNER TO "r"""'
    assert [each.as_string().split(" ON ")[0] for each in one.back("app")][1:] == ["GRANT SELECT"]
    assert isinstance(one.give("x"), sql.Composed)


def test_types_are_read_by_the_tables_that_use_them(house: House) -> None:
    house.take('TYPE "Kind"')
    with house.server.connect(house.database) as connection:
        assert [one.words for one in read_strays(connection, True)] == [f"type Kind ({house.other}'s)"]
