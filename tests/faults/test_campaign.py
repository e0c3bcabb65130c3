"""A dozen cases of the crash campaign, through its own code: what must hold after each is looked at by the campaign itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from shared.faults.campaign import Campaign
from shared.faults.cases import JOURNAL, Case, damages
from shared.faults.disturbances import Disturbance, FullDisk, Kill, Restart, StoreFault
from shared.faults.ground import Ground
from shared.faults.traffic import Fault, Match, Rule

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def campaign(state_directory: Path) -> Iterator[Campaign]:
    """A stack of its own with three sets: a full one, a difference to it, another full one."""
    with Ground(state_directory / "faults") as ground:
        ground.prepare(3)
        yield Campaign(ground, Console())


def kill(method: str, path: str, nth: int = 1, *, after: bool = False) -> Kill:
    return Kill(partial(Match, method, path, nth), after)


def store(fault: Fault, method: str, path: str, *, nth: int = 1, times: int = 1) -> StoreFault:
    return StoreFault(lambda: Rule(fault, Match(method, path, nth, times), seconds=6.0))


@pytest.mark.parametrize(
    ("flow", "at", "disturbance", "expected"),
    [
        ("backup", "killed in ClickHouse's part", kill("PUT", r"/clickhouse/.*data\.", 3), "killed at"),
        ("backup", "killed before the manifest", kill("PUT", r"/manifest\.json"), "killed at"),
        ("backup", "answer to the manifest lost", store("lose", "PUT", r"/manifest\.json"), "succeeded"),
        ("backup", "clickhouse restart", Restart("clickhouse", partial(Match, "PUT", r"/clickhouse/.*data\.", 3)), "killed at"),
        ("restore", "killed in the swap", kill("PUT", JOURNAL, 4), "killed at"),
        ("restore", "answer cut short", store("truncate", "GET", r"\.dump\.zst\.age", nth=2), "succeeded"),
        ("drill", "killed while it restores", kill("GET", r"/clickhouse/.*data\."), "killed at"),
        ("prune", "killed between two sets", kill("DELETE", r"/manifest\.json", after=True), "killed at"),
        ("copy", "killed between two sets", kill("PUT", r"/manifest\.json\.age", after=True), "killed at"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_everything_holds_and_the_next_run_recovers_unaided(
    campaign: Campaign, flow: str, at: str, disturbance: Disturbance, expected: str
) -> None:
    row = campaign.run(Case(flow, "fault", at, disturbance, finishes=at == "killed in the swap"))
    assert row.held, row.detail
    assert expected in row.detail


def test_a_drill_on_a_disk_that_fills_up_fails_and_says_so(campaign: Campaign) -> None:
    row = campaign.run(Case("drill", "full scratch disk", "40 MB", FullDisk(40_000_000), must_fail=True))
    assert row.held, row.detail


@pytest.mark.parametrize(("flow", "what"), [("restore", "exchanged dumps"), ("copy", "flipped bit in a ClickHouse file")])
def test_a_damaged_set_is_refused_and_nothing_is_changed(campaign: Campaign, flow: str, what: str) -> None:
    case = next(case for case in damages(flow, campaign.ground) if case.fault == what)
    row = campaign.run(case)
    assert row.held, row.detail
