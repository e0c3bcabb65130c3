"""One gateway a module: each test publishes the state that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.sandbox.sample_history import SampleDays, days
from tests.gateway.serving import Served, now, serving


@pytest.fixture(scope="session")
def sample_days() -> SampleDays:
    """Ninety made-up days."""
    return SampleDays(days(now()))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, sample_days: SampleDays) -> Iterator[Served]:
    """A gateway with a token; its page is not public."""
    with serving(tmp_path_factory.mktemp("gateway"), days=sample_days) as served:
        yield served


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Served]:
    """A gateway of the test's own, for tests that use up its limits."""
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def without_token(tmp_path: Path) -> Iterator[Served]:
    """A gateway whose operator has set no token."""
    with serving(tmp_path, token=None) as served:
        yield served


@pytest.fixture
def public(tmp_path: Path, sample_days: SampleDays) -> Iterator[Served]:
    """A gateway whose page anybody may see."""
    with serving(tmp_path, public=True, days=sample_days) as served:
        yield served
