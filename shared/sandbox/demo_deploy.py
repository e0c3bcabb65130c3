"""The deploy in the demo: the production stack on the sandbox's Railway, as a person does it, and its smoke test."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyrage

from shared.sandbox.environment import ROOT
from shared.sandbox.railway_api import Pace, RailwayStandIn
from shared.sandbox.railway_runtime.registry import WORKER_IMAGE
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from shared.sandbox.report import Done

__all__ = ["DeployFailed", "a_railway", "deploy_and_prove", "deploy_from_a_terminal"]

_TIMEOUT = 3600
_VERDICT = re.compile(r"^Deployed; (.*)\.$", re.MULTILINE)
_NOTHING = "Nothing to do"


class DeployFailed(Exception):
    """The deploy did not do what it claims."""


@contextmanager
def a_railway(directory: Path) -> Iterator[tuple[RailwayStandIn, LocalRuntime]]:
    """Railway, with a project in which nothing is yet, and where its containers run.

    Args:
        directory: for volumes, containers and their logs.
    """
    runtime = LocalRuntime(directory / "containers")
    with RailwayStandIn(directory / "railway", runtime, pace=Pace(build=0.1, poll=0.2)) as railway:
        yield railway, runtime


def deploy_and_prove(railway: RailwayStandIn) -> Done:
    """Deploy, send a request through what was deployed, and deploy again, which must change nothing.

    Raises:
        DeployFailed: a step of it, with the end of what it said.
    """
    said = deploy_from_a_terminal(railway)
    verdict = _VERDICT.search(said)
    if verdict is None:
        raise DeployFailed(f"no verdict of a smoke test: {said[-1500:]}")
    services = railway.service_names()
    again = deploy_from_a_terminal(railway, "--no-smoke")
    if _NOTHING not in again:
        raise DeployFailed(f"the second deploy still found something to do: {again[-1500:]}")
    return Done(f"{len(services)} services created and started; smoke test: {verdict[1]}; deployed again: nothing to do")


def deploy_from_a_terminal(railway: RailwayStandIn, *options: str) -> str:
    """Run `python -m flows.deploy`, with no Prefect server anywhere.

    Args:
        railway: where to. options: of the command, besides those that keep it from asking.
    Returns: what it printed.
    Raises:
        DeployFailed: it did not end well.
    """
    recovery = pyrage.x25519.Identity.generate().to_public()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(ROOT / ".sandbox"),
        "RAILWAY_API_URL": railway.url,
        "RAILWAY_API_TOKEN": railway.token("workspace"),
        "RAILWAY_PROJECT_ID": railway.project_id,
        "RAILWAY_ENVIRONMENT_ID": railway.environment_id,
        "BACKUP_RECOVERY_RECIPIENT": str(recovery),
        "WORKER_IMAGE": WORKER_IMAGE,
        "DO_NOT_TRACK": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "flows.deploy", "--yes", "--poll", "1", *options],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise DeployFailed(f"python -m flows.deploy ended with {done.returncode}: {done.stdout[-2500:]}{done.stderr[-2500:]}")
    return done.stdout
