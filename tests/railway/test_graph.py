"""Railway's CLI gets the stack out of our files, without context, without a secret, and every time the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from blocks.errors import SettingsError
from flows.deploy.present import DEPLOYED, SETUP_DONE
from railway.graph import NOTES, graph, planned
from railway.stack import Secret, Stack, Variant
from railway.variants import build
from shared.sandbox.stack import ROOT
from tests.railway.stacks import SHIPPED, WORKER, shipped

# What the CLI does with a Python file, in our words: import it under a name of its own, call what it exports, print the graph.
READER = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("read_by_the_cli", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
found = next(getattr(module, name) for name in ("main", "Railway", "default") if hasattr(module, name))
print(json.dumps({"partial": getattr(module, "PARTIAL", None), "project": found().to_graph()}))
"""


def read_by_the_cli(file: Path, elsewhere: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Evaluate a file with the first python3 of PATH, from a folder that has nothing to do with the project."""
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(elsewhere), **variables}
    command = ["python3", "-c", READER, str(file)]
    return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("variant", ["starter", "production"])
def test_the_cli_evaluates_the_file_to_the_graph_of_the_stack_in_whatever_process(variant: Variant, tmp_path: Path) -> None:
    done = read_by_the_cli(ROOT / f"railway/{variant}/railway.py", tmp_path, WORKER_IMAGE=WORKER, PYTHONHASHSEED="7")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    expected = graph(shipped(variant), kept={"litellm": ["GEMINI_API_KEY", "AZURE_API_KEY"]}).to_graph()
    assert json.dumps(document["project"]) == json.dumps(expected), "also in the same order"
    assert document["partial"] is None
    assert len([one for one in document["project"]["resources"] if one["type"] == "service"]) == len(shipped(variant).services)


def test_without_an_image_of_the_worker_the_cli_is_told_in_a_line_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKER_IMAGE", raising=False)
    with pytest.raises(SystemExit) as refused:
        planned("production")
    assert "WORKER_IMAGE" in str(refused.value)
    assert "own-image" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_stack_that_is_refused_has_no_graph() -> None:
    with pytest.raises(SettingsError, match="rule own-image"):
        graph(build("production"))


@pytest.mark.parametrize(("variant", "major", "store"), SHIPPED)
def test_every_secret_is_preserved_and_every_other_value_is_text(variant: Any, major: Any, store: Any) -> None:
    stack = shipped(variant, major, store)
    nodes = services(stack)
    assert set(nodes) == set(stack.services)
    for name, service in stack.services.items():
        for variable, value in service.variables.items():
            node = nodes[name]["variables"][variable]
            if isinstance(value, Secret):
                assert node == {"type": "preserve"}
            else:
                assert node == {"type": "literal", "value": value.text}, "no reference object that became its representation"


def test_what_people_set_on_the_worker_is_preserved_too() -> None:
    worker = services(shipped())["prefect-worker"]["variables"]
    for name in ("BACKUP_KEEP_LAST", "SLACK_MIN_SEVERITY", "GATEWAY_PUBLIC", "RAILWAY_API_TOKEN"):
        assert worker[name] == {"type": "preserve"}
    assert "RAILWAY_SERVICE_ID" not in worker, "the platform's own"


def test_what_a_deploy_notes_on_each_service_is_not_planned_away() -> None:
    assert set(NOTES) == {DEPLOYED, SETUP_DONE}
    for node in services(shipped()).values():
        assert all(node["variables"][name] == {"type": "preserve"} for name in NOTES)


def test_images_volumes_health_and_endings_are_in_the_graph_as_railway_reads_them() -> None:
    nodes = services(shipped())
    postgres, web = nodes["postgres"], nodes["langfuse-web"]
    assert postgres["source"] == {"type": "image", "image": "ghcr.io/railwayapp-templates/postgres-ssl:16"}
    assert postgres["volumeAttachments"] == {
        "postgres-data": {
            "volume": "volume.postgres-data",
            "mountPath": "/var/lib/postgresql/data",
            "volumeConfig": {"sizeMB": 20000},
        }
    }
    assert postgres["deploy"] == {
        "restartPolicyType": "ALWAYS",
        "drainingSeconds": 60,
        "limitOverride": {"containers": {"cpu": 2, "memoryBytes": 4_000_000_000}},
    }
    assert (web["deploy"]["healthcheckPath"], web["deploy"]["healthcheckTimeout"]) == ("/api/public/health", 1800)
    assert "$LITELLM_CONFIG" in nodes["litellm"]["deploy"]["startCommand"]
    assert [name for name, node in nodes.items() if "networking" in node] == [], "no database is opened to the public"


def test_buckets_of_railway_s_are_in_the_graph_where_they_are_the_store() -> None:
    resources = graph(shipped(store="bucket"), bucket_region="ams").to_graph()["resources"]
    buckets = {one["name"]: one["config"] for one in resources if one["type"] == "bucket"}
    assert buckets == {"langfuse": {"region": "ams"}, "backups": {"region": "ams"}}


def services(stack: Stack) -> dict[str, dict[str, Any]]:
    """Return the nodes of a graph's services, by name."""
    return {one["name"]: one for one in graph(stack).to_graph()["resources"] if one["type"] == "service"}
