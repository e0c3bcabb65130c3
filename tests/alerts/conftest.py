"""Sinks for alerts, started once; each test finds them empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from blocks.settings import Settings
from shared.sandbox.alert_sinks import AlertSinks


@pytest.fixture(scope="session")
def shared_sinks() -> Iterator[AlertSinks]:
    """One server for the session."""
    with AlertSinks() as sinks:
        yield sinks


@pytest.fixture
def sinks(shared_sinks: AlertSinks) -> Iterator[AlertSinks]:
    """The sinks, empty and calm."""
    shared_sinks.clear()
    yield shared_sinks
    shared_sinks.calm()


@pytest.fixture
def settings(sinks: AlertSinks) -> Settings:
    """Settings that lead to all of them."""
    return Settings(**{name.lower(): value for name, value in sinks.environment().items()})  # type: ignore[arg-type]  # text, as in the environment
