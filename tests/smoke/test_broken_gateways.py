"""Gateways that do not do what they should: each is found, by the check whose business it is, with what to do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from flows.smoke.checks import run
from flows.smoke.checks import smoke as smoke_test
from flows.smoke.results import SmokeResult
from flows.smoke.targets import NAMES, SmokeTargets
from shared.engines.process import free_port
from tests.smoke.odd import COMPLETION, Odd, events


@pytest.fixture
def odd() -> Iterator[Odd]:
    with Odd() as server:
        yield server


def smoke(odd: Odd | str, **more: Any) -> dict[str, SmokeResult]:
    url = odd if isinstance(odd, str) else odd.url
    more.setdefault("skip", ("litellm-ui",))
    results = run(SmokeTargets(litellm_url=url, litellm_key=SecretStr("sk-master"), **more))
    assert [result.name for result in results] == list(NAMES)
    return {result.name: result for result in results}


def test_a_gateway_without_a_database_has_no_keys_and_no_spend_and_that_is_said(odd: Odd) -> None:
    results = smoke(odd)
    words = {name: result.word for name, result in results.items()}
    assert words == {
        "authentication": "ok",
        "completion": "ok",
        "streaming": "ok",
        "trace": "skipped",
        "virtual-key": "skipped",
        "spend": "skipped",
        "langfuse-ui": "skipped",
        "litellm-ui": "skipped",
    }
    assert "no database" in results["spend"].detail
    assert "no Langfuse URL given" in results["trace"].detail


def test_a_gateway_that_serves_everybody_is_found_without_paying_for_it(odd: Odd) -> None:
    odd.open = True
    found = smoke(odd)["authentication"]
    assert found.word == "failed"
    assert "/v1/models without a key answers 200, expected 401; set LITELLM_MASTER_KEY on the service at once" in found.detail
    assert all(body["messages"] for body in odd.asked("POST /v1/chat/completions") if body), "nothing was asked of a model"


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (events("one two"), "came in 1 piece(s), expected several"),
        (events("one ", "two", done=False), "broke off without [DONE]"),
        ('data: {"error": {"message": "overloaded, sk-proj-canarycanary"}}\n\n', "ends with an error"),
        ("data: <html>\n\n", "an event that is no JSON"),
        ({"choices": []}, "streams as application/json, expected text/event-stream"),
    ],
)
def test_a_bad_stream_is_found(odd: Odd, stream: object, said: str) -> None:
    odd.answers["STREAM"] = (200, stream)
    found = smoke(odd)["streaming"]
    assert found.word == "failed"
    assert said in found.detail
    assert "canary" not in found.detail


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {"error": {"message": "key=sk-master is dead"}}), "set LITELLM_MASTER_KEY to that of the service"),
        ((429, {"error": {"message": "Budget has been exceeded"}}), "a limit or a budget is used up"),
        ((500, {"error": {"message": "AuthenticationError: sk-proj-canarycanary"}}), "is the provider's key right"),
        ((200, {"choices": []}), "not with a chat completion"),
        ((200, ["odd"]), "not with JSON"),
        ((200, {**COMPLETION, "choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}), "no text at all"),
    ],
)
def test_a_completion_that_fails_says_what_to_do_and_the_rest_is_skipped(odd: Odd, answer: Any, said: str) -> None:
    odd.answers["POST /v1/chat/completions"] = answer
    results = smoke(odd)
    assert results["completion"].word == "failed"
    assert said in results["completion"].detail
    assert "sk-master" not in results["completion"].detail
    assert "canary" not in results["completion"].detail
    assert {results[name].word for name in ("streaming", "trace", "virtual-key", "spend")} == {"skipped"}
    assert len(odd.asked("POST /v1/chat/completions")) == 1, "it costs money, so it is not tried again"


def test_a_model_that_thought_until_its_tokens_were_used_up_has_answered(odd: Odd) -> None:
    choice = {"message": {"content": None}, "finish_reason": "length"}
    odd.answers["POST /v1/chat/completions"] = (200, {**COMPLETION, "choices": [choice]})
    assert smoke(odd)["completion"].word == "ok"


def test_a_gateway_without_a_chat_model_says_so(odd: Odd) -> None:
    odd.answers["GET /model/info"] = (200, {"data": []})
    assert "serves no chat model" in smoke(odd)["completion"].detail


def test_a_named_model_is_the_one_that_is_asked(odd: Odd) -> None:
    assert smoke(odd, model="gpt-x")["completion"].detail.startswith("gpt-x")
    assert {body["model"] for body in odd.asked("POST /v1/chat/completions") if body} == {"gpt-x"}


def test_a_key_that_could_not_be_used_is_deleted_all_the_same(odd: Odd) -> None:
    odd.answers["POST /key/generate"] = (200, {"key": "sk-virtual"})  # which the server then refuses
    odd.answers["POST /key/delete"] = (200, {"deleted_keys": []})
    found = smoke(odd)["virtual-key"]
    assert found.word == "failed"
    (made,) = odd.asked("POST /key/generate")
    assert odd.asked("POST /key/delete") == [{"key_aliases": [made["key_alias"]]}]
    assert (made["models"], made["duration"]) == (["m"], "10m")
    assert "may be left" not in found.detail


def test_a_key_that_could_not_be_deleted_is_named(odd: Odd) -> None:
    odd.answers["POST /key/generate"] = (200, {"key": "sk-virtual"})
    odd.answers["POST /key/delete"] = (500, {"error": {"message": "broken"}})
    (made,) = [smoke(odd)["virtual-key"].detail]
    assert odd.asked("POST /key/generate")[0]["key_alias"] in made
    assert "it expires in ten minutes, or delete it in LiteLLM" in made


def test_a_completion_that_is_recorded_as_free_is_found(odd: Odd) -> None:
    odd.answers["GET /spend/logs"] = (200, [{"spend": 0, "total_tokens": 5}])
    assert smoke(odd)["spend"].word == "ok", "nobody said that it costs something"
    odd.answers["GET /spend/logs"] = (200, [])
    late = smoke(odd, spend_seconds=0.3)["spend"]
    assert (late.word, late.seconds < 5) == ("failed", True)
    assert "disable_spend_logs" in late.detail
    odd.answers["GET /spend/logs"] = (200, {"error": "odd"})
    assert "not with a list of rows" in smoke(odd)["spend"].detail


def test_where_nobody_listens_every_check_ends_at_once() -> None:
    begun = time.monotonic()
    url = f"http://127.0.0.1:{free_port()}"
    results = smoke(url, langfuse_url=url, public_key="pk", secret_key=SecretStr("sk"), skip=())
    assert time.monotonic() - begun < 10
    assert {name for name, result in results.items() if result.word == "failed"} == {
        "authentication",
        "completion",
        "langfuse-ui",
        "litellm-ui",
    }
    assert results["completion"].detail == "no answer (ConnectError); is LiteLLM up, and LITELLM_URL right? read its log"


def test_an_error_of_the_database_is_no_lack_of_one(odd: Odd) -> None:
    odd.answers["POST /key/generate"] = (500, {"error": {"message": "out of disk"}})
    odd.answers["POST /key/delete"] = (404, {"error": {"message": "No keys found"}})
    found = smoke(odd)["virtual-key"]
    assert (found.word, "out of disk" in found.detail) == ("failed", True)


def test_nothing_of_prefect_is_needed() -> None:
    program = "import sys, flows.smoke.checks; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"


def test_a_test_that_is_cancelled_waits_until_its_key_is_deleted(odd: Odd) -> None:
    """The key was made, its answer never came; other checks, which have nothing to clean up, end at once meanwhile."""
    made, go_on, deleted = threading.Event(), threading.Event(), threading.Event()

    def generate(_body: object) -> dict[str, str]:
        made.set()
        go_on.wait(30)
        return {"key": "sk-too-late"}

    def delete(_body: object) -> dict[str, list[str]]:
        time.sleep(0.3)  # longer than any other check takes to end
        deleted.set()
        return {"deleted_keys": []}

    odd.answers |= {"POST /key/generate": (200, generate), "POST /key/delete": (200, delete), "GET /spend/logs": (200, [])}
    targets = SmokeTargets(litellm_url=odd.url, litellm_key=SecretStr("sk-master"), skip=("litellm-ui",))

    async def cancelled() -> None:
        running = asyncio.create_task(smoke_test(targets))
        await asyncio.to_thread(made.wait, 30)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert deleted.is_set()
        assert odd.asked("POST /key/delete") == [{"key_aliases": [odd.asked("POST /key/generate")[0]["key_alias"]]}]

    try:
        asyncio.run(cancelled())
    finally:
        go_on.set()
