"""What is remembered between sweeps: it comes back as it was, damage is a fresh start that says so, and it stays small."""

from __future__ import annotations

import random
import string
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.alerts import Channel
from flows.health.dependencies import ORDER, needs_of
from flows.health.memory import PIECE, packed, unpacked
from flows.health.owing import owe
from flows.health.policy import Policy
from flows.health.state import VERSION, State
from flows.health.windows import Window, during, muted_services, parse
from tests.health.mailboxes import Mailbox
from tests.health.sweeps import BEGAN, DOWN, OK, Watch, observation


def test_a_stack_that_was_never_swept_begins_fresh_and_says_nothing() -> None:
    assert State.from_text(None, "test") == State(stack="test")
    assert State.from_text(None, "test").note == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"{VERSION} ",
        f"{VERSION} {{}}",
        f"{VERSION} [1, 2]",
        f'{VERSION} {{"stack": "test", "tracks": 5}}',
        f'{VERSION} {{"stack": "test", "episodes": [{{}}]}}',
        f'{VERSION + 1} {{"stack": "test"}}',
        f'{VERSION} {{"stack": "another"}}',
    ],
)
def test_a_damaged_memory_is_a_fresh_start_that_says_so(text: str) -> None:
    state = State.from_text(text, "test")
    assert state.model_copy(update={"note": ""}) == State(stack="test")
    assert state.note.endswith("begun anew")


def test_a_memory_that_was_cut_off_anywhere_is_never_taken_for_a_whole_one() -> None:
    watch = Watch()
    watch.rows(postgres="DDDD", litellm="DDDD")
    text = watch.state.to_text()
    for end in range(0, len(text), 3):
        state = State.from_text(text[:end], "test")
        assert state.note, end
        assert state.episodes == ()


@given(st.text())
def test_packing_a_text_loses_nothing_and_needs_no_escapes(text: str) -> None:
    assert unpacked(packed(text)) == text
    assert not set(packed(text)) & {'"', "\\", "'"}


@pytest.mark.parametrize("text", ["", "x", "not packed at all", packed("whole")[:-5]])
def test_what_was_not_packed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpacked(text)


def _worst_state() -> State:
    """Every service down, casualties first so that all have incidents, with sentences that compress badly, and four channels
    that take no messages.
    """
    chance = random.Random(3)  # noqa: S311 - the same size every time
    channels: list[Channel] = [Mailbox(name) for name in ("slack", "discord", "pagerduty", "webhook")]
    watch = Watch()
    for sweep in range(70):
        seen = []
        for service in ORDER:
            for aspect in ("connection", "space", "age", "version", "queue"):
                words = " ".join("".join(chance.choices(string.ascii_lowercase, k=7)) for _ in range(30))
                seen.append(observation(service, aspect, DOWN if sweep > 3 or needs_of(service) else OK, words))
        said = watch.observe(seen)
        state = watch.state.model_copy(update={"outbox": owe(watch.state.outbox, said, channels)})
        watch.state = state.model_copy(update={"unemitted": (*state.unemitted, *said)[-50:]})
    return watch.state


def test_the_worst_that_can_be_remembered_fits_into_a_few_variables() -> None:
    """Ten incidents, sentences of 240 random characters, 50 events and the messages of four channels waiting."""
    state = _worst_state()
    assert len(state.incidents) == len(ORDER)
    assert sum(bool(incident.casualties) for incident in state.incidents) == 5
    assert state.outbox.owed >= 4 * len(ORDER)
    assert State.from_text(state.to_text(), "test") == state
    assert len(packed(state.to_text())) < 4 * PIECE


def test_what_is_remembered_of_an_ordinary_incident_fits_into_one_variable() -> None:
    watch = Watch()
    watch.rows(postgres="D" * 40, litellm="D" * 40, langfuse_web="D" * 40)
    assert len(packed(watch.state.to_text())) < PIECE / 3


# --- maintenance windows -----------------------------------------------------------------------------------------------------


def a_window(**change: object) -> dict[str, object]:
    begins = BEGAN.isoformat()
    return {"id": "w", "services": ["redis"], "begins_at": begins, "ends_at": "2026-11-25T13:00:00Z", **change}


@pytest.mark.parametrize(
    ("now", "muted"),
    [(-1, False), (0, True), (3599, True), (3600, False)],
)
def test_a_window_is_open_from_its_beginning_to_before_its_end(now: int, muted: bool) -> None:
    windows, _ = parse([a_window()])
    assert muted_services(windows, ["redis", "minio"], BEGAN + timedelta(seconds=now)) == ({"redis"} if muted else set())


def test_a_window_for_all_mutes_every_service() -> None:
    windows, _ = parse([a_window(services=["all"])])
    assert muted_services(windows, ORDER, BEGAN) == set(ORDER)


@pytest.mark.parametrize(
    ("begins", "ends", "muted"),
    [(-60, -1, False), (-60, 0, False), (-60, 1, True), (-60, 600, True), (5, 8, True), (10, 600, True), (11, 600, False)],
)
def test_what_was_seen_while_a_window_was_open_is_excused_though_it_ended_before_the_sweep(
    begins: int, ends: int, muted: bool
) -> None:
    """A sweep of ten seconds; the window was read at its beginning, at its end, or at both."""
    limits = {"begins_at": BEGAN + timedelta(seconds=begins), "ends_at": BEGAN + timedelta(seconds=ends)}
    window = Window.model_validate(a_window(**limits))
    now = BEGAN + timedelta(seconds=10)
    for read in ([window], [window, window]):
        counted = during(read, BEGAN, now)
        assert len(counted) == 1
        assert (muted_services(counted, ["redis"], now) == {"redis"}) is muted


def test_a_window_that_was_ended_early_while_a_sweep_ran_opens_no_incident() -> None:
    watch = Watch(Policy(failure_threshold=1))
    watch.windows = during(parse([a_window()])[0], BEGAN, BEGAN + timedelta(seconds=5))  # and it was gone in the second reading
    assert watch.rows(redis="D") == []
    watch.windows = []
    assert [happening.kind for happening in watch.rows(redis="D")] == ["opened"]


@pytest.mark.parametrize(
    "damaged",
    [
        5,
        {"id": "w"},
        a_window(ends_at="2026-11-25T11:00:00Z"),
        a_window(ends_at="2027-11-25T11:00:00Z"),
        a_window(begins_at="2026-11-25T12:00:00"),
        a_window(services=[]),
    ],
)
def test_a_damaged_window_mutes_nothing_and_is_named_while_others_hold(damaged: object) -> None:
    windows, problems = parse([damaged, a_window(id="good")])
    assert [window.id for window in windows] == ["good"]
    assert len(problems) == 1
    assert "it is not in force" in problems[0]


@pytest.mark.parametrize("value", ["text", {"id": "w"}, 7])
def test_a_variable_that_is_no_list_mutes_nothing(value: object) -> None:
    windows, problems = parse(value)
    assert windows == []
    assert "expected a list" in problems[0]
    assert parse(None) == ([], [])
    assert isinstance(Window.model_validate(a_window()), Window)
