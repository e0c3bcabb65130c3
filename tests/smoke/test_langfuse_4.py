"""Langfuse 4 behind a LiteLLM whose `langfuse` callback it drops in silence: what a deploy configures instead brings traces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from pydantic import SecretStr

from flows.smoke.checks import run
from flows.smoke.targets import NAMES, SmokeTargets
from railway.services.images import defaults, version_of
from railway.services.litellm import configuration
from shared.sandbox.langfuse_double import LangfuseWeb, LangfuseWorker
from shared.sandbox.litellm_gateway import LiteLLMGateway
from shared.sandbox.stack import Sandbox
from tests.sandbox.langfuse import call

SKIP = tuple(name for name in NAMES if name not in ("completion", "trace"))


@pytest.fixture(scope="module")
def gateway(applications: Sandbox, langfuse_4: tuple[LangfuseWeb, LangfuseWorker]) -> Iterator[LiteLLMGateway]:
    """The real gateway with the configuration that a stack with Langfuse 4 gets."""
    web, stores = langfuse_4[0], langfuse_4[0].configuration.stores
    directory = applications.directory / "litellm-4"
    directory.mkdir()
    template = directory / "shipped.yaml"
    template.write_text(configuration(4, version_of(defaults(4)["litellm"])), encoding="utf-8")
    one = LiteLLMGateway(
        directory,
        master_key="sk-litellm-for-langfuse-4",
        salt_key="sk-salt",
        redis=applications.redis,
        langfuse={
            "LANGFUSE_PUBLIC_KEY": stores.public_key,
            "LANGFUSE_SECRET_KEY": stores.secret_key,
            "LANGFUSE_HOST": web.url,
            "LANGFUSE_OTEL_HOST": web.url,
        },
        template=template,
    )
    one.start(timeout=280)
    yield one
    one.stop()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_completion_is_a_trace_in_langfuse_4_by_the_callback_that_a_deploy_configures(
    gateway: LiteLLMGateway, langfuse_4: tuple[LangfuseWeb, LangfuseWorker]
) -> None:
    web, stores = langfuse_4[0], langfuse_4[0].configuration.stores
    settings = yaml.safe_load(gateway.directory.joinpath("config.yaml").read_text())["litellm_settings"]
    assert (settings["callbacks"], "success_callback" in settings) == (["langfuse_otel"], False)
    results = {
        result.name: result
        for result in run(
            SmokeTargets(
                litellm_url=gateway.url,
                litellm_key=SecretStr(gateway.master_key),
                langfuse_url=web.url,
                public_key=stores.public_key,
                secret_key=SecretStr(stores.secret_key),
                request_seconds=120,
                trace_seconds=120,
                skip=SKIP,
            )
        )
    }
    assert results["completion"].word == "ok", results["completion"].detail
    assert results["trace"].word == "ok", results["trace"].detail
    trace, said, _ = results["trace"].detail.partition(" in Langfuse 4.16.0 after")
    assert said
    observations = call(web, f"v2/observations?traceId={trace}").json()["data"]
    answered = [one for one in observations if one["type"] == "GENERATION"]
    assert {one["model"] for one in answered} == {results["completion"].detail.partition(":")[0]}
