"""LiteLLM and Langfuse: every answer that their checks tell apart, from a server that gives them, and from the stand-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.errors import AccessDenied, ServiceError, SettingsError
from blocks.langfuse import LangfuseWeb, LangfuseWorker
from blocks.litellm import LiteLLMGateway
from blocks.settings import Settings
from flows.health.observation import Status
from flows.health.targets import LiteLLM, Targets
from shared.engines.process import free_port
from tests.health.looks import CANARY, Scripted, Seen, look

KEY = SecretStr(f"sk-{CANARY}")


def details(**changes: Any) -> tuple[int, str]:
    described = {"status": "healthy", "litellm_version": "1.109.1", "cache": "redis", "success_callbacks": ["langfuse_otel"]}
    return 200, json.dumps(described | changes)


@pytest.fixture
def gateway() -> Iterator[Scripted]:
    """LiteLLM as it answers when all is well."""
    answers = {
        "/health/liveliness": (200, '"I\'m alive!"'),
        "/health/readiness": (200, '{"status":"connected","db":"connected"}'),
        "/v1/models": (401, "{}"),
        "/health/readiness/details": (401, "{}"),
        "/cache/ping": (401, "{}"),
    }
    with Scripted(answers) as server:
        server.keyed = {"/health/readiness/details": details(), "/cache/ping": (200, "{}"), "/v1/models": (200, '{"data":[]}')}
        yield server


@pytest.fixture
def langfuse() -> Iterator[Scripted]:
    answers = {
        "/api/public/health": (200, '{"status":"OK","version":"4.16.0"}'),
        "/api/public/ready": (200, "{}"),
        "/api/health": (200, '{"status":"ok"}'),
        "/api/ready": (200, "{}"),
    }
    with Scripted(answers) as server:
        yield server


def litellm(server: Scripted, langfuse: Scripted | None = None, *, key: SecretStr | None = KEY) -> Seen:
    target = LiteLLM(server.url, key, langfuse is not None, langfuse.url if langfuse else "")
    return look(Targets(litellm=target), "litellm")


def test_a_healthy_gateway_is_ok_and_never_asked_for_what_costs_money(gateway: Scripted, langfuse: Scripted) -> None:
    seen = litellm(gateway, langfuse)
    assert seen.bad() == {}
    assert sorted(seen) == ["authentication", "cache", "langfuse-callback", "liveness", "readiness", "version"]
    assert next(iter(seen)) == "liveness"
    assert "/health" not in gateway.asked
    assert not any(path.startswith("/health/services") for path in gateway.asked)


def test_readiness_is_judged_by_its_code_and_not_by_its_words(gateway: Scripted) -> None:
    gateway.answers["/health/readiness"] = (503, '{"status":"healthy"}')
    seen = litellm(gateway)
    assert seen.bad() == {"readiness": Status.DOWN}
    assert "not ready (HTTP 503)" in seen.sentence("readiness")
    gateway.answers["/health/readiness"] = (200, '{"status":"connected","db":"Not connected"}')
    assert litellm(gateway).bad() == {}


def test_a_gateway_that_serves_everybody_is_down_until_it_refuses_them(gateway: Scripted) -> None:
    guarded = "/health/readiness/details"
    gateway.answers[guarded] = details()
    seen = litellm(gateway)
    assert seen.bad() == {"authentication": Status.DOWN}
    assert "is unauthenticated" in seen.sentence("authentication")
    gateway.answers[guarded] = (500, "")
    assert litellm(gateway).bad() == {"authentication": Status.DEGRADED}
    gateway.answers[guarded] = (401, "")
    assert litellm(gateway).bad() == {}
    gateway.answers["/v1/models"] = (200, '{"data":[]}')
    assert litellm(gateway).bad() == {"authentication": Status.DOWN}, "public_routes can open it alone"


def test_one_sweep_an_hour_tries_to_list_the_models_since_langfuse_hears_of_each_refusal(gateway: Scripted) -> None:
    settings = Settings(litellm_url=gateway.url, check_interval=60)
    for minute, asked in ((0, True), (1, False), (59, False)):
        gateway.asked.clear()
        at = datetime(2026, 11, 25, 3, minute, 30, tzinfo=UTC)
        assert look(Targets.from_settings(settings, at), "litellm").bad() == {}
        assert ("/v1/models" in gateway.asked) is asked


@pytest.mark.parametrize("version", ["1.82.7", "1.82.8", "1.107.0"])
def test_a_compromised_release_is_down_until_another_is_deployed(gateway: Scripted, version: str) -> None:
    gateway.keyed["/health/readiness/details"] = details(litellm_version=version)
    seen = litellm(gateway)
    assert seen.bad() == {"version": Status.DOWN}
    assert f"LiteLLM {version} is a compromised release" in seen.sentence("version")
    gateway.keyed["/health/readiness/details"] = details()
    assert litellm(gateway).bad() == {}


def test_a_release_that_says_all_of_it_about_readiness_is_understood_too(gateway: Scripted) -> None:
    gateway.answers["/health/readiness"] = details(litellm_version="1.80.0", cache=None, success_callbacks=[])
    del gateway.keyed["/health/readiness/details"]
    gateway.answers["/health/readiness/details"] = (404, "")
    seen = litellm(gateway)
    assert seen.bad() == {}
    assert "1.80.0" in seen.sentence("version")
    gateway.answers["/v1/models"] = (200, '{"data":[]}')
    assert litellm(gateway).bad() == {"authentication": Status.DOWN}


def test_a_cache_that_is_away_is_degraded_and_none_is_not_looked_at(gateway: Scripted) -> None:
    gateway.keyed["/cache/ping"] = (503, "Service Unhealthy")
    assert litellm(gateway).bad() == {"cache": Status.DEGRADED}
    gateway.keyed["/health/readiness/details"] = details(cache=None)
    assert "cache" not in litellm(gateway)


def test_requests_that_nobody_traces_are_degraded_until_a_callback_is_there(gateway: Scripted, langfuse: Scripted) -> None:
    gateway.keyed["/health/readiness/details"] = details(success_callbacks=["prometheus"])
    seen = litellm(gateway, langfuse)
    assert seen.bad() == {"langfuse-callback": Status.DEGRADED}
    assert "no request is traced" in seen.sentence("langfuse-callback")
    assert "langfuse-callback" not in litellm(gateway), "without Langfuse in the stack there is nothing to trace to"
    gateway.keyed["/health/readiness/details"] = details(success_callbacks=["_PROXY_x", "LangfusePromptManagement"])
    assert litellm(gateway, langfuse).bad() == {}


def test_a_pair_of_versions_that_loses_every_trace_is_degraded(gateway: Scripted, langfuse: Scripted) -> None:
    gateway.keyed["/health/readiness/details"] = details(litellm_version="1.102.4", success_callbacks=["langfuse"])
    seen = litellm(gateway, langfuse)
    assert seen.bad() == {"langfuse-callback": Status.DEGRADED}
    assert "Langfuse 4.16.0 drops" in seen.sentence("langfuse-callback")
    langfuse.answers["/api/public/health"] = (200, '{"status":"OK","version":"3.225.4"}')
    assert litellm(gateway, langfuse).bad() == {}


def test_a_key_that_is_refused_is_unknown_and_without_one_the_rest_is_looked_at(gateway: Scripted) -> None:
    gateway.keyed["/health/readiness/details"] = (401, "{}")
    seen = litellm(gateway)
    assert seen.bad() == {"version": Status.UNKNOWN}
    assert "LITELLM_MASTER_KEY" in seen.sentence("version")
    assert sorted(litellm(gateway, key=None)) == ["authentication", "liveness", "readiness"]


def test_a_gateway_that_does_not_live_is_down_in_one_aspect(gateway: Scripted) -> None:
    gateway.answers["/health/liveliness"] = (502, "")
    seen = litellm(gateway)
    assert seen.bad() == {"liveness": Status.DOWN}
    assert list(seen) == ["liveness"]
    gateway.url = f"http://127.0.0.1:{free_port()}"
    seen = litellm(gateway)
    assert seen.bad() == {"liveness": Status.DOWN}
    assert "LiteLLM gateway refuses connections" in seen.sentence("liveness")


# --- Langfuse ----------------------------------------------------------------------------------------------------------------


def web(server: Scripted) -> Seen:
    return look(Targets(langfuse_web=server.url), "langfuse-web")


def worker(server: Scripted, web_url: str = "") -> Seen:
    return look(Targets(langfuse_worker=server.url, langfuse_web=web_url), "langfuse-worker")


def test_langfuse_web_is_asked_whether_it_reaches_its_database(langfuse: Scripted) -> None:
    assert web(langfuse).bad() == {}
    assert "/api/public/health?failIfDatabaseUnavailable=true" in langfuse.asked
    langfuse.answers["/api/public/health"] = (503, "{}")
    seen = web(langfuse)
    assert seen.bad() == {"health": Status.DOWN}
    assert "does not reach its Postgres" in seen.sentence("health")
    langfuse.answers["/api/public/health"] = (500, "{}")
    assert web(langfuse).bad() == {"health": Status.DOWN}


def test_langfuse_services_that_shut_down_are_degraded(langfuse: Scripted) -> None:
    langfuse.answers |= {"/api/public/ready": (500, "{}"), "/api/ready": (500, "{}")}
    assert web(langfuse).bad() == worker(langfuse).bad() == {"ready": Status.DEGRADED}
    langfuse.answers |= {"/api/public/ready": (200, "{}"), "/api/ready": (200, "{}")}
    assert web(langfuse).bad() == worker(langfuse).bad() == {}


def test_a_worker_without_its_stores_is_down(langfuse: Scripted) -> None:
    langfuse.answers["/api/health"] = (500, '{"status":"error"}')
    seen = worker(langfuse)
    assert seen.bad() == {"health": Status.DOWN}
    assert list(seen) == ["health"]


def test_a_worker_that_says_it_is_stuck_is_down_where_it_can_say_so(langfuse: Scripted) -> None:
    stuck = "/api/health?failIfQueueConsumptionStuck=true"
    langfuse.answers[stuck] = (503, "{}")
    assert worker(langfuse, langfuse.url).bad() == {"stuck-probe": Status.DOWN}
    langfuse.answers[stuck] = (200, "{}")
    assert worker(langfuse, langfuse.url).bad() == {}
    langfuse.answers["/api/public/health"] = (200, '{"version":"3.225.4"}')
    assert "stuck-probe" not in worker(langfuse, langfuse.url), "3.x ignores the question and says that it is well"


def test_web_and_worker_of_different_versions_are_degraded_where_the_worker_says_its_own(langfuse: Scripted) -> None:
    assert "version-skew" not in worker(langfuse, langfuse.url)
    langfuse.answers["/api/health"] = (200, '{"status":"ok","version":"4.15.0"}')
    seen = worker(langfuse, langfuse.url)
    assert seen.bad() == {"version-skew": Status.DEGRADED}
    assert "worker is 4.15.0, web is 4.16.0" in seen.sentence("version-skew")
    langfuse.answers["/api/health"] = (200, '{"status":"ok","version":"4.16.0"}')
    assert worker(langfuse, langfuse.url).bad() == {}


# --- the blocks ----------------------------------------------------------------------------------------------------------


def test_the_gateway_s_block_says_what_is_wrong(gateway: Scripted) -> None:
    block = LiteLLMGateway(url=gateway.url, master_key=KEY)
    block.check()
    assert block.version() == "1.109.1"
    gateway.keyed["/health/readiness/details"] = details(litellm_version="1.107.0")
    with pytest.raises(SettingsError, match=r"1\.107\.0 is compromised"):
        block.check()
    gateway.keyed["/v1/models"] = (401, "")
    with pytest.raises(AccessDenied, match="master key is refused"):
        block.check()
    gateway.answers["/v1/models"] = (200, "")
    with pytest.raises(SettingsError, match="without a key answers 200"):
        block.check()
    gateway.answers["/health/readiness"] = (503, "")
    with pytest.raises(ServiceError, match="not ready"):
        block.check()
    with pytest.raises(ServiceError, match="no answer"):
        LiteLLMGateway(url=f"http://127.0.0.1:{free_port()}", timeout=1).check()
    assert CANARY not in repr(block) + block.model_dump_json()


def test_langfuse_s_blocks_say_what_is_wrong(langfuse: Scripted) -> None:
    block, other = LangfuseWeb(url=langfuse.url, public_key="pk", secret_key=KEY), LangfuseWorker(url=langfuse.url)
    block.check()
    other.check()
    assert block.version() == "4.16.0"
    langfuse.keyed["/api/public/projects"] = (401, "")
    with pytest.raises(AccessDenied, match="LANGFUSE_PUBLIC_KEY"):
        block.check()
    langfuse.answers |= {"/api/public/health": (503, ""), "/api/health": (500, "")}
    with pytest.raises(ServiceError, match=r"langfuse-web: not well \(HTTP 503\)"):
        block.check()
    with pytest.raises(ServiceError, match=r"langfuse-worker: not well \(HTTP 500\)"):
        other.check()
    assert CANARY not in repr(block) + block.model_dump_json()
