"""The catalogue against everything that it names: deployments, flows, aspects, services."""

from __future__ import annotations

import importlib
import inspect
import typing
from pathlib import Path

import pytest
import yaml

from flows.health.dependencies import ORDER
from flows.runbook.catalogue import Entry, entries
from flows.runbook.frame import RunbookRequest

ROOT = Path(__file__).parents[2]
DEPLOYMENTS = {
    f"{one['entrypoint'].partition(':')[2].replace('_', '-')}/{one['name']}": one
    for one in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
}
INCIDENTS = (
    (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## When something is an incident\n")[2].partition("\n## ")[0]
)
RUNBOOKS = sorted({one.name for one in entries()})
CHECKS = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "flows/health/checks").glob("*.py"))


def flow_of(name: str) -> typing.Any:
    path, _, function = DEPLOYMENTS[f"{name}/runbook"]["entrypoint"].partition(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)


@pytest.mark.parametrize("name", RUNBOOKS)
def test_each_runbook_has_a_deployment_and_its_docstring_is_what_a_person_needs(name: str) -> None:
    flow = flow_of(name)
    assert flow.name == name
    for heading in ("Symptom:", "Diagnosis:", "Remedy:", "When not to:"):
        assert f"\n\n    {heading} " in flow.fn.__doc__
    (request,) = [hint for key, hint in typing.get_type_hints(flow.fn).items() if key == "request"]
    assert issubclass(request, RunbookRequest)
    assert inspect.signature(flow.fn).parameters["request"].default == request()


@pytest.mark.parametrize("entry", entries(), ids=lambda one: f"{one.name}-{one.service}")
def test_each_entry_names_a_service_that_is_watched_and_aspects_that_a_check_has(entry: Entry) -> None:
    assert entry.deployment == f"{entry.name}/runbook"
    assert entry.service is None or entry.service in ORDER
    for aspect in entry.aspects:
        written = f'"{aspect[:-1]}' if aspect.endswith("*") else f'"{aspect}"'
        assert written in CHECKS, f"no check has the aspect {aspect}"


def test_every_runbook_among_the_deployments_is_in_the_catalogue() -> None:
    named = {name.partition("/")[0] for name in DEPLOYMENTS if name.endswith("/runbook")}
    assert named == set(RUNBOOKS)


@pytest.mark.parametrize("name", RUNBOOKS)
def test_the_readme_says_what_each_runbook_answers(name: str) -> None:
    (row,) = [line for line in INCIDENTS.splitlines() if line.startswith(f"| `{name}` |")]
    mine = [entry for entry in entries() if entry.name == name]
    if len(mine) == 1 and mine[0].service:
        assert row.startswith(f"| `{name}` | {mine[0].service}: {', '.join(mine[0].aspects)} |")
