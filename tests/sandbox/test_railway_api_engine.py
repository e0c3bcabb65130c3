"""The Railway stand-in with real containers: an upgrade through it upgrades something that runs, and holds data."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from railway.variants import build
from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.long
def test_redis_keeps_its_data_over_an_upgrade_and_a_vanished_image_is_an_outage_until_the_rollback(tmp_path: Path) -> None:
    runtime = LocalRuntime(tmp_path / "containers")
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=PATIENT) as railway:
        operator = Operator(railway)
        wanted = build().services["redis"]
        variables = {"REDIS_PASSWORD": "canary-redis"}
        settings = {"startCommand": wanted.start_command, "drainingSeconds": wanted.draining_seconds}
        _, service = operator.service(wanted.image, name="redis", variables=variables, volume=True, **settings)
        operator.deployed(service)
        operator.commit({"services": {service: {"networking": {"tcpProxies": {"6379": {}}}}}})
        opened = operator.deployments(service)[0]["id"]
        assert operator.settled(opened) == "SUCCESS"
        document = "query($e: String!, $s: String!) { tcpProxies(environmentId: $e, serviceId: $s) { domain proxyPort } }"
        proxy = operator.ask(document, e=railway.environment_id, s=service)[0]
        client = redis.Redis(host=proxy["domain"], port=proxy["proxyPort"], password="canary-redis")
        wait_until(lambda: _answers(client), timeout=20, what="Redis to answer")
        client.set("key", "value")

        operator.set_image(service, "redis:8.2.3")
        good = operator.deployed(service)
        wait_until(lambda: _answers(client), timeout=20, what="the new Redis to answer")
        assert client.get("key") == b"value"

        operator.set_image(service, "bitnami/redis:7.2")
        operator.deployed(service, expected="FAILED")
        assert not _answers(client)
        operator.act("deploymentRollback", good)
        assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
        wait_until(lambda: _answers(client), timeout=20, what="the old Redis to answer")
        assert client.get("key") == b"value"
        client.close()
        operator.close()
    assert not _answers(client)
