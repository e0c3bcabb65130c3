"""The reaper, against the real Prefect server: it crashes the silent, and only them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from blocks.errors import ServiceError
from blocks.settings import Settings
from railway.worker.prefect_http import FlowRun, PrefectHttp
from railway.worker.reaper import STARTING, Reaper, Silence, silence_of
from shared.engines.process import free_port, wait_until
from tests.worker.conftest import AUTH, POOL, Prefect

pytestmark = pytest.mark.long

NOW = datetime.now(UTC)


def _ages(*seconds: float) -> list[datetime]:
    return [NOW - timedelta(seconds=one) for one in seconds]


@pytest.mark.parametrize(
    ("state", "state_age", "beats", "stale"),
    [
        ("RUNNING", timedelta(hours=5), _ages(29, 59), False),
        ("RUNNING", timedelta(hours=5), _ages(149, 179), False),
        ("RUNNING", timedelta(hours=5), _ages(151, 181), True),
        ("RUNNING", timedelta(hours=5), _ages(590, 770), False),  # a worker with Prefect's default: one every 180 s
        ("RUNNING", timedelta(hours=5), _ages(610, 790), True),
        ("RUNNING", timedelta(hours=5), _ages(149, 149.01), False),  # sent again: no sign of a faster heart
        ("RUNNING", timedelta(hours=5), _ages(151, 151.01), True),
        ("RUNNING", timedelta(minutes=9), _ages(540), False),
        ("RUNNING", timedelta(minutes=11), _ages(660), True),
        ("RUNNING", timedelta(minutes=1), [], False),
        ("RUNNING", STARTING + timedelta(seconds=1), [], True),
        ("PENDING", timedelta(minutes=5), [], False),
        ("PENDING", STARTING + timedelta(seconds=1), [], True),
        ("CANCELLING", timedelta(seconds=5), _ages(3600, 3630), False),
    ],
)
def test_a_run_is_stale_by_its_own_last_signs(state: str, state_age: timedelta, beats: list[datetime], stale: bool) -> None:
    run = FlowRun(id="1", name="one", state_type=state, state_at=NOW - state_age)
    assert (silence_of(run, beats, NOW) is not None) is stale


def looks(*seconds: float, beats: list[datetime], away: tuple[float, ...] = ()) -> list[float]:
    """At which looks a run of old is given up. seconds: when each is, after NOW. away: at which the server does not answer."""
    silence, run = Silence(), FlowRun(id="1", name="one", state_type="RUNNING", state_at=NOW - timedelta(hours=5))
    given_up = []
    for second in seconds:
        now = NOW + timedelta(seconds=second)
        if second in away:
            silence.lost()
            continue
        silence.heard(now)
        if silence.of(run, [beat for beat in beats if beat <= now], now) is not None:
            given_up.append(second)
    return given_up


def test_after_the_start_a_silent_run_is_given_up_once_the_server_was_there_for_the_whole_limit() -> None:
    assert looks(0, 60, 120, 180, beats=_ages(600, 630)) == [180]


def test_a_server_that_was_away_must_be_back_for_as_long_before_silence_counts() -> None:
    assert looks(0, 60, 120, 180, 240, 300, 360, beats=_ages(0, 30), away=(60, 120, 180)) == []
    assert looks(0, 60, 120, 180, 240, 300, 360, 420, beats=_ages(0, 30), away=(60, 120, 180)) == [420]


def test_looks_that_are_far_apart_do_not_add_up() -> None:
    assert looks(0, 300, 600, 900, beats=_ages(600, 630)) == []
    assert looks(0, -3600, -3540, beats=_ages(9000, 9030)) == [], "the clock was put back"


def test_a_sign_between_two_looks_keeps_a_run() -> None:
    late = [NOW + timedelta(seconds=170), NOW + timedelta(seconds=140)]
    assert looks(0, 60, 120, 180, 240, beats=[*late, *_ages(140, 170)]) == []


def test_silent_runs_are_crashed_and_those_that_live_or_are_of_other_pools_are_not(prefect: Prefect) -> None:
    # Their states are of this very moment, so the reaper's clock is put forward; the living one's heart beats slowly.
    runs = {
        "silent": _run(prefect.http, "waiting/here", "RUNNING", 30),
        "living": _run(prefect.http, "waiting/here", "RUNNING", 180),
        "cancelling": _run(prefect.http, "waiting/here", "CANCELLING", 30),
        "elsewhere": _run(prefect.http, "waiting/elsewhere", "RUNNING", 30),
    }
    with PrefectHttp(Settings(prefect_api_url=prefect.server.api_url, prefect_api_auth_string=SecretStr(AUTH))) as api:
        wait_until(
            lambda: all(len(api.heartbeats(run)) == 2 for run in runs.values()), timeout=60, what="the events to be stored"
        )
        reaper, begun = Reaper(api, POOL), datetime.now(UTC)
        assert reaper.look(begun) == []
        assert reaper.look(begun + timedelta(seconds=100)) == []
        crashed = [name for seconds in (160, 210) for name in reaper.look(begun + timedelta(seconds=seconds))]
    states = {name: prefect.http.get(f"/flow_runs/{run}").json() for name, run in runs.items()}
    assert sorted(crashed) == sorted(states[name]["name"] for name in ("silent", "cancelling"))
    assert states["silent"]["state_type"] == "CRASHED"
    assert "silent for" in states["silent"]["state"]["message"]
    assert states["cancelling"]["state_type"] == "CANCELLED"
    assert {states[name]["state_type"] for name in ("living", "elsewhere")} == {"RUNNING"}


def test_a_server_that_does_not_answer_is_said_in_one_line() -> None:
    with PrefectHttp(Settings(prefect_api_url=f"http://127.0.0.1:{free_port()}/api")) as api:
        assert not api.is_ready()
        with pytest.raises(ServiceError, match="prefect-server: no answer"):
            Reaper(api, POOL).look()


def _run(prefect: httpx.Client, deployment: str, state: str, interval: float) -> str:
    """Make a run in a state, whose process has just given a sign, and one so many seconds before."""
    found = prefect.get(f"/deployments/name/{deployment}").raise_for_status().json()
    made = prefect.post(f"/deployments/{found['id']}/create_flow_run", json={"state": {"type": "PENDING"}}).raise_for_status()
    run_id = str(made.json()["id"])
    change = {"state": {"type": state, "name": state.title()}, "force": True}
    prefect.post(f"/flow_runs/{run_id}/set_state", json=change).raise_for_status()
    events = [
        {
            "id": str(uuid4()),
            "event": "prefect.flow-run.heartbeat",
            "occurred": (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(),
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run_id}"},
            "payload": {},
        }
        for ago in (interval, 0)
    ]
    prefect.post("/events", json=events).raise_for_status()
    return run_id
