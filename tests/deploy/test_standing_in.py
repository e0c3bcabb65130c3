"""A service that stands in another's place since an upgrade: a deploy leads nobody back, and makes no empty one there."""

from __future__ import annotations

from pathlib import Path

from flows.deploy.standing_in import REPLACES, renamed, standing_in
from railway.stack import Reference
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from tests.deploy.quiet_runtime import QuietRuntime
from tests.deploy.stacks import ORDER

IMAGE = "ghcr.io/railwayapp-templates/postgres-ssl:18"


def test_what_is_said_of_the_old_service_is_meant_of_the_new_one() -> None:
    found = renamed(ORDER, "postgres", "postgres-18", IMAGE)
    assert "postgres" not in found.stack.services
    assert found.stack.services["postgres-18"].image == IMAGE
    assert found.stack.services["litellm"].needs == ("postgres-18", "redis")
    url = found.stack.services["litellm"].variables["DATABASE_URL"]
    assert url == Reference("postgresql://litellm:${{postgres-18.LITELLM_DB_PASSWORD}}@postgres-18.railway.internal/litellm")
    assert found.stack.services["redis"] == ORDER.stack.services["redis"]
    setup = found.setup
    assert setup is not None
    assert (setup.home, setup.holders) == ("postgres-18", ("postgres-18",))
    assert dict(setup.variables)["SETUP_POSTGRES_URL"] == "${{postgres-18.URL}}"
    assert list(found.stack.services).index("postgres-18") == list(ORDER.stack.services).index("postgres")
    assert found.stack.start_order().index("postgres-18") < found.stack.start_order().index("litellm")


def test_an_order_is_about_the_service_that_says_so_and_about_the_old_one_where_it_was_led_back(tmp_path: Path) -> None:
    with RailwayStandIn(tmp_path, QuietRuntime()) as railway:
        environment = railway_block(railway)
        with environment.open() as api:
            for name in ("postgres", "postgres-18", "somebody's"):
                api.create_service(name)
            new = api.inventory().services["postgres-18"].service_id
            assert standing_in(api, ORDER) == ORDER
            api.set_variables(new, {REPLACES: "postgres"})
            api.set_image(new, IMAGE)
            found = standing_in(api, ORDER)
            assert found == renamed(ORDER, "postgres", "postgres-18", IMAGE)
            assert standing_in(api, found) == found
            api.set_variables(new, {REPLACES: ""})
            assert standing_in(api, ORDER) == ORDER
