"""A project is put together for a template, on the sandbox's Railway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.errors import GuardRefused, SettingsError
from blocks.settings import Settings
from flows.deploy.asked import stack_of
from flows.templates.flow import TemplateRequest, configure, order_of, place_of, plan_for
from shared.sandbox.railway_api import RailwayStandIn
from tests.deploy.quiet_runtime import QuietRuntime

IMAGE = "ghcr.io/acme/stack-operations:0.1.0"
REQUEST = TemplateRequest(images={"prefect-worker": IMAGE}, variant="starter")


@pytest.fixture
def runtime() -> QuietRuntime:
    """Where nothing may be started."""
    return QuietRuntime()


@pytest.fixture
def railway(tmp_path: Path, runtime: QuietRuntime) -> Iterator[RailwayStandIn]:
    """An empty project."""
    with RailwayStandIn(tmp_path, runtime) as made:
        yield made


def settings_for(railway: RailwayStandIn) -> Settings:
    """As on the worker of another project."""
    return Settings(
        railway_api_token=SecretStr(railway.token("workspace")),
        railway_api_url=railway.url,
        railway_project_id="the stack's own",
    )


def request_for(railway: RailwayStandIn) -> TemplateRequest:
    """A template in the empty project."""
    return REQUEST.model_copy(update={"project_id": railway.project_id, "environment_id": railway.environment_id})


def test_everything_is_configured_nothing_started_and_a_template_made(railway: RailwayStandIn, runtime: QuietRuntime) -> None:
    request = request_for(railway)
    order = order_of(stack_of(request, "shop"), request)
    with place_of(settings_for(railway), request).open() as api:
        configure(api, plan_for(api, order))
        assert set(railway.service_names()) == set(order.stack.services)
        assert plan_for(api, order).actions == ()
        assert api.variables(railway.service_id("postgres"))["POSTGRES_PASSWORD"].startswith("${{secret(")
        assert api.generate_template()["code"]
    assert runtime.started == []


def test_a_project_in_which_something_else_is_is_refused(railway: RailwayStandIn) -> None:
    request = request_for(railway)
    order = order_of(stack_of(request, "shop"), request)
    with place_of(settings_for(railway), request).open() as api:
        api.create_service("metabase")
        with pytest.raises(GuardRefused, match="there is metabase, expected an empty project"):
            plan_for(api, order)


def test_the_stacks_own_project_is_refused(railway: RailwayStandIn) -> None:
    own = settings_for(railway).model_copy(update={"railway_project_id": railway.project_id})
    with pytest.raises(GuardRefused, match="the stack's own project"):
        place_of(own, request_for(railway))


def test_without_an_image_of_the_worker_it_says_what_to_build() -> None:
    request = REQUEST.model_copy(update={"images": {}})
    with pytest.raises(SettingsError, match="build railway/worker/Dockerfile"):
        order_of(stack_of(request, "shop"), request)
