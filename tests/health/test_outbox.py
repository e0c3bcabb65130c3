"""The outbox: every alert arrives, once where the channel allows it, in order, whatever fails and whenever the sender dies."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from blocks.alerts import Channel, Links, Notice, Receipt, channels
from blocks.errors import DeliveryFailed
from blocks.settings import Settings
from flows.health.incidents import Happening, Incident, Kind
from flows.health.ledger import Case, Outbox
from flows.health.outbox import deliver, owe
from flows.health.owing import owe_run
from shared.sandbox.alert_sinks import AlertSinks
from tests.health.mailboxes import Asked, Deaf, Died, Mailbox, Mood, Pager

T0 = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
LINKS = Links(run="http://prefect/run", status="http://status")
KEY = "prod/postgres/connect/20261124T030000Z"


def happening(kind: Kind, ordinal: int = 1, at: datetime = T0, *, key: str = KEY, **changes: object) -> Happening:
    fields = {
        "key": key,
        "stack": "prod",
        "service": key.split("/")[1],
        "aspect": "connect",
        "severity": "critical",
        "sentence": "postgres: no answer",
        "since": T0,
        "opened_at": T0,
        "closed_at": at if kind == "closed" else None,
    }
    return Happening(kind=kind, incident=Incident.model_validate({**fields, **changes}), at=at, ordinal=ordinal)


class World:
    """A stack's memory, and sweeps that may die."""

    def __init__(self, *channels: Channel) -> None:
        self.channels = channels
        self.now = T0
        self.text = Outbox().model_dump_json()
        self.saves = 0

    @property
    def outbox(self) -> Outbox:
        return Outbox.model_validate_json(self.text)

    def save(self, outbox: Outbox) -> None:
        self.saves += 1
        self.text = outbox.model_dump_json(exclude_defaults=True)

    def sweep(self, *happenings: Happening) -> None:
        """One sweep: what it judged is saved with the outbox, as the flow does, then told."""
        self.now += MINUTE
        self.save(owe(self.outbox, happenings, self.channels))
        deliver(self.outbox, happenings, self.channels, LINKS, self.now, self.save)


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


# --- properties ----------------------------------------------------------------------------------------------------------

KINDS: tuple[Kind, ...] = ("reminded", "escalated", "closed")
TROUBLE: list[Mood] = ["no connection", "lost answer", "dies before", "dies after", "refuses now"]


@st.composite
def weeks(draw: st.DrawFn) -> list[list[Happening]]:
    """Sweeps in which up to three incidents open, remind, escalate and close; the last ones may stay open."""
    steps: list[list[Happening]] = [[] for _ in range(draw(st.integers(4, 14)))]
    for number in range(draw(st.integers(1, 3))):
        key = f"prod/service-{number}/connect/20261124T030000Z"
        severity = draw(st.sampled_from(["warning", "error", "critical"]))
        counts, escalated = {"opened": 1, "reminded": 0, "escalated": 0, "closed": 0}, False
        begin = draw(st.integers(0, len(steps) - 1))
        steps[begin].append(happening("opened", key=key, severity=severity))
        for step in steps[begin + 1 :]:
            kind = draw(st.sampled_from((None, None, *KINDS)))
            if kind is None or (kind == "escalated" and escalated):
                continue
            counts[kind] += 1
            escalated = escalated or kind == "escalated"
            step.append(happening(kind, counts[kind], key=key, severity=severity, escalated=escalated))
            if kind == "closed":
                break
    return steps


@settings(max_examples=80)
@given(weeks(), st.data())
def test_whatever_fails_and_whenever_it_dies_each_channel_hears_the_truth_in_order(
    week: list[list[Happening]], data: st.DataObject
) -> None:
    boxes: list[Mailbox] = [Asked("slack"), Deaf("discord", "error"), Pager("pagerduty", "critical"), Pager("webhook")]
    world = World(*boxes)
    deaths = 0
    for happenings in week:
        for box in boxes:
            box.moods.extend(data.draw(st.lists(st.sampled_from([*TROUBLE, "fine"]), max_size=2)))
        try:
            world.sweep(*happenings)
        except Died:
            deaths += 1
    for box in boxes:
        box.moods.clear()
    for _ in range(4):
        world.sweep()  # past every wait that was asked for

    told = [one for step in week for one in step]
    assert world.outbox.owed == 0
    for box in boxes:
        for key in {one.incident.key for one in told}:
            check_what_arrived(box, key, [one for one in told if one.incident.key == key], deaths)


