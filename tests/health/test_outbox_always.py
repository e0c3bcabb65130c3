"""The outbox, whatever fails and whenever it dies: weeks of incidents on channels with random trouble."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.health.incidents import Happening, Kind
from tests.health.mailboxes import Asked, Deaf, Died, Mailbox, Mood, Pager
from tests.health.telling import World, happening

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


@pytest.mark.long
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
