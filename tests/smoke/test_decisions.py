"""What the smoke test decides without a network: which model, how long to wait, what may be shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from flows.smoke.models import Offer, cheapest, offers
from flows.smoke.results import SmokeResult, clean, verdict
from flows.smoke.targets import SmokeTargets, trace_seconds


def entry(name: str, prompt: float | None = None, completion: float | None = None, mode: str | None = "chat") -> dict[str, Any]:
    info = {"input_cost_per_token": prompt, "output_cost_per_token": completion, "mode": mode}
    return {"model_name": name, "model_info": info}


def test_the_cheapest_model_is_asked() -> None:
    found = offers([entry("dear", 1e-5, 3e-5), entry("cheap", 1e-7, 4e-7), entry("free?"), entry("mini", 2e-7, 1e-7)])
    chosen = cheapest(found)
    assert chosen is not None
    assert chosen.name == "mini"
    assert chosen.price == pytest.approx(20 * 2e-7 + 32 * 1e-7)


def test_a_model_is_as_dear_as_its_dearest_deployment() -> None:
    found = offers([entry("a", 1e-7, 1e-7), entry("a", 9e-5, 9e-5), entry("b", 1e-6, 1e-6)])
    assert cheapest(found) == found[1]
    assert found[0].price == pytest.approx(52 * 9e-5)


def test_a_model_without_a_price_is_the_last_resort_and_free_ones_the_first() -> None:
    assert cheapest(offers([entry("b"), entry("a")])) == Offer("a", None)
    assert cheapest(offers([entry("unknown"), entry("own", 0.0, 0.0), entry("cheap", 1e-9, 1e-9)])) == Offer("own", 0.0)
    assert cheapest([]) is None


def test_only_what_can_be_asked_for_a_chat_is_an_offer() -> None:
    listed = [entry("openai/*", 0, 0), entry("voice", 0, 0, "audio_speech"), entry("", 0, 0), entry("old", 0, 0, None), {}]
    assert [offer.name for offer in offers(listed)] == ["old"]


@pytest.mark.parametrize(
    ("at", "seconds"),
    [("12:00", 60), ("23:43", 60), ("23:44", 75), ("23:59", 75), ("00:00", 75), ("00:15", 75), ("00:16", 60)],
)
def test_a_trace_may_take_longer_around_midnight(at: str, seconds: float) -> None:
    now = datetime.strptime(f"2026-11-25 {at} +0000", "%Y-%m-%d %H:%M %z")
    assert trace_seconds(now, dual=False) == seconds


def test_in_dual_mode_a_trace_takes_minutes() -> None:
    assert trace_seconds(datetime.now(UTC), dual=True) == 900


def test_somebody_elses_words_are_shown_without_keys_on_one_line() -> None:
    said = clean("Incorrect API key: sk-proj-abc***xyz,\nsee https://...; canary-1 " + "x" * 400, ["canary-1"])
    assert said.startswith("Incorrect API key: ***, see https://...; *** x")
    assert len(said) == 300


def test_a_verdict_counts() -> None:
    traced = SmokeResult(name="trace", word="ok", seconds=1, detail="")
    results = [traced, SmokeResult(name="spend", word="skipped", seconds=1, detail="")]
    assert verdict(results) == "1 of 2 checks ok, skipped: spend"


def test_targets_show_no_secret_and_want_urls() -> None:
    targets = SmokeTargets(litellm_url="http://h:1/", litellm_key=SecretStr("sk-canary"), secret_key=SecretStr("sk-lf-canary"))
    assert targets.litellm_url == "http://h:1"
    assert "canary" not in repr(targets)
    with pytest.raises(ValidationError, match=r"expected http\(s\)://host") as caught:
        SmokeTargets(litellm_url="sk-canary", litellm_key=SecretStr("k"))
    assert "canary" not in str(caught.value)
