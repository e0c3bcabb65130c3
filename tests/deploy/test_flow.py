"""The flow, as the worker runs it: against the sandbox's Prefect server and store, on the sandbox's Railway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Pace
from shared.sandbox.stack import ROOT, Sandbox
from tests.deploy.quiet_runtime import QuietRuntime
from tests.documents import commands

pytestmark = pytest.mark.long

CANARY = "canary-51c2"
PROGRAM = """
import json, sys
from flows.deploy.flow import DeployRequest, deploy

request = DeployRequest(confirm="sandbox", smoke=False, images={"prefect-worker": "ghcr.io/acme/ops:0.1.0"})
deploy(request)
documents = [deploy(**parameters) for parameters in json.load(sys.stdin)]
assert documents, "the documents have no command about it"
assert documents == [[]] * len(documents), documents
"""
"""The worker keeps the image that was deployed; what the documents tell people to type finds nothing to do then."""


def test_the_flow_deploys_with_the_stacks_lock_and_its_dry_runs_from_the_documents_find_nothing(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    asked = [one.parameters for one in commands() if one.deployment == "deploy/on-demand"]
    with RailwayStandIn(tmp_path, QuietRuntime(), pace=Pace(build=0.0, poll=0.01)) as railway:
        told = {
            "RAILWAY_API_URL": railway.url,
            "RAILWAY_API_TOKEN": railway.token("workspace"),
            "RAILWAY_PROJECT_ID": railway.project_id,
            "RAILWAY_ENVIRONMENT_ID": railway.environment_id,
            "BACKUP_RECOVERY_RECIPIENT": str(pyrage.x25519.Identity.generate().to_public()),
            "OPENAI_API_KEY": CANARY,
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**sandbox.environment(), **told},
            cwd=ROOT,
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(railway.service_names()) == 9
    shown = sandbox.artifact("deploy-sandbox") or ""
    assert "Nothing to do: everything is as it should be." in shown
    assert "+ postgres.POSTGRES_PASSWORD = (secret, made here)" in done.stderr
    assert CANARY not in done.stdout + done.stderr + shown
