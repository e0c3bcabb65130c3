"""The operators' documents are true: each run that they tell people to start is made, with the parameters that stand there."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator

import pytest

from shared.sandbox.stack import ROOT
from tests.documents import Command, commands
from tests.nights.night import Night

pytestmark = pytest.mark.long

NOT_HERE = ("deploy/", "rehearse/", "smoke/", "upgrade/")
"""They need Railway, a package index and the applications: tests/deploy, test_rehearsal_flow.py, tests/smoke, tests/upgrade."""


@pytest.fixture(scope="module")
def lived_in(loaded: Night) -> Iterator[Night]:
    """A stack that has been operated: a set, a copy of it off the stack, and a restore that could be undone."""
    loaded.reset()
    loaded.call("backup")
    loaded.call("copy")
    loaded.call("restore", components=["postgres/langfuse"], replace=True, confirm="sandbox")
    yield loaded
    loaded.call("restore", action="forget", confirm="sandbox")


@pytest.mark.parametrize(
    "command",
    [one for one in commands() if one.deployment and not one.deployment.startswith(NOT_HERE)],
    ids=lambda command: command.text.removeprefix("prefect deployment run ")[:60],
)
def test_what_the_documents_tell_people_to_run_succeeds(lived_in: Night, command: Command) -> None:
    flow = command.flow()
    with lived_in.as_worker():
        done = flow(**command.parameters)
        if inspect.isawaitable(done):
            asyncio.run(_awaited(done))


def test_the_deployments_can_be_listed_as_the_runbook_says(lived_in: Night) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "prefect", "deployment", "ls"],
        env=lived_in.sandbox.environment() | {"COLUMNS": "200"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "restore/on-demand" in listed.stdout


async def _awaited(run: object) -> None:
    assert inspect.isawaitable(run)
    await run
