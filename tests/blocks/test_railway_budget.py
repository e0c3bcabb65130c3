"""The rate limit is kept on this side, and what is left of it is kept for changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from blocks.errors import RateLimited
from blocks.railway_api.budget import Budget
from tests.blocks.railway_script import Script, api_of, environment


def told(limit: int, remaining: int, reset: str = "600") -> dict[str, str]:
    return {"x-ratelimit-limit": str(limit), "x-ratelimit-remaining": str(remaining), "x-ratelimit-reset": reset}


def test_before_the_first_answer_nothing_is_held_back() -> None:
    budget, begun = Budget(), time.monotonic()
    for _ in range(200):
        budget.take()
    assert time.monotonic() - begun < 5


def test_requests_are_spread_as_the_plan_allows_them_in_a_second() -> None:
    budget = Budget()
    budget.learn(told(1000, 900))
    begun = time.monotonic()
    for _ in range(15):
        budget.take()
    assert time.monotonic() - begun > 0.4, "ten at once, then ten a second"


def test_the_last_requests_of_an_hour_are_for_changes() -> None:
    budget = Budget(patience=1)
    budget.learn(told(1000, 51))
    budget.take()
    with pytest.raises(RateLimited, match="limit of 1000 requests an hour is used up; expected to go on in") as caught:
        budget.take()
    assert 300 < caught.value.retry_after <= 600
    budget.take(change=True)


def test_a_used_up_hour_refuses_changes_too_without_sending_them() -> None:
    budget = Budget(patience=1)
    budget.learn(told(1000, 0))
    with pytest.raises(RateLimited):
        budget.take(change=True)


def test_when_the_hour_is_over_it_goes_on() -> None:
    budget = Budget(patience=5)
    budget.learn(told(1000, 0, reset="0.2"))
    begun = time.monotonic()
    budget.take()
    assert time.monotonic() - begun > 0.15


@pytest.mark.parametrize(
    "written",
    [
        lambda moment: f"{(moment - datetime.now(UTC)).total_seconds():.0f}",
        lambda moment: f"{moment.timestamp():.0f}",
        lambda moment: f"{moment.timestamp() * 1000:.0f}",
        lambda moment: moment.isoformat(),
        format_datetime,
    ],
    ids=["seconds", "unix", "milliseconds", "iso", "http"],
)
def test_a_reset_is_understood_however_it_is_written(written: Callable[[datetime], str]) -> None:
    budget = Budget(patience=1)
    budget.learn(told(1000, 0, written(datetime.now(UTC) + timedelta(seconds=3000))))
    with pytest.raises(RateLimited) as caught:
        budget.take(change=True)
    assert 2500 < caught.value.retry_after <= 3001


@pytest.mark.parametrize("header", ["", "soon", "-5", "nan"])
def test_headers_that_are_nonsense_hold_nothing_up(header: str) -> None:
    budget, begun = Budget(), time.monotonic()
    budget.learn({"x-ratelimit-limit": header, "x-ratelimit-remaining": header, "x-ratelimit-reset": header})
    budget.learn({"x-ratelimit-limit": "10000", "x-ratelimit-remaining": header, "x-ratelimit-reset": header})
    budget.learn({"x-ratelimit-remaining": "9000"})
    for _ in range(20):
        budget.take()
    assert time.monotonic() - begun < 5


def test_looks_are_further_apart_when_little_is_left_of_the_hour() -> None:
    budget = Budget()
    assert budget.pace(5) == 5
    budget.learn(told(1000, 950))
    assert budget.pace(5) == 5
    budget.learn(told(1000, 80))
    assert 10 < budget.pace(5) <= 20
    budget.learn(told(1000, 50))
    assert budget.pace(5) == 60


def test_the_limit_is_learnt_from_the_answers() -> None:
    with Script({"Inventory": [environment()]}, headers=told(1000, 51)) as script, api_of(script, patience=1) as api:
        api.inventory()
        api.inventory()
        script.headers = told(1000, 50)
        api.inventory()
        with pytest.raises(RateLimited):
            api.inventory()
    assert len(script.asked) == 3
