"""What tests of the Railway stand-in share, and those of the applications."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from shared.sandbox.applications import Applications
from shared.sandbox.langfuse_double import LangfuseWeb, LangfuseWorker
from shared.sandbox.railway_api import PLANS, Behaviour, Pace, RailwayStandIn, RateLimit
from shared.sandbox.stack import Sandbox
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessRuntime

QUICK = Pace(build=0.01, poll=0.03, health=0.02, restart=0.01, workflow=0.05)
"""A health check that is given the default, 300 s, is over in six."""

PATIENT = Behaviour(plan=replace(PLANS["pro"], rate=RateLimit(per_hour=1_000_000, per_second=10_000)))
"""Tests look more often than a client may."""


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> ProcessRuntime:
    """Containers that are small programs; closed by the stand-in."""
    return ProcessRuntime(tmp_path_factory.mktemp("containers"))


@pytest.fixture(scope="module")
def railway(tmp_path_factory: pytest.TempPathFactory, runtime: ProcessRuntime) -> Iterator[RailwayStandIn]:
    """A platform for the tests of a file; each makes services of its own."""
    with RailwayStandIn(tmp_path_factory.mktemp("railway"), runtime, pace=QUICK, behaviour=PATIENT) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def operator(railway: RailwayStandIn) -> Iterator[Operator]:
    """Somebody with the workspace's token."""
    one = Operator(railway)
    yield one
    one.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[tuple[RailwayStandIn, ProcessRuntime, Operator]]:
    """A platform of the test's own, with nothing on it."""
    runtime = ProcessRuntime(tmp_path)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=PATIENT) as stand_in:
        one = Operator(stand_in)
        yield stand_in, runtime, one
        one.close()


@pytest.fixture(scope="module")
def apps(applications: Sandbox) -> Applications:
    """LiteLLM, the stand-ins of Langfuse 3, and the alert sinks."""
    assert applications.applications is not None
    return applications.applications


@pytest.fixture
def four(langfuse_4: tuple[LangfuseWeb, LangfuseWorker]) -> tuple[LangfuseWeb, LangfuseWorker]:
    """Langfuse 4 beside Langfuse 3."""
    return langfuse_4


@pytest.fixture
def queue(applications: Sandbox) -> Iterator[redis.Redis]:
    """The Redis with the queues."""
    with redis.Redis.from_url(applications.redis.url, decode_responses=True) as client:
        yield client
