"""CHECK_LIMITS: where an aspect stops being ok may be said by the environment."""

from __future__ import annotations

from dataclasses import fields

import pytest

from blocks.errors import SettingsError
from blocks.settings import Settings
from blocks.shapes import LIMITS
from flows.health.targets import Limits, Targets

OWN = {"certificate_days", "backup_hours", "drill_hours"}
"""They have settings of their own, or are no number."""


def test_every_limit_can_be_named() -> None:
    assert set(LIMITS) == {one.name for one in fields(Limits)} - OWN


def test_what_is_named_takes_the_place_of_the_number_that_the_check_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECK_LIMITS", "parts=500, system_log_bytes=2e10,stuck_seconds=12.5")
    limits = Targets.from_settings(Settings.load()).limits
    assert (limits.parts, limits.system_log_bytes, limits.stuck_seconds) == (500, 2e10, 12.5)
    assert limits.memory_percent == Limits().memory_percent


@pytest.mark.parametrize("wrong", ["part=500", "parts", "parts=many", "backup_hours=1", "parts=-1"])
def test_a_limit_that_does_not_exist_or_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("CHECK_LIMITS", f"parts=500,{wrong}")
    with pytest.raises(SettingsError, match=r"CHECK_LIMITS.*expected <name>=<number>, the name one of connections_percent"):
        Settings.load()
