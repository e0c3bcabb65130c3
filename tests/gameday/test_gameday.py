"""Two cheap incidents of a game day, from the fault to its end, on the whole stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.gameday.__main__ import main

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

KEYS = ["redis-policy", "gateway-down"]


def test_what_is_broken_is_noticed_healed_and_told_without_a_word_about_what_it_is(state_directory: Path) -> None:
    report = state_directory / "gameday-report.json"
    options = ["--only", ",".join(KEYS), "--directory", str(state_directory / "gameday"), "--report", str(report)]
    assert main(options) == 0
    rows = {row["key"]: row for row in json.loads(report.read_text())["incidents"]}
    assert list(rows) == KEYS
    assert all(row["ok"] and row["sweeps"] <= 2 for row in rows.values()), rows
    assert "set maxmemory-policy noeviction" in rows["redis-policy"]["done"][0]
    assert any("litellm" in done for done in rows["gateway-down"]["done"])
