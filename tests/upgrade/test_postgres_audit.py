"""Who uses a Postgres server, and what each variable becomes when it moves: decided on values alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.postgres import PostgresServer
from blocks.railway_api.models import Inventory, ServiceInstance, VolumeInstance
from flows.upgrade.postgres.address import Address, address_of, mentions, reached, swapped
from flows.upgrade.postgres.audit import Holder, audit, refers, repointed, strangers
from flows.upgrade.postgres.consumers import in_start_order
from flows.upgrade.postgres.ha import cluster_parts, guide_to_ha, refuse_cluster
from flows.upgrade.postgres.look import own_variables, with_aliases
from flows.upgrade.postgres.new_server import needed_variables

OLD = Address("postgres.railway.internal", service="postgres", aliases=frozenset({"roundhouse.proxy.rlwy.net:12345"}))
NEW = Address("postgres-18.railway.internal", service="postgres-18")
ELSEWHERE = Address("db.example.com", 6543, options=(("sslmode", "require"),))
URL = "postgresql://litellm:p%40ss@postgres.railway.internal:5432/litellm"


def holder(name: str, sealed: dict[str, tuple[str, ...]] | None = None, **raw: str) -> Holder:
    rendered = {key: text for key, text in raw.items() if "${{" not in text}
    return Holder(name, raw, rendered, sealed or {}, host=f"{name}.railway.internal")


def stack() -> list[Holder]:
    """Every way in which a service may be led to its database."""
    return [
        holder("shared", ANALYTICS="postgres://a:b@postgres.railway.internal/langfuse", STAGE="production"),
        holder("postgres", DATABASE_URL="postgresql://${{POSTGRES_USER}}@${{RAILWAY_PRIVATE_DOMAIN}}:5432/x", PGDATA="/data"),
        holder(
            "litellm", DATABASE_URL="postgresql://litellm:${{postgres.PW}}@${{postgres.RAILWAY_PRIVATE_DOMAIN}}:5432/litellm"
        ),
        holder("langfuse-web", DATABASE_URL=URL, DIRECT_URL=URL, SHADOW_DATABASE_URL=URL, NAME="postgres"),
        holder("langfuse-worker", DATABASE_URL="${{langfuse-web.DATABASE_URL}}"),
        holder("report", URL="${{shared.ANALYTICS}}", GREETING="postgres.railway.internalish, notpostgres.railway.internal"),
        holder("pgbouncer", DB_HOST="postgres.railway.internal", DB_PORT="5432"),
        holder("pooled", DATABASE_URL="postgres://u:p@pgbouncer.railway.internal:6432/litellm"),
        holder(
            "laptop", PUBLIC="postgresql://u:p@roundhouse.proxy.rlwy.net:12345/x", OTHER="http://roundhouse.proxy.rlwy.net:9"
        ),
        holder(
            "dsn", DSN="host=postgres.railway.internal port=5432 dbname=x", MIXED="${{postgres.PW}}@postgres.railway.internal"
        ),
        holder("redis", REDIS_URL="redis://:x@redis.railway.internal:6379"),
    ]


def test_every_variable_that_leads_to_the_server_is_found_whatever_it_is_called_and_however_it_is_written() -> None:
    found = audit(stack(), OLD)
    assert list(map(str, found.uses)) == [
        "shared.ANALYTICS (literal)",
        "litellm.DATABASE_URL (reference)",
        "langfuse-web.DATABASE_URL (literal)",
        "langfuse-web.DIRECT_URL (literal)",
        "langfuse-web.SHADOW_DATABASE_URL (literal)",
        "pgbouncer.DB_HOST (literal)",
        "laptop.PUBLIC (literal)",
        "dsn.DSN (literal)",
        "dsn.MIXED (both)",
    ]
    assert found.unreadable == ()


def test_services_that_get_their_access_through_others_count_as_consumers_too() -> None:
    assert audit(stack(), OLD).consumers == (
        "litellm",
        "langfuse-web",
        "langfuse-worker",
        "report",
        "pgbouncer",
        "laptop",
        "dsn",
    )


def test_sealed_variables_that_lead_there_or_may_are_named_and_a_person_can_say_that_one_does_not() -> None:
    sealed = {
        "TOKEN": (),
        "DATABASE_URL": (),
        "ANALYTICS_DATABASE_PASSWORD": (),
        "ODD": ("postgres.PW",),
        "THROUGH": ("litellm.DATABASE_URL",),
        "FINE_DATABASE_URL": ("redis.REDIS_URL",),
    }
    holders = [*stack(), holder("closed", sealed=sealed)]
    assert audit(holders, OLD).unreadable == ("closed.DATABASE_URL", "closed.ODD", "closed.THROUGH")
    assert audit(holders, OLD, knows=["closed.DATABASE_URL"]).unreadable == ("closed.ODD", "closed.THROUGH")


@pytest.mark.parametrize(
    ("raw", "to_service"),
    [
        ("${{postgres.DATABASE_URL}}?schema=x", "${{postgres-18.DATABASE_URL}}?schema=x"),
        ("${{ postgres.PW }}", "${{postgres-18.PW}}"),
        ("${{postgres-16.PW}}${{PW}}${{shared.PW}}", "${{postgres-16.PW}}${{PW}}${{shared.PW}}"),
        ("${{postgres.DATABASE_PUBLIC_URL}}", "${{postgres-18.DATABASE_URL}}"),
        (
            "u@${{postgres.RAILWAY_TCP_PROXY_DOMAIN}}:${{postgres.RAILWAY_TCP_PROXY_PORT}}",
            "u@${{postgres-18.RAILWAY_PRIVATE_DOMAIN}}:5432",
        ),
        (URL, URL.replace("postgres.railway", "postgres-18.railway")),
        ("postgresql://u:p@Roundhouse.proxy.rlwy.net:12345/x", "postgresql://u:p@postgres-18.railway.internal:5432/x"),
        ('{"db": "postgres.railway.internal:5432"}', '{"db": "postgres-18.railway.internal:5432"}'),
        ("host=postgres.railway.internal port=5432", "host=postgres-18.railway.internal port=5432"),
    ],
)
def test_references_stay_references_and_written_out_addresses_are_exchanged(raw: str, to_service: str) -> None:
    assert repointed(raw, raw, OLD, NEW) == to_service
    assert repointed(to_service, to_service, OLD, NEW) == to_service, "a second time nothing is left to change"


@pytest.mark.parametrize(
    ("raw", "rendered", "elsewhere"),
    [
        ("${{postgres.DATABASE_URL}}", URL, "postgresql://litellm:p%40ss@db.example.com:6543/litellm?sslmode=require"),
        (
            "x",
            "postgresql+asyncpg://u:p@postgres.railway.internal/x?a=b",
            "postgresql+asyncpg://u:p@db.example.com:6543/x?a=b&sslmode=require",
        ),
        ("${{postgres.RAILWAY_PRIVATE_DOMAIN}}", "postgres.railway.internal", "db.example.com"),
        ("${{postgres.PGPORT}}", "5432", "6543"),
        ("5432", "5432", "5432"),
        ("h", "host=postgres.railway.internal port=5432 user=u", "host=db.example.com port=6543 user=u"),
    ],
)
def test_where_the_new_server_is_no_service_values_are_written_out_with_its_port_and_what_its_url_asks(
    raw: str, rendered: str, elsewhere: str
) -> None:
    assert repointed(raw, rendered, OLD, ELSEWHERE) == elsewhere


def test_another_port_of_the_same_machine_and_longer_names_are_other_servers() -> None:
    local = address_of("postgresql://u:p@127.0.0.1:54321/postgres")
    assert mentions("postgres://a:b@127.0.0.1:54321/x", local)
    assert mentions("127.0.0.1", local), "a bare host may go together with a port elsewhere"
    for other in ("postgres://a:b@127.0.0.1:5432/x", "http://127.0.0.1/x", "postgres://a@127.0.0.1/x", "127.0.0.11:54321"):
        assert not mentions(other, local)
    assert not mentions("postgres://a@my-postgres.railway.internal:5432/x", OLD)
    assert not mentions("postgres://a@postgres.railway.internal.example.com:5432/x", OLD)


@given(user=st.text("abcXYZ09-_", min_size=1), database=st.text("abcXYZ09-_", min_size=1), port=st.integers(1, 65535))
def test_only_the_address_of_a_url_changes(user: str, database: str, port: int) -> None:
    old, new = Address("one.example.com", port), Address("two.example.com", 5433)
    url = f"postgresql://{user}:one@one.example.com:{port}/{database}"
    assert swapped(url, old, new) == f"postgresql://{user}:one@two.example.com:5433/{database}"
    assert swapped(swapped(url, old, new), new, old) == url


def test_a_stranger_that_answers_with_the_same_number_is_the_server_and_one_behind_a_pooler_is_left_alone() -> None:
    holders = [
        *stack(),
        holder("cname", URL="postgresql+psycopg://u:p@db.acme.example:5433/x", BACKUP="postgres://u:p@backup.example/x"),
    ]
    hosts = {one.host: one.name for one in holders}
    assert set(strangers(holders, OLD, hosts)) == {"db.acme.example:5433", "backup.example:5432"}
    asked: list[str] = []

    def ask(server: PostgresServer) -> str:
        asked.append(server.url.get_secret_value())
        return "7" if ":9/" in asked[-1] else "8"

    found = with_aliases(holders, OLD, "7", hosts, ["db.acme.example:5433=127.0.0.1:9"], ask=ask)
    assert found.aliases == OLD.aliases | {"db.acme.example:5433"}
    assert asked == ["postgresql://u:p@127.0.0.1:9/x", "postgres://u:p@backup.example/x"]
    assert "cname.URL (literal)" in map(str, audit(holders, found).uses)


def test_a_program_outside_the_private_network_goes_its_own_way() -> None:
    routes = ["postgres.railway.internal:5432=127.0.0.1:15432"]
    assert reached(URL, routes) == "postgresql://litellm:p%40ss@127.0.0.1:15432/litellm"
    assert reached("postgres://u@other.railway.internal/x", routes) == "postgres://u@other.railway.internal/x"


def test_a_new_service_gets_the_variables_of_the_old_one_and_refers_to_itself_where_that_did() -> None:
    raw = {
        "POSTGRES_PASSWORD": "secret",
        "DATABASE_URL": "postgresql://${{POSTGRES_USER}}@${{postgres.RAILWAY_PRIVATE_DOMAIN}}/${{shared.DB}}",
        "RAILWAY_SERVICE_ID": "the platform's",
        "RAILWAY_SHM_SIZE_BYTES": "536870912",
        "STACK_DEPLOYED": "a mark",
        "WAL_ARCHIVE_BUCKET": "of the old cluster",
    }
    assert needed_variables(raw, "postgres", "postgres-18") == {
        "POSTGRES_PASSWORD": "secret",
        "DATABASE_URL": "postgresql://${{POSTGRES_USER}}@${{postgres-18.RAILWAY_PRIVATE_DOMAIN}}/${{shared.DB}}",
        "RAILWAY_SHM_SIZE_BYTES": "536870912",
    }
    assert "STACK_DEPLOYED" not in own_variables(raw)


def test_consumers_start_in_the_projects_order_and_a_pooler_before_who_uses_it() -> None:
    known = ["redis", "litellm", "langfuse-web", "langfuse-worker"]
    holders = [
        holder("langfuse-worker", A="${{langfuse-web.KEY}}"),
        holder("litellm", DATABASE_URL="postgres://u@pgbouncer.railway.internal:6432/x"),
        holder("langfuse-web"),
        holder("pgbouncer", LOOP="${{litellm.X}}"),
    ]
    names = [one.name for one in holders]
    refer = {name: sorted(to) for name, to in refers(holders).items()}
    assert in_start_order(names, refer | {"pgbouncer": []}, known) == [
        "pgbouncer",
        "litellm",
        "langfuse-web",
        "langfuse-worker",
    ]
    assert sorted(in_start_order(names, refer, known)) == sorted(names), "a circle ends somewhere"


def inventory(*images: str, volumes: tuple[str, ...] = ()) -> Inventory:
    services = {
        image: ServiceInstance.model_validate(
            {"id": image, "serviceId": image, "serviceName": image, "source": {"image": image}}
        )
        for image in images
    }
    disks = tuple(
        VolumeInstance.model_validate(
            {"id": name, "volumeId": name, "mountPath": "/d", "sizeMB": 1, "currentSizeMB": 0, "volume": {"name": name}}
        )
        for name in volumes
    )
    return Inventory(environment_id="e", name="e", config_etag="", unmerged_changes=0, services=services, volumes=disks)


def test_railways_cluster_is_recognised_by_its_images_and_by_volumes_that_are_left_of_one() -> None:
    plain = inventory("ghcr.io/railwayapp-templates/postgres-ssl:16", "redis:8.2.1", volumes=("postgres-volume",))
    assert cluster_parts(plain) == []
    assert refuse_cluster("postgres", plain) == ""
    cluster = inventory("ghcr.io/railwayapp-templates/postgres-patroni:16", "ghcr.io/x/etcd:3.5", "haproxy:3.2")
    assert len(cluster_parts(cluster)) == 3
    assert "railway postgres ha convert" in refuse_cluster("postgres", cluster)
    assert cluster_parts(inventory("redis:8", volumes=("etcd-1-volume",))) == ["volume etcd-1-volume"]
    assert "railway postgres ha convert" in guide_to_ha("postgres")
