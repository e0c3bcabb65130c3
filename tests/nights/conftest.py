"""A loaded stack for the tests that run whole flows: the session's sandbox, filled once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.sandbox.stack import Sandbox
from tests.nights.night import Night


@pytest.fixture(scope="session")
def loaded(sandbox: Sandbox) -> Iterator[Night]:
    """The sandbox with LiteLLM's and Langfuse's schemas and rows in it."""
    night = Night(sandbox)
    with night.flows:
        night.load()
        yield night


@pytest.fixture
def night(loaded: Night) -> Night:
    """The loaded stack with an empty store and every service up, whatever the test before did."""
    loaded.reset()
    return loaded
