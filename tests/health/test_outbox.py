"""The outbox: every alert arrives, once where the channel allows it, in order, whatever fails and whenever the sender dies."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flows.health.ledger import Case, Outbox
from flows.health.outbox import deliver
from flows.health.owing import owe_run
from tests.health.mailboxes import Asked, Deaf, Died, Mailbox, Mood, Pager
from tests.health.telling import KEY, LINKS, T0, World, happening


def test_everything_is_told_in_order_and_forgotten() -> None:
    slack, pager = Asked("slack"), Pager("pagerduty", "critical")
    world = World(slack, pager)
    world.sweep(happening("opened"))
    world.sweep()
    world.sweep(happening("reminded"), happening("escalated", escalated=True))
    world.sweep(happening("closed"))
    assert slack.ids(KEY) == pager.ids(KEY) == ["opened/1", "reminded/1", "escalated/1", "closed/1"]
    assert [notice.thread for notice in slack.got] == ["", "ts-1", "ts-1", "ts-1"]
    assert world.outbox == Outbox()


def test_a_happening_that_is_handed_in_again_is_not_told_again() -> None:
    slack = Asked("slack")
    world = World(slack)
    world.sweep(happening("opened"))
    world.sweep(happening("opened"), happening("reminded", 2))
    world.sweep(happening("reminded", 1), happening("reminded", 2))
    assert slack.ids(KEY) == ["opened/1", "reminded/2"]


def test_after_the_third_failing_round_an_alert_is_sent_at_once() -> None:
    """The predecessor's 50 failing rounds made no alert, because the round before was bad too (defect 19)."""
    slack = Asked("slack")
    world = World(slack)
    world.sweep(happening("opened"))
    for number in range(1, 48):
        world.sweep(*([happening("reminded", number // 15)] if number % 15 == 0 else []))
    assert slack.ids(KEY) == ["opened/1", "reminded/1", "reminded/2", "reminded/3"]


@pytest.mark.parametrize("died", ["dies before", "dies after", "lost answer"])
@pytest.mark.parametrize(("kind", "times"), [(Asked, 1), (Pager, 1), (Deaf, 2)])
def test_a_restart_between_sending_and_noting_loses_nothing_and_doubles_only_where_nobody_can_tell(
    died: Mood, kind: type[Mailbox], times: int
) -> None:
    channel = kind("x")
    channel.moods.append(died)
    world = World(channel)
    try:
        world.sweep(happening("opened"))
    except Died:
        assert died != "lost answer"
    world.sweep()
    world.sweep()
    assert channel.ids(KEY) == ["opened/1"] * (1 if died == "dies before" else times)
    assert channel.asked == (1 if kind is Asked else 0)


def test_below_a_channels_severity_nothing_is_told_until_an_escalation_lifts_it() -> None:
    slack, pager = Asked("slack"), Pager("pagerduty", "critical")
    world = World(slack, pager)
    world.sweep(happening("opened", severity="error"))
    world.sweep(happening("reminded", severity="error"))
    assert pager.got == []
    world.sweep(happening("escalated", severity="error", escalated=True))
    world.sweep(happening("closed", severity="error", escalated=True))
    assert pager.ids(KEY) == ["escalated/1", "closed/1"]
    assert pager.got[0].severity == "critical"


def test_a_warning_that_was_never_paged_is_not_resolved_there_either() -> None:
    pager = Pager("pagerduty", "critical")
    world = World(pager)
    world.sweep(happening("opened", severity="warning"))
    world.sweep(happening("closed", severity="warning"))
    assert pager.tries == 0
    assert world.outbox == Outbox()


def test_what_was_over_before_it_could_be_told_is_told_once_and_pages_nobody() -> None:
    discord, pager = Deaf("discord"), Pager("pagerduty")
    discord.moods.extend(["no connection"] * 3)
    pager.moods.extend(["no connection"] * 3)
    world = World(discord, pager)
    world.sweep(happening("opened"))
    world.sweep(happening("reminded"))
    world.sweep(happening("closed"))
    world.sweep()
    assert discord.ids(KEY) == ["closed/1"]
    assert discord.got[0].late
    assert pager.got == []
    assert world.outbox.cases == ()


@pytest.mark.parametrize("arrived", [True, False])
def test_what_was_over_before_it_was_known_to_be_told_is_ended_everywhere(arrived: bool) -> None:
    slack, pager = Asked("slack"), Pager("pagerduty")
    for channel in (slack, pager):
        channel.moods.append("lost answer" if arrived else "dies before")
    world = World(slack, pager)
    try:
        world.sweep(happening("opened"))
    except Died:
        assert not arrived
    slack.moods.clear()
    pager.moods.clear()
    world.sweep(happening("closed"))
    assert slack.ids(KEY) == (["opened/1", "closed/1"] if arrived else ["closed/1"])
    assert slack.got[-1].late is not arrived
    assert pager.ids(KEY)[-1] == "closed/1"  # a resolve for what is not open changes nothing


def test_three_reminders_at_once_are_one() -> None:
    slack = Asked("slack")
    world = World(slack)
    world.sweep(happening("opened"))
    slack.moods.extend(["no connection"] * 3)
    for number in (1, 2, 3):
        world.sweep(happening("reminded", number))
    world.sweep()
    assert slack.ids(KEY) == ["opened/1", "reminded/3"]


def test_an_incident_with_an_endless_key_is_told_under_a_shorter_one_from_its_start_to_its_end() -> None:
    slack, pager = Asked("slack"), Pager("pagerduty")
    world = World(slack, pager)
    keys = [f"prod/postgres/{'x' * 400}{number}/20261124T030000Z" for number in (1, 2)]
    world.sweep(*(happening("opened", key=key) for key in keys))
    world.sweep(*(happening("closed", key=key) for key in keys))
    for channel in (slack, pager):
        assert len({notice.dedup_key for notice in channel.got}) == 2
        assert len({notice.id for notice in channel.got}) == 4
        assert max(len(notice.id) for notice in channel.got) <= 255
    assert world.outbox == Outbox()


def test_a_channel_that_is_new_hears_of_an_open_incident_with_its_next_reminder() -> None:
    world = World()
    world.sweep(happening("opened"))
    discord = Deaf("discord")
    world.channels = (discord,)
    world.sweep(happening("reminded"))
    world.sweep(happening("closed"))
    assert discord.ids(KEY) == ["reminded/1", "closed/1"]


def test_a_day_after_its_end_an_incident_is_not_told_any_more() -> None:
    discord = Deaf("discord")
    discord.moods.extend(["no connection"] * 5)
    world = World(discord)
    world.sweep(happening("opened"))
    world.sweep(happening("closed"))
    world.now += timedelta(days=1)
    world.sweep()
    world.sweep()
    assert discord.got == []


def test_nothing_is_sent_that_could_not_be_noted_first() -> None:
    slack = Asked("slack")

    def full(outbox: Outbox) -> None:
        raise OSError

    with pytest.raises(OSError):
        deliver(Outbox(), [happening("opened")], [slack], LINKS, T0, full)
    assert slack.tries == 0


def test_a_sweep_in_which_nothing_happened_saves_nothing() -> None:
    world = World(Asked("slack"))
    world.sweep(happening("opened"))
    saves = world.saves
    deliver(world.outbox, [], world.channels, LINKS, world.now, world.save)
    assert world.saves == saves


def test_when_the_time_is_used_up_the_rest_is_for_the_next_sweep() -> None:
    slack = Asked("slack")
    after = deliver(Outbox(), [happening("opened")], [slack], LINKS, T0, lambda outbox: None, budget_s=0)
    assert (slack.tries, after.owed) == (0, 1)


def test_a_failed_run_is_told_once_and_remembered() -> None:
    slack = Asked("slack")
    case = Case(
        key="prod/run/1/Failed", stack="prod", service="backup/nightly", severity="error", sentence="x", opened_at=T0, over=True
    )
    world = World(slack)
    for _ in range(3):
        world.save(owe_run(world.outbox, case, T0, world.channels))
        world.sweep()
    assert [(notice.id, notice.kind) for notice in slack.got] == [("prod/run/1/Failed", "failed-run")]
    assert world.outbox == Outbox(recent=("prod/run/1/Failed",))


def test_channels_are_waiting_that_are_owed_what_is_over() -> None:
    case = Case(
        key="prod/run/1/Failed", stack="prod", service="backup/nightly", severity="error", sentence="x", opened_at=T0, over=True
    )
    slack, discord = Asked("slack"), Deaf("discord")
    slack.moods.append("no connection")
    world = World(slack, discord)
    world.sweep(happening("opened"))
    assert world.outbox.waiting(["slack", "discord"]) == set()  # the sweep's business
    world.save(owe_run(world.outbox, case, T0, world.channels))
    assert world.outbox.waiting(["slack", "discord"]) == {"slack", "discord"}
    assert world.outbox.waiting(["discord"]) == {"discord"}
    world.sweep()
    assert world.outbox.waiting(["slack", "discord"]) == set()


def test_nine_open_incidents_on_four_channels_fit_into_a_few_variables() -> None:
    boxes = (Asked("slack"), Deaf("discord"), Pager("pagerduty"), Pager("webhook"))
    world = World(*boxes)
    keys = [f"prod/service-{number}/connect/20261124T030000Z" for number in range(9)]
    world.sweep(*(happening("opened", key=key) for key in keys))
    assert len(world.text) < 9 * 700
