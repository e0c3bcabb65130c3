"""The look at images as the worker makes it: Railway's services, the registries, people's channels and the Prefect server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from blocks.errors import DeliveryFailed, ServiceError
from flows.images import tasks
from flows.images.flow import ImagesRequest, images
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Pace
from shared.sandbox.railway_runtime.catalogue import Catalogue
from shared.sandbox.railway_runtime.registry import IMAGES
from shared.sandbox.registry import RegistryDouble
from shared.sandbox.stack import Sandbox
from tests.deploy.quiet_runtime import QuietRuntime

pytestmark = pytest.mark.long

STACK = "pictures"


class Site:
    """A stack on the sandbox's Railway, registries of its own, and people."""

    def __init__(self, sandbox: Sandbox, railway: RailwayStandIn, registry: RegistryDouble, catalogue: Catalogue) -> None:
        self.sandbox, self.railway, self.registry, self.catalogue = sandbox, railway, registry, catalogue
        self.place = railway_block(railway)

    def configure(self, **services: str) -> None:
        """Give services of the project their images, making those that are not there."""
        with self.place.open() as api:
            there = {one.name: one.service_id for one in api.inventory().services.values()}
            for name, image in services.items():
                api.set_image(there.get(name) or api.create_service(name), image)

    def artifact(self) -> str:
        """What the run published."""
        return self.sandbox.artifact(f"images-{STACK}") or ""


@pytest.fixture(scope="module")
def sinks() -> Iterator[AlertSinks]:
    with AlertSinks() as running:
        yield running


@pytest.fixture
def site(sandbox: Sandbox, sinks: AlertSinks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    catalogue = Catalogue(IMAGES)
    railway = RailwayStandIn(tmp_path, QuietRuntime(), pace=Pace(build=0.0, poll=0.01))
    with railway, RegistryDouble(catalogue) as registry:
        made = Site(sandbox, railway, registry, catalogue)
        told = {
            "STACK_NAME": STACK,
            "REGISTRY_URL": registry.url,
            "SLACK_BOT_TOKEN": sinks.environment()["SLACK_BOT_TOKEN"],
            "SLACK_CHANNEL": sinks.environment()["SLACK_CHANNEL"],
            "SLACK_API_URL": sinks.environment()["SLACK_API_URL"],
            "RAILWAY_API_URL": railway.url,
            "RAILWAY_API_TOKEN": railway.token("workspace"),
            "RAILWAY_PROJECT_ID": railway.project_id,
            "RAILWAY_ENVIRONMENT_ID": railway.environment_id,
        }
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(tasks, "WAITS_S", (0.0,))
        sinks.clear()
        with temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield made


def texts(sinks: AlertSinks) -> list[str]:
    return [str(message["text"]) for message in sinks.slack.messages]


def test_what_is_gone_or_has_a_hole_is_told_once_and_its_end_too(site: Site, sinks: AlertSinks) -> None:
    site.configure(redis="redis:8.2.1", clickhouse="clickhouse/clickhouse-server:26.4.5.143", postgres="minio/minio:latest")
    assert images(ImagesRequest(dry_run=True)), "it looks"
    assert texts(sinks) == [], "and tells nobody"
    found = images()
    assert any("CVE-2025-49844" in one and "upgrade/redis to 8.2.3" in one for one in found)
    assert any("minio/minio:latest cannot be pulled" in one for one in found)
    assert len(found) == 2
    told = len(texts(sinks))
    assert told == 2
    assert "| clickhouse | clickhouse/clickhouse-server:26.4.5.143 | there |" in site.artifact()
    images()
    assert len(texts(sinks)) == told, "once"
    site.configure(redis="redis:8.2.3", postgres="ghcr.io/railwayapp-templates/postgres-ssl:16")
    assert images() == []
    assert any("recovered" in text for text in texts(sinks)[told:])


def test_a_registry_that_does_not_answer_and_a_channel_that_does_not_listen_make_the_run_fail(
    site: Site, sinks: AlertSinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.configure(redis="redis:8.2.2")
    monkeypatch.setenv("REGISTRY_URL", "http://127.0.0.1:9")
    with pytest.raises(ServiceError, match=r"nobody knows about redis: registry docker\.io: no answer"):
        images()
    monkeypatch.setenv("REGISTRY_URL", site.registry.url)
    sinks.disturb("slack", "error", times=9)
    with pytest.raises(DeliveryFailed, match="slack did not take 1 messages"):
        images()
    sinks.calm()
    images()
    assert any("8.2.3" in text for text in texts(sinks)), "it stayed owed"
