"""The outbox and channels in trouble: none holds up another one, and the others hear of it."""

from __future__ import annotations

import logging

import pytest
from pydantic import SecretStr

from blocks.alerts import Notice, Receipt, channels
from blocks.errors import DeliveryFailed
from blocks.settings import Settings
from flows.health.ledger import Outbox
from tests.health.mailboxes import Asked, Deaf, Mailbox, Pager
from tests.health.telling import KEY, World, happening


def test_one_channel_that_fails_holds_up_no_other() -> None:
    discord, slack = Deaf("discord"), Asked("slack")
    discord.moods.extend(["no connection"] * 3)
    world = World(discord, slack)
    world.sweep(happening("opened"))
    assert slack.ids(KEY) == ["opened/1"]
    assert discord.tries == 1
    for _ in range(3):
        world.sweep()
    assert discord.ids(KEY) == ["opened/1"]


def test_a_channel_that_is_half_configured_silences_no_other_and_hears_of_it_once_it_is_whole() -> None:
    pager = Pager("pagerduty", "critical")
    world = World(*channels(Settings(slack_bot_token=SecretStr("xoxb-1"))), pager)
    world.sweep(happening("opened"))
    assert pager.ids(KEY) == ["opened/1"]
    slack = Asked("slack")
    world.channels = (slack, pager)
    world.sweep()
    assert slack.ids(KEY) == ["opened/1"]
    world.sweep(happening("closed"))
    assert world.outbox == Outbox()


def test_a_mistake_in_one_channel_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Mailbox):
        def notify(self, notice: object) -> object:  # type: ignore[override]  # that is the mistake
            raise ZeroDivisionError

    slack = Asked("slack")
    with caplog.at_level(logging.WARNING):
        World(Broken("discord"), slack).sweep(happening("opened"))
    assert slack.ids(KEY) == ["opened/1"]
    assert "did not reach discord: discord: ZeroDivisionError" in caplog.text


def test_a_channel_that_asks_to_wait_is_left_alone_for_as_long() -> None:
    slack = Asked("slack")
    slack.moods.append("refuses now")  # 90 s
    world = World(slack)
    world.sweep(happening("opened"))
    world.sweep()
    assert slack.tries == 1
    world.sweep()
    assert slack.ids(KEY) == ["opened/1"]


def test_a_refusal_is_reported_on_the_other_channels_once_and_taken_back_when_it_ends() -> None:
    """Statuses of webhooks are checked, and somebody hears of it (defect 20)."""
    discord, slack, pager = Deaf("discord"), Asked("slack"), Pager("pagerduty", "critical")
    discord.moods.extend(["refuses"] * 3)
    world = World(discord, slack, pager)
    world.sweep(happening("opened"))
    world.sweep(happening("reminded", 1))
    world.sweep(happening("reminded", 2))
    about = [notice for notice in slack.got if notice.service == "alerts"]
    assert [(notice.kind, notice.aspect) for notice in about] == [("opened", "discord")]
    assert "404" in about[0].sentence
    assert world.outbox.unheard() == []
    assert [notice.service for notice in pager.got] == ["postgres"] * 3  # not worth waking anybody
    world.sweep(happening("reminded", 3))
    assert discord.ids(KEY) == ["reminded/3"]  # the first that arrives tells all of it
    assert discord.got[0].thread == ""
    assert [notice.kind for notice in slack.got if notice.service == "alerts"] == ["opened", "closed"]
    world.sweep(happening("closed"))
    assert discord.ids(KEY) == ["reminded/3", "closed/1"]
    assert world.outbox == Outbox()


def test_where_only_a_pager_is_left_it_hears_of_the_other_channels_trouble() -> None:
    discord, pager = Deaf("discord"), Pager("pagerduty", "critical")
    discord.moods.append("refuses")
    World(discord, pager).sweep(happening("opened"))
    assert [notice.service for notice in pager.got] == ["postgres", "alerts"]