def check_what_arrived(box: Mailbox, key: str, happened: list[Happening], deaths: int) -> None:
    order = [f"{one.kind}/{one.ordinal}" for one in happened]
    got = box.ids(key)
    once = list(dict.fromkeys(got))
    # in order, and nothing that did not happen
    assert [order.index(one) for one in once] == sorted(order.index(one) for one in once)
    # exactly once where the channel allows it, otherwise at most one more for each answer that was lost and each death
    assert len(got) - len(once) <= (box.lost_answers + deaths if isinstance(box, Deaf) else 0)
    is_closed = order[-1] == "closed/1"
    heard = [one for one in once if one != "closed/1"]
    if is_closed:
        # whoever heard of it hears of its end; who did not is told once that it was, unless that would wake somebody up
        reached = one_reaches(box, happened)
        assert ("closed/1" in once) if heard else (box.pages or not reached or once == ["closed/1"])
    elif one_reaches(box, happened):
        assert once[-1] == order[-1]  # the latest word on what is still open has arrived


def one_reaches(box: Mailbox, happened: list[Happening]) -> bool:
    """Whether the incident was ever bad enough for this channel, the step of an escalation included."""
    scale = ["warning", "error", "critical"]
    lifted = [scale.index(one.incident.severity) + one.incident.escalated for one in happened if one.kind != "closed"]
    return max(lifted) >= scale.index(box.min_severity)


# --- the real channels -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sinks() -> object:
    with AlertSinks() as running:
        yield running


def test_an_incident_on_four_real_channels_through_trouble_on_each(sinks: AlertSinks) -> None:
    made = Settings(**{name.lower(): value for name, value in sinks.environment().items()})  # type: ignore[arg-type]  # text
    world = World(*channels(made))
    sinks.disturb("slack", "lost-answer")
    sinks.disturb("discord", "rate-limit", retry_after=30)
    sinks.disturb("pagerduty", "lost-answer")
    sinks.disturb("webhook", "error")
    world.sweep(happening("opened", at=datetime.now(UTC)))
    world.now = datetime.now(UTC)
    world.sweep()
    world.sweep(happening("escalated", escalated=True))
    world.sweep(happening("closed", escalated=True))
    assert world.outbox == Outbox()
    first, *replies = sinks.slack.messages
    assert len(replies) == 2
    assert {reply["thread_ts"] for reply in replies} == {first["ts"]}
    assert "recovered" in first["text"]
    assert len(sinks.discord.messages) == 3
    assert sinks.pagerduty.pages == [KEY]
    assert sinks.pagerduty.alerts[KEY].state == "resolved"
    assert [one.payload["kind"] for one in sinks.received("webhook")] == ["opened", "escalated", "closed"]
    text = json.dumps(world.text)
    assert [secret for secret in vars(sinks.keys).values() if secret in text] == []


def test_an_error_that_reports_a_channel_has_no_secret(sinks: AlertSinks) -> None:
    sinks.clear()
    made = Settings(**{name.lower(): value for name, value in sinks.environment().items()})  # type: ignore[arg-type]  # text
    wrong = made.model_copy(update={"discord_webhook_url": made.alert_webhook_url, "alert_webhook_url": None})
    world = World(*channels(wrong))
    world.sweep(happening("opened"))
    told = [one.payload for one in sinks.received("slack")]
    assert any("Alerts do not reach discord" in str(one) for one in told)
    assert isinstance(world.outbox.channels["discord"].case, str)
    assert DeliveryFailed("x").uncertain is False
