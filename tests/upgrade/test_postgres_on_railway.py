"""A major upgrade on the sandbox's Railway: a real 16 and a real 18, each a service with a volume; references follow."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from blocks.errors import GuardRefused, UpgradeFailed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.railway_api.models import ServiceSettings
from blocks.settings import Settings
from flows.deploy.setup_postgres import Roles, create_roles_and_databases
from flows.deploy.standing_in import REPLACES
from flows.upgrade.postgres.carry import find, forget, undo, upgrade
from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.containers import Container, ContainerSpec
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from tests.deploy.quiet_runtime import QuietRuntime
from tests.upgrade.postgres_world import World, bin_dirs, environment_of, stand_in

pytestmark = pytest.mark.long

SIXTEEN = "ghcr.io/railwayapp-templates/postgres-ssl:16"
EIGHTEEN = "ghcr.io/railwayapp-templates/postgres-ssl:18"
PASSWORD = "canary0of0the0superuser"
WORDS = {name: f"canary0of0{name}" for name in ("litellm", "langfuse", "backup", "restore")}
VARIABLES = {
    "POSTGRES_USER": "postgres",
    "POSTGRES_PASSWORD": PASSWORD,
    "PGDATA": "/var/lib/postgresql/data/pgdata",
    "DATABASE_URL": "postgresql://${{POSTGRES_USER}}:${{POSTGRES_PASSWORD}}@${{RAILWAY_PRIVATE_DOMAIN}}:5432/postgres",
    "LITELLM_DB_PASSWORD": WORDS["litellm"],
    "LANGFUSE_DB_PASSWORD": WORDS["langfuse"],
}
HOST = "${{postgres.RAILWAY_PRIVATE_DOMAIN}}:5432"


@dataclass
class Half:
    """Postgres really runs; what uses it only comes up.

    Attributes:
        local, quiet: where the one and the other run.
    """

    local: LocalRuntime
    quiet: QuietRuntime = field(default_factory=QuietRuntime)

    def pull(self, image: str) -> str:
        return self.local.pull(image) if "postgres-ssl" in image else self.quiet.pull(image)

    def start(self, spec: ContainerSpec) -> Container:
        return self.local.start(spec) if "postgres-ssl" in spec.image else self.quiet.start(spec)

    def public_address(self, service: str, port: int) -> str:
        return self.local.public_address(service, port)

    def close(self) -> None:
        self.local.close()
        self.quiet.close()


@pytest.fixture
def runtime(state_directory: Path) -> Iterator[Half]:
    half = Half(LocalRuntime(state_directory / f"runtime-{secrets.token_hex(3)}"))
    yield half
    half.close()


@pytest.fixture
def world(store: BackupStore, keys: BackupKeys, runtime: Half, tmp_path: Path) -> Iterator[World]:
    """Postgres as the stack has it, LiteLLM by reference, Langfuse by a reference and by a literal, and the worker."""
    address = {name: runtime.public_address(name, 5432) for name in ("postgres", "postgres-18")}
    admin = PostgresServer(
        url=SecretStr(f"postgresql://postgres:{PASSWORD}@{address['postgres']}/postgres"), bin_dirs=bin_dirs()
    )
    settings = Settings(
        stack_name="sandbox",
        postgres_bin_dirs=bin_dirs(),
        railway_routes=[f"{name}.railway.internal:5432={here}" for name, here in address.items()],
        backup_lease_seconds=600,
        backup_lock_wait_seconds=60,
    )
    with stand_in(tmp_path, runtime) as railway:
        made = World(store, keys, railway, settings, admin)
        start_postgres(railway, address["postgres"])
        roles = Roles(
            {name: SecretStr(WORDS[name]) for name in ("litellm", "langfuse")},
            SecretStr(WORDS["backup"]),
            SecretStr(WORDS["restore"]),
        )
        create_roles_and_databases(admin.url, roles)
        with psycopg.connect(
            url(made, "litellm", f"postgresql://litellm:{WORDS['litellm']}@{{}}/litellm"), autocommit=True
        ) as it:
            it.execute("CREATE TABLE spend AS SELECT generate_series(1, 50) AS i")
        literal = f"postgresql://langfuse:{WORDS['langfuse']}@postgres.railway.internal:5432/langfuse"
        made.service("litellm", DATABASE_URL=f"postgresql://litellm:${{{{postgres.LITELLM_DB_PASSWORD}}}}@{HOST}/litellm")
        made.service(
            "langfuse-web",
            DATABASE_URL=f"postgresql://langfuse:${{{{postgres.LANGFUSE_DB_PASSWORD}}}}@{HOST}/langfuse",
            DIRECT_URL=literal,
        )
        made.service("prefect-worker", POSTGRES_BACKUP_URL=f"postgresql://backup:{WORDS['backup']}@{HOST}/postgres")
        yield made


def start_postgres(railway: RailwayStandIn, address: str) -> None:
    """Have a service `postgres`, as the stack has it, at an address of this machine."""
    with environment_of(railway).open() as api:
        service = api.create_service("postgres")
        api.set_variables(service, VARIABLES)
        api.create_volume(service, "/var/lib/postgresql/data")
        api.update_service(service, ServiceSettings(image=SIXTEEN, draining_seconds=60))
        api.wait_for_deployment(api.deploy(service), timeout=120, poll=0.05)
    server = PostgresServer(url=SecretStr(f"postgresql://postgres:{PASSWORD}@{address}/postgres"))
    wait_until(lambda: _answers(server), timeout=240, what="postgres")


def _answers(server: PostgresServer) -> bool:
    try:
        server.server_version()
    except Exception:  # noqa: BLE001 - it is not up yet, whatever it says
        return False
    return True


def url(world: World, _service: str, text: str) -> str:
    """A URL as this program reaches the old server."""
    return text.format(world.stack.settings.railway_routes[0].partition("=")[2])


def test_a_new_service_takes_over_references_and_literals_follow_an_undo_leads_back_and_what_is_kept_is_let_go_on_demand(
    world: World, runtime: Half
) -> None:
    before = world.variables()
    plan = world.plan(rehearse=True)
    assert (plan.old_major, plan.new_major, plan.new.service, plan.image) == (16, 18, "postgres-18", EIGHTEEN)
    assert [(one.service, one.protected) for one in plan.consumers] == [
        ("litellm", False),
        ("langfuse-web", False),
        ("prefect-worker", True),
    ]
    with pytest.raises(GuardRefused, match="16 runs already; another image of the same major"):
        world.plan(to="16")
    with pytest.raises(GuardRefused, match="the target is a 14 server and the old one a 16"):
        world.plan(to="14")
    with world.hands() as hands:
        journal = upgrade(hands, plan)
        variables = world.variables()
        assert variables["litellm"]["DATABASE_URL"] == before["litellm"]["DATABASE_URL"].replace(
            "{{postgres.", "{{postgres-18."
        )
        assert variables["langfuse-web"]["DIRECT_URL"] == before["langfuse-web"]["DIRECT_URL"].replace(
            "@postgres.", "@postgres-18."
        )
        assert "{{postgres-18." in variables["prefect-worker"]["POSTGRES_BACKUP_URL"]
        assert variables["postgres-18"] == {**before["postgres"], REPLACES: "postgres"}
        assert "@postgres-18.railway.internal:5432" in world.value("litellm", "DATABASE_URL")
        here = runtime.public_address("postgres-18", 5432)
        with psycopg.connect(f"postgresql://litellm:{WORDS['litellm']}@{here}/litellm", autocommit=True) as connection:
            assert connection.info.server_version // 10000 == 18
            assert connection.execute("SELECT count(*) FROM spend").fetchone() == (50,)
        undo(hands, journal)
        after = world.variables()
        assert after.pop("postgres-18")[REPLACES] == ""
        assert after == before
        assert world.railway.running("postgres")
        assert not world.railway.running("postgres-18")
        with psycopg.connect(url(world, "", f"postgresql://litellm:{WORDS['litellm']}@{{}}/litellm"), autocommit=True) as it:
            it.execute("INSERT INTO spend VALUES (51)")
        with pytest.raises(GuardRefused, match="a service of this name is there already"):
            world.plan()
        assert "postgres-18 and its volume are deleted" in forget(hands, find(world.stack, "latest", "forget"))
    assert "postgres-18" not in world.railway.service_names()
    plan = world.plan()
    with world.hands() as hands:
        journal = upgrade(hands, plan)
        assert "postgres and its volume are deleted" in forget(hands, journal, dry_run=True)
        forget(hands, journal)
        with pytest.raises(GuardRefused, match="forgotten"):
            undo(hands, journal)
    assert set(world.railway.service_names()) == {"postgres-18", "litellm", "langfuse-web", "prefect-worker"}
    with world.api() as api:
        assert [one.service_id for one in api.inventory().volumes] == [world.railway.service_id("postgres-18")]
    everything = "\n".join([*world.said, world.journals(), repr(plan)])
    assert PASSWORD not in everything
    assert not any(word in everything for word in WORDS.values())


def test_a_new_server_that_does_not_come_up_is_removed_and_nobody_has_noticed_anything(world: World, runtime: Half) -> None:
    before = world.variables()
    count = len(runtime.quiet.started)
    world.railway.refuse("the volume could not be made", field="volumeCreate")
    with world.hands() as hands, pytest.raises(UpgradeFailed, match="the volume could not be made") as failed:
        upgrade(hands, world.plan())
    assert failed.value.undone
    assert world.variables() == before
    assert len(runtime.quiet.started) == count
    with pytest.raises(GuardRefused, match="no upgrade 'latest' of Postgres to forget"):
        find(world.stack, "latest", "forget")
