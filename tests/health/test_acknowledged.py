"""Somebody works on an incident: nobody is reminded of it until it is over, gets worse, or they give up."""

from __future__ import annotations

from blocks.alerts.base import Notice
from flows.health.acknowledged import Acknowledgement
from flows.health.incidents import Incident
from flows.health.ledger import Outbox
from flows.health.published import Outcome, following
from flows.health.state import State
from flows.health.views import artifact
from tests.health.mailboxes import Asked, Pager
from tests.health.sweeps import BEGAN, Watch, kinds
from tests.health.telling import KEY, T0, World, happening


def acknowledge(watch: Watch, by: str = "ada") -> Incident:
    (incident,) = watch.state.incidents
    watch.acknowledged = {incident.key: Acknowledgement(incident=incident.key, by=by, at=watch.now)}
    return incident


def test_nobody_is_reminded_of_an_acknowledged_incident_and_it_is_not_escalated() -> None:
    watch, other = Watch(), Watch()
    for one in (watch, other):
        one.rows(redis="D" * 4)
    acknowledge(watch)
    assert kinds(watch.rows(redis="D" * 120)) == ["acknowledged"], "said once"
    assert {"reminded", "escalated"} <= set(kinds(other.rows(redis="D" * 120)))
    (incident,) = watch.state.incidents
    assert (incident.acknowledged_by, incident.acknowledgements, incident.escalated) == ("ada", 1, False)
    assert incident.acknowledged_at is not None


def test_it_ends_with_the_incident_and_the_next_one_is_told_as_ever() -> None:
    watch = Watch()
    watch.rows(redis="D" * 4)
    first = acknowledge(watch)
    assert kinds(watch.rows(redis="DD..")) == ["acknowledged", "closed"]
    assert watch.state.closed[0].acknowledged_by == "ada", "it is remembered who was at it"
    assert "reminded" in kinds(watch.rows(redis="D" * 25))
    assert watch.open["redis"].key != first.key
    assert watch.open["redis"].acknowledged_at is None


def test_one_that_is_over_in_the_same_sweep_is_only_ended() -> None:
    watch = Watch()
    watch.rows(redis="DDD.")
    acknowledge(watch)
    assert kinds(watch.rows(redis=".")) == ["closed"]


def test_what_gets_worse_is_told_although_somebody_is_at_it() -> None:
    watch = Watch()
    watch.rows(redis="d" * 4)
    acknowledge(watch)
    said = watch.rows(redis="d" + "D" * 40)
    assert kinds(said) == ["acknowledged", "escalated"]
    assert said[-1].note == "was warning, is critical"


def test_who_gives_up_has_people_reminded_again_and_somebody_else_may_take_over() -> None:
    watch = Watch()
    watch.rows(redis="D" * 4)
    acknowledge(watch)
    watch.rows(redis="D" * 30)
    watch.acknowledged = {}
    assert kinds(watch.rows(redis="D" * 3))[0] in ("reminded", "escalated"), "it is overdue"
    acknowledge(watch, "bob")
    (said,) = [one for one in watch.rows(redis="D" * 3) if one.kind == "acknowledged"]
    assert (said.ordinal, said.note) == (2, "bob is working on it"), "another event than the first one"


def test_where_nobody_could_look_it_stays_as_it_was() -> None:
    watch = Watch()
    watch.rows(redis="D" * 4)
    acknowledge(watch)
    watch.rows(redis="D")
    watch.acknowledged = None
    assert watch.rows(redis="D" * 60) == []
    assert watch.open["redis"].acknowledged_by == "ada"


def test_a_word_about_another_incident_changes_nothing() -> None:
    watch = Watch()
    watch.rows(redis="D" * 4)
    watch.acknowledged = {KEY: Acknowledgement(incident=KEY, by="ada", at=BEGAN)}
    assert "reminded" in kinds(watch.rows(redis="D" * 20))


def test_it_is_remembered_over_restarts_and_what_was_remembered_before_there_was_such_a_thing_is_read() -> None:
    watch = Watch()
    watch.rows(redis="D" * 4)
    old = watch.state.to_text()
    assert "acknowledged" not in old
    assert State.from_text(old, "test") == watch.state
    acknowledge(watch)
    watch.rows(redis="D")
    assert State.from_text(watch.state.to_text(), "test") == watch.state


# --- who is told -------------------------------------------------------------------------------------------------------------


def test_every_channel_that_heard_of_it_hears_that_somebody_is_at_it_in_order_and_others_do_not() -> None:
    slack, pager = Asked("slack"), Pager("pagerduty", "critical")
    world = World(slack, pager)
    world.sweep(happening("opened", severity="error"))
    world.sweep(happening("acknowledged", severity="error", acknowledged_by="ada", acknowledged_at=T0))
    world.sweep(happening("closed", severity="error", acknowledged_by="ada", acknowledged_at=T0))
    assert slack.ids(KEY) == ["opened/1", "acknowledged/1", "closed/1"]
    assert pager.got == [], "it was never paged, so there is nothing to acknowledge"
    assert world.outbox == Outbox()


def test_a_pager_is_told_of_the_acknowledgement_under_the_incidents_key() -> None:
    pager = Pager("pagerduty", "critical")
    world = World(pager)
    world.sweep(happening("opened"))
    world.sweep(happening("acknowledged", acknowledged_by="ada", acknowledged_at=T0))
    assert [(notice.kind, notice.dedup_key) for notice in pager.got] == [("opened", KEY), ("acknowledged", KEY)]
    assert isinstance(pager.got[1], Notice)


# --- what is shown -----------------------------------------------------------------------------------------------------------


def test_it_is_shown_without_a_name_where_strangers_may_look_and_with_one_where_operators_do() -> None:
    watch = Watch()
    watch.rows(redis="D" * 4)
    acknowledge(watch, "ada@example.com")
    happenings = watch.rows(redis="D")
    outcome = Outcome("test", watch.now, 60, [], watch.state.incidents, happenings)
    published, _ = following(None, outcome)
    (told,) = published.open
    assert [(entry.kind, entry.text) for entry in told.timeline] == [("acknowledged", "somebody is working on it")]
    assert "ada@example.com is working on it" in artifact({}, watch.state).markdown()
