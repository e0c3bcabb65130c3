"""The upgrade in the demo: a LiteLLM whose health check never passes, on the stack that was just deployed; it undoes itself."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from shared.engines.postgres import client_bin_dirs
from shared.sandbox.blocks import railway_block
from shared.sandbox.environment import ROOT
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.addresses import Addresses
from shared.sandbox.railway_runtime.ports import PortTable
from shared.sandbox.railway_runtime.runtime import LocalRuntime
from shared.sandbox.registry import RegistryDouble
from shared.sandbox.report import Done

__all__ = ["UpgradeDidNotUndo", "fail_an_upgrade"]

SICK = "v1.102.5"
"""A tag that only this demo's registry has: LiteLLM, asked for its health where it does not answer."""
PATIENCE_S = "60"
"""What Railway's health check of LiteLLM is given here, instead of a quarter of an hour."""
_TIMEOUT = 1800
_UNDONE = re.compile(r"; undone: ([^;]+); [^;]*as well as before")
_PROGRAM = """
import sys
from flows.upgrade.flow import upgrade
from flows.upgrade.orders import UpgradeRequest
upgrade("litellm", UpgradeRequest(to=sys.argv[1], confirm=sys.argv[2], soak_minutes=0, smoke=False, drill=False))
"""


class UpgradeDidNotUndo(Exception):
    """The upgrade did not fail as it should have, or left something behind."""


def fail_an_upgrade(railway: RailwayStandIn, runtime: LocalRuntime, directory: Path) -> Done:
    """Upgrade LiteLLM to a version that never becomes healthy, as the worker does, and look at what runs afterwards.

    Args:
        railway, runtime: with the stack deployed. directory: for the run's own files.
    Raises:
        UpgradeDidNotUndo: with the end of what it said.
    """
    place = railway_block(railway)
    with place.open() as api, RegistryDouble(runtime.catalogue) as registry:
        service = api.inventory().services["litellm"]
        old = service.image or ""
        healthy = runtime.catalogue.find(old)
        runtime.catalogue.publish(replace(healthy, tags=(SICK,), health={"/health/readiness": "/not-there"}))
        api.set_variables(service.service_id, {"RAILWAY_HEALTHCHECK_TIMEOUT_SEC": PATIENCE_S})
        worker = api.variables(railway.service_id("prefect-worker"), rendered=True)
        environment = _as_worker(dict(worker), railway, runtime, directory) | {"REGISTRY_URL": registry.url}
        _python(environment, "-m", "blocks", fails=False)  # the worker may still be saving them
        said = _python(environment, "-c", _PROGRAM, SICK, environment["STACK_NAME"], fails=True)
        now = api.inventory().services["litellm"]
    latest = now.latest
    undone = _UNDONE.search(" ".join(said.split()))
    if undone is None or now.image != old or latest is None or latest.image != old or not railway.running("litellm"):
        raise UpgradeDidNotUndo(f"litellm is configured as {now.image}, expected {old} as before: {said[-2500:]}")
    return Done(f"{SICK} never became healthy; undone by itself: {undone[1]}; {old.rpartition(':')[2]} runs and is well again")


def _as_worker(worker: dict[str, str], railway: RailwayStandIn, runtime: LocalRuntime, directory: Path) -> dict[str, str]:
    """The environment of the stack's worker, with a token, for a program outside its container."""
    home = directory / "upgrade"
    home.mkdir(parents=True, exist_ok=True)
    addresses = Addresses(PortTable(runtime.directory / "ports.json").of)
    return {
        **addresses.in_variables(worker),
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "PREFECT_HOME": str(home / "prefect"),
        "POSTGRES_BIN_DIRS": ",".join(str(path) for path in client_bin_dirs().values()),
        "RAILWAY_API_URL": railway.url,
        "RAILWAY_API_TOKEN": railway.token("workspace"),
        "RAILWAY_PROJECT_ID": railway.project_id,
        "RAILWAY_ENVIRONMENT_ID": railway.environment_id,
        "DO_NOT_TRACK": "1",
    }


def _python(environment: dict[str, str], *arguments: str, fails: bool) -> str:
    """Run Python; returns what it wrote.

    Raises:
        UpgradeDidNotUndo: it ended well where it should not have, or the other way round.
    """
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=_TIMEOUT, check=False
    )
    if (done.returncode != 0) is not fails:
        raise UpgradeDidNotUndo(f"{arguments[:2]} ended with {done.returncode}: {(done.stdout + done.stderr)[-2500:]}")
    return done.stdout + done.stderr
