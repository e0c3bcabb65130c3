"""Acknowledgements on the real Prefect server: who may be told of, who was first, what the command does, what is left."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.errors import GuardRefused, ServiceError
from blocks.object_store import BackupStore
from flows.health.acknowledging import acknowledge, forget, read_acknowledgements, variable_name, withdraw
from flows.health.flow import SweepRequest, health
from flows.health.incidents import Incident, key_of
from flows.health.ledger import fitting
from flows.health.memory import load_text, save_text
from flows.health.state import Episode, State, memory_name
from flows.lease import utc_now
from flows.runbook.acknowledge import main
from flows.runbook.audit import Trail, read
from flows.runbook.desk import Desk
from shared.engines.process import free_port
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.stack import Sandbox
from tests.patient import patient_client


class Site:
    """A stack of the test's own on the sandbox's Prefect server, with incidents that the sweeps remember."""

    def __init__(self, http: httpx.Client) -> None:
        self.http, self.stack = http, f"acked-{secrets.token_hex(4)}"
        self.now = utc_now()

    def open(self, *aspects: str) -> list[str]:
        """Have incidents of Redis be open; returns their keys."""
        episodes = []
        for aspect in aspects:
            key = key_of(self.stack, "redis", aspect, self.now)
            incident = Incident(
                key=key,
                stack=self.stack,
                service="redis",
                aspect=aspect,
                severity="critical",
                sentence="Redis does not answer",
                since=self.now,
                opened_at=self.now,
            )
            episodes.append(Episode(incident=incident, down=aspect == "ping", said_at=self.now))
        asyncio.run(save_text(memory_name(self.stack), State(stack=self.stack, episodes=tuple(episodes)).to_text()))
        return [one.incident.key for one in episodes]

    def known(self) -> dict[str, str]:
        """Who works on what, by the incident's key."""
        return {key: one.by for key, one in asyncio.run(read_acknowledgements(self.stack)).items()}

    def write(self, key: str, value: Any) -> None:
        self.http.post("/variables/", json={"name": variable_name(self.stack, key), "value": value}).raise_for_status()

    def clean(self) -> None:
        names = self.http.post("/variables/filter", json={"variables": {"name": {"like_": self.stack}}, "limit": 200}).json()
        for one in names:
            self.http.delete(f"/variables/name/{one['name']}")


@pytest.fixture
def site(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with patient_client(sandbox.prefect_api_url) as http, temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url}):
        made = Site(http)
        monkeypatch.setenv("STACK_NAME", made.stack)
        yield made
        made.clean()


def test_who_acknowledges_first_stays_until_it_is_withdrawn(site: Site) -> None:
    (key,) = site.open("ping")
    first = asyncio.run(acknowledge(site.stack, key, " ada \n lovelace "))
    again = asyncio.run(acknowledge(site.stack, fitting(key), "bob"))
    assert (first.changed, again.changed, again.incident) == (True, False, key)
    assert "ada lovelace is working on it already" in again.said
    assert site.known() == {key: "ada lovelace"}
    assert [asyncio.run(withdraw(site.stack, key)).changed for _ in range(2)] == [True, False]
    assert asyncio.run(acknowledge(site.stack, key, "bob")).changed
    assert site.known() == {key: "bob"}


def test_what_is_not_open_is_refused_and_another_stacks_words_are_not_ours(site: Site) -> None:
    (key,) = site.open("ping")
    other = key_of(site.stack, "redis", "memory", site.now)
    with pytest.raises(GuardRefused, match="is not open, or not any more"):
        asyncio.run(acknowledge(site.stack, other, "ada"))
    site.write(key, {"incident": key, "by": ""})  # edited by hand into something else
    assert site.known() == {}
    assert asyncio.run(acknowledge(site.stack, key, "ada")).changed, "what is damaged is written anew"
    neighbour = Site(site.http)
    neighbour.stack = f"{site.stack}x"
    assert neighbour.known() == {}
    assert asyncio.run(forget(site.stack, [key, other])) == 1
    assert site.known() == {}


def test_the_command_lists_acknowledges_and_withdraws(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (key,) = site.open("ping")
    assert main([]) == 0
    assert f"{key}  critical: Redis does not answer" in capsys.readouterr().out
    assert main([key, "--by", "ada"]) == 0
    assert site.known() == {key: "ada"}
    assert "acknowledged by ada" in capsys.readouterr().out
    assert main([key, "--withdraw"]) == 0
    assert site.known() == {}
    assert main([f"{site.stack}/redis/memory/20260101T000000Z"]) == 1
    assert "is not open" in capsys.readouterr().err


def test_what_people_said_is_in_the_audit_trail_once(site: Site, store: BackupStore) -> None:
    (key,) = site.open("ping")
    desk = Desk(site.stack, Trail(store).add)
    for by in ("slack U1", "pagerduty Ada"):
        asyncio.run(desk.acknowledge(key, by))
    asyncio.run(desk.withdraw(key, "ada"))
    found = read(store, site.now, utc_now() + timedelta(minutes=1), incident=key)
    assert [(one.kind, one.what, one.by, one.service) for one in found] == [
        ("decided", "acknowledge", "slack U1", "redis"),
        ("decided", "withdraw the acknowledgement", "ada", "redis"),
    ]


def test_a_prefect_server_that_is_gone_is_said_in_one_line() -> None:
    with (
        temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}),
        pytest.raises(ServiceError, match="is the Prefect server up"),
    ):
        asyncio.run(read_acknowledgements("nobody"))


@pytest.mark.long
def test_a_sweep_takes_an_acknowledgement_in_tells_it_and_forgets_it_with_the_incident(
    site: Site, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of Redis' incidents: it is down, so one goes on; nobody looks at the other one any more, and it is over."""
    down, gone = site.open("ping", "some-aspect")
    state = State.from_text(asyncio.run(load_text(memory_name(site.stack))), site.stack)
    first, second = state.episodes
    ended = second.model_copy(update={"missing": 1000})
    asyncio.run(save_text(memory_name(site.stack), state.model_copy(update={"episodes": (first, ended)}).to_text()))
    for key in (down, gone):
        asyncio.run(acknowledge(site.stack, key, "ada"))
    with AlertSinks() as sinks:
        for name, value in {**sandbox.environment(), **sinks.environment(), "STACK_NAME": site.stack}.items():
            monkeypatch.setenv(name, value)
        sandbox.redis.kill()
        try:
            asyncio.run(health(SweepRequest(dry_run=True)))
            assert site.known() == {down: "ada", gone: "ada"}, "a dry run forgets nothing"
            asyncio.run(health())
        finally:
            sandbox.redis.start()
    after = State.from_text(asyncio.run(load_text(memory_name(site.stack))), site.stack)
    assert [(one.key, one.acknowledged_by) for one in after.incidents if one.service == "redis"] == [(down, "ada")]
    assert site.known() == {down: "ada"}, "of the one that is over nothing is left"
