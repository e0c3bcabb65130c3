"""What is taken for a deployment of an earlier version, and what never."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from railway.worker.left_over import FILE, left_over

DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))


def shown(**fields: Any) -> dict[str, Any]:
    """A deployment as Prefect's API shows it: one that this project made."""
    one = {"id": "1", "name": "on-demand", "entrypoint": "flows/gone/flow.py:gone", "work_pool_name": "ops"}
    return {**one, "pull_steps": copy.deepcopy(DOCUMENT["pull"]), **fields}


@pytest.mark.parametrize(
    "fields",
    [{}, {"entrypoint": "flows/backup/flow.py:backup", "name": "weekly"}, {"paused": True}],
    ids=["flow", "name", "paused"],
)
def test_what_prefect_yaml_no_longer_names_is_left_over(fields: dict[str, Any]) -> None:
    (found,) = left_over(DOCUMENT, [shown(**fields)])
    function = str(fields.get("entrypoint", "flows/gone/flow.py:gone")).partition(":")[2]
    assert found.name == f"{function}/{fields.get('name', 'on-demand')}"


@pytest.mark.parametrize(
    "fields",
    [
        {"work_pool_name": "drills"},
        {"work_pool_name": None},
        {"pull_steps": None},
        {"pull_steps": [{"prefect.deployments.steps.set_working_directory": {"directory": "/app"}}]},
        {"entrypoint": "reports/weekly.py:report"},
        {"entrypoint": None},
    ],
)
def test_what_somebody_else_deployed_is_never_touched(fields: dict[str, Any]) -> None:
    assert left_over(DOCUMENT, [shown(**fields)]) == []


def test_what_prefect_yaml_names_is_kept() -> None:
    named = [shown(entrypoint=one["entrypoint"], name=one["name"]) for one in DOCUMENT["deployments"]]
    assert left_over(DOCUMENT, named) == []