def test_a_channel_that_does_not_answer_for_ten_minutes_is_reported_and_keeps_its_messages() -> None:
    discord, slack = Deaf("discord"), Asked("slack")
    discord.moods.extend(["no connection"] * 12)
    world = World(discord, slack)
    world.sweep(happening("opened"))
    for _ in range(9):
        world.sweep()
    assert [notice.service for notice in slack.got] == ["postgres"]
    world.sweep()
    assert [notice.service for notice in slack.got] == ["postgres", "alerts"]
    world.sweep()
    world.sweep()
    assert discord.ids(KEY) == ["opened/1"]
    assert slack.got[-1].kind == "closed"


def test_the_end_of_an_incident_that_is_refused_is_tried_again_and_its_refusal_said_once() -> None:
    slack, pager = Asked("slack"), Pager("pagerduty", "critical")
    world = World(slack, pager)
    world.sweep(happening("opened"))
    pager.moods.extend(["refuses", "fine", "refuses"])
    world.sweep(happening("closed"))
    other = "prod/redis/connect/20261124T030000Z"
    world.sweep(happening("opened", key=other))  # the channel takes messages, only not that one
    for _ in range(18):
        world.sweep()
    assert (pager.ids(KEY), pager.tries) == (["opened/1"], 4)
    world.sweep()
    assert pager.ids(KEY) == ["opened/1", "closed/1"]
    assert [notice.kind for notice in slack.got if notice.service == "alerts"] == ["opened", "closed"]
    world.sweep(happening("closed", key=other))
    assert world.outbox == Outbox()


def test_a_refused_end_of_what_nobody_heard_of_is_dropped() -> None:
    discord = Deaf("discord")
    discord.moods.extend(["refuses"] * 2)
    world = World(discord, Asked("slack"))
    world.sweep(happening("opened"))
    world.sweep(happening("closed"))
    assert [case for case in world.outbox.cases if case.key == KEY] == []


def test_a_message_that_a_channel_cannot_digest_holds_up_no_other_incident() -> None:
    class Choosy(Deaf):
        def notify(self, notice: Notice) -> Receipt:
            if notice.dedup_key == KEY:
                raise DeliveryFailed(f"{self.name}: answered 500")
            return super().notify(notice)

    discord, other = Choosy("discord"), "prod/redis/connect/20261124T030000Z"
    world = World(discord)
    world.sweep(happening("opened"))
    world.sweep(happening("opened", key=other))
    world.sweep(happening("closed", key=other))
    assert discord.ids(other) == ["opened/1", "closed/1"]


def test_a_lone_channel_that_refuses_is_unheard_of_and_asked_now_and_then_until_it_takes_messages() -> None:
    """Nobody else can be told: the sweep fails, and the heartbeat and the Prefect server say so."""
    discord = Deaf("discord")
    discord.moods.extend(["refuses"] * 2)
    world = World(discord)
    world.sweep(happening("opened"))
    assert ["404" in line for line in world.outbox.unheard()] == [True]
    world.sweep(happening("closed"))
    for _ in range(8):
        world.sweep()
    assert (discord.tries, len(world.outbox.unheard())) == (2, 1)
    world.sweep()
    assert world.outbox.unheard() == []
    assert [(notice.service, notice.kind) for notice in discord.got] == [("alerts", "opened"), ("alerts", "closed")]
    assert world.outbox == Outbox()


def test_two_channels_that_refuse_are_unheard_of_until_one_of_them_can_be_told() -> None:
    discord, slack = Deaf("discord"), Asked("slack")
    discord.moods.extend(["refuses"] * 2)
    slack.moods.extend(["fine", "refuses"])
    world = World(discord, slack)
    world.sweep(happening("opened"))
    assert len(world.outbox.unheard()) == 2  # each refused to hear of the other's trouble
    for _ in range(10):
        world.sweep()
    assert world.outbox.unheard() == []


def test_trouble_of_a_channel_that_is_no_longer_configured_is_over() -> None:
    discord, slack = Deaf("discord"), Asked("slack")
    discord.moods.append("refuses")
    world = World(discord, slack)
    world.sweep(happening("opened"))
    world.channels = (slack,)
    world.sweep(happening("closed"))
    world.sweep()
    assert [notice.kind for notice in slack.got if notice.service == "alerts"] == ["opened", "closed"]
    assert world.outbox == Outbox()
