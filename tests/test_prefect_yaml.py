"""prefect.yaml against Prefect's own models: Prefect ignores keys that it does not know, in silence."""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.cli.deploy._models import (
    ConcurrencyLimitSpec,
    DeploymentConfig,
    PrefectYamlModel,
    RawScheduleConfig,
    WorkPoolConfig,
)
from prefect.client.schemas.schedules import construct_schedule
from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
DEPLOYMENTS: list[dict[str, Any]] = DOCUMENT["deployments"]
MINE = {"definitions"}
"""Not Prefect's: where the anchors are kept."""
SCHEDULED = {
    "backup/nightly",
    "copy/nightly",
    "drill/nightly",
    "health/sweep",
    "images/daily",
    "prune/daily",
    "smoke/post-deploy",
    "verify/daily",
}
BY_HAND = {
    "alert/flow-run",
    "background-migration/runbook",
    "backup/on-demand",
    "certificate/runbook",
    "clickhouse-disk/runbook",
    "clickhouse-parts/runbook",
    "compromised-image/runbook",
    "copy/on-demand",
    "deploy/on-demand",
    "diagnostics/runbook",
    "dirty-migration/runbook",
    "drill/on-demand",
    "failed-prisma-migration/runbook",
    "failed-drill/runbook",
    "free-connections/runbook",
    "key-mismatch/runbook",
    "langfuse-callback/runbook",
    "maintenance/on-demand",
    "models/apply",
    "postmortem/runbook",
    "rebuild-stack/runbook",
    "recover-outage/runbook",
    "rehearse/litellm",
    "retry-failed-jobs/runbook",
    "drain-queue/runbook",
    "retention/runbook",
    "replay-events/runbook",
    "split-shared-database/runbook",
    "redis-memory/runbook",
    "redis-policy/runbook",
    "restart-service/runbook",
    "restore-database/runbook",
    "restore/on-demand",
    "rotate-secret/runbook",
    "restore-bucket/on-demand",
    "restore-table/on-demand",
    "runbook/dispatch",
    "scale-service/runbook",
    "stale-backup/runbook",
    "table-owner/runbook",
    "templates/prepare",
    "unauthenticated-gateway/runbook",
    "upgrade/clickhouse",
    "upgrade/langfuse",
    "upgrade/litellm",
    "upgrade/minio",
    "unwedge-worker/runbook",
    "upgrade/postgres",
    "upgrade/postgres-minor",
    "upgrade/prefect",
    "upgrade/redis",
}


def keys_of(model: type[BaseModel]) -> set[str]:
    """The keys that a model of Prefect knows, as they are written in the file."""
    return {field.alias or name for name, field in model.model_fields.items()}


def unknown_keys(document: dict[str, Any]) -> list[str]:
    """Name every key, on every level, that Prefect would ignore; empty when there is none."""
    found: list[str] = []

    def look(where: str, value: Any, known: set[str]) -> None:
        if isinstance(value, dict):
            found.extend(f"{where}{key}" for key in value if key not in known)

    look("", document, keys_of(PrefectYamlModel) | MINE)
    _look_at_steps("pull", document.get("pull"), found)
    for number, deployment in enumerate(document.get("deployments", [])):
        where = f"deployments.{number}."
        look(where, deployment, keys_of(DeploymentConfig))
        look(f"{where}work_pool.", deployment.get("work_pool"), keys_of(WorkPoolConfig))
        look(f"{where}concurrency_limit.", deployment.get("concurrency_limit"), keys_of(ConcurrencyLimitSpec))
        for schedule in deployment.get("schedules", []):
            look(f"{where}schedules.", schedule, keys_of(RawScheduleConfig))
        for section in ("build", "push", "pull"):
            _look_at_steps(f"{where}{section}", deployment.get(section), found)
        parameters = deployment.get("parameters", {})
        signature = inspect.signature(_flow(deployment).fn)
        look(f"{where}parameters.", parameters, set(signature.parameters))
        for name, value in parameters.items():
            hints = typing.get_type_hints(_flow(deployment).fn)
            if inspect.isclass(hints.get(name)) and issubclass(hints[name], BaseModel):
                look(f"{where}parameters.{name}.", value, keys_of(hints[name]))
    return found


def _look_at_steps(where: str, steps: list[dict[str, Any]] | None, found: list[str]) -> None:
    for step in steps or []:
        for name, inputs in step.items():
            module, _, function = name.rpartition(".")
            known = set(inspect.signature(getattr(importlib.import_module(module), function)).parameters)
            found.extend(f"{where}.{name}.{key}" for key in inputs if key not in known | {"id", "requires"})


def _flow(deployment: dict[str, Any]) -> Any:
    path, _, function = deployment["entrypoint"].partition(":")
    return getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)


def name_of(deployment: dict[str, Any]) -> str:
    """`flow/deployment`, as typed after `prefect deployment run`."""
    return f"{deployment['entrypoint'].partition(':')[2].replace('_', '-')}/{deployment['name']}"


each = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=name_of)


# --- keys ----------------------------------------------------------------------------------------------------------------


def test_prefect_knows_every_key() -> None:
    assert unknown_keys(DOCUMENT) == []


@pytest.mark.parametrize(
    ("misspell", "named"),
    [
        (lambda d: d.update(deployment=d.pop("deployments")), "deployment"),
        (lambda d: d.update(pul=d.pop("pull")), "pul"),
        (lambda d: d["pull"][0]["prefect.deployments.steps.set_working_directory"].update(dir="/"), "pull."),
        (lambda d: d["deployments"][0].update(schedle=[]), "deployments.0.schedle"),
        (lambda d: d["deployments"][1].update(concurency_limit=1), "deployments.1.concurency_limit"),
        (lambda d: d["deployments"][0]["work_pool"].update(queue="x"), "deployments.0.work_pool.queue"),
        (lambda d: d["deployments"][0]["concurrency_limit"].update(colision="x"), "deployments.0.concurrency_limit.colision"),
        (lambda d: d["deployments"][0]["schedules"][0].update(crn="x"), "deployments.0.schedules.crn"),
        (lambda d: d["deployments"][0].update(parameters={"requests": {}}), "deployments.0.parameters.requests"),
        (
            lambda d: d["deployments"][0].update(parameters={"request": {"lable": "x"}}),
            "deployments.0.parameters.request.lable",
        ),
    ],
)
def test_a_misspelt_key_is_found(misspell: Callable[[dict[str, Any]], object], named: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    misspell(document)
    assert any(key.startswith(named) for key in unknown_keys(document))


def test_prefect_reads_the_file() -> None:
    read = PrefectYamlModel.model_validate(DOCUMENT)
    assert len(read.deployments) == len(DEPLOYMENTS)


# --- deployments ---------------------------------------------------------------------------------------------------------


def test_the_deployments_are_those_of_the_design() -> None:
    assert sorted(map(name_of, DEPLOYMENTS)) == sorted(SCHEDULED | BY_HAND)


@each
def test_the_entrypoint_is_a_flow_of_the_same_name(deployment: dict[str, Any]) -> None:
    """`prefect deploy -n backup/nightly` goes by the function's name, everything else by the flow's."""
    path, _, function = deployment["entrypoint"].partition(":")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert function in [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert _flow(deployment).name == function.replace("_", "-")


@each
def test_a_person_is_told_what_it_does(deployment: dict[str, Any]) -> None:
    assert len(deployment["description"]) > 30
    assert deployment["description"].rstrip().endswith(".")
    assert deployment["tags"][0] == name_of(deployment).split("/")[0].split("-")[0]
    assert ("scheduled" in deployment["tags"]) is ("schedules" in deployment)


@each
def test_the_parameters_are_those_of_the_flow(deployment: dict[str, Any]) -> None:
    """Prefect accepts unknown names when it deploys, and every run fails."""
    given = deployment.get("parameters", {})
    assert _flow(deployment).validate_parameters(given) is not None


@each
def test_every_field_of_the_form_is_described(deployment: dict[str, Any]) -> None:
    for hint in typing.get_type_hints(_flow(deployment).fn).values():
        if inspect.isclass(hint) and issubclass(hint, BaseModel) and hint.__name__.endswith("Request"):
            assert all(field.description for field in hint.model_fields.values())


@each
def test_there_is_one_schedule_with_a_name_or_none(deployment: dict[str, Any]) -> None:
    """More than one, or one without a slug, and a change of the file is not a change of the schedules."""
    schedules = deployment.get("schedules")
    if name_of(deployment) in SCHEDULED:
        assert schedules is not None
        assert len(schedules) == 1
        assert schedules[0]["slug"] == deployment["name"]
        assert schedules[0]["timezone"] == "UTC"
        when = {key: schedules[0][key] for key in ("cron", "interval") if key in schedules[0]}
        assert construct_schedule(**when, timezone="UTC")
    else:
        assert schedules is None


@each
def test_runs_queue_up_in_the_one_work_pool(deployment: dict[str, Any]) -> None:
    command = {"job_variables": {"command": "python -m flows.health.process"}} if name_of(deployment) == "health/sweep" else {}
    assert deployment["work_pool"] == {"name": "ops", **command}
    # a sweep that could not start in its minute is of no use; after an outage of the worker a hundred would be late
    strategy = "CANCEL_NEW" if name_of(deployment) == "health/sweep" else "ENQUEUE"
    assert deployment["concurrency_limit"] == {"limit": 1, "collision_strategy": strategy}


@each
def test_every_flow_has_a_deadline(deployment: dict[str, Any]) -> None:
    assert _flow(deployment).timeout_seconds


def test_the_night_has_an_order() -> None:
    """Backup, then the drill of it, then prune, which counts what was proven."""
    crons = {name_of(d): d["schedules"][0]["cron"].split() for d in DEPLOYMENTS if "cron" in str(d.get("schedules"))}
    hours = {name: int(cron[1]) for name, cron in crons.items() if cron[1] != "*"}
    assert hours["backup/nightly"] < hours["drill/nightly"] < hours["prune/daily"]


def test_nothing_beside_a_flow_hides_a_package_that_the_project_imports() -> None:
    """Prefect puts the folder of a flow's script before everything else that Python looks for modules in."""
    folders = {(ROOT / deployment["entrypoint"].partition(":")[0]).parent for deployment in DEPLOYMENTS}
    names = {"blocks", "flows", "railway", "shared", "prefect", "httpx"} | (
        sys.stdlib_module_names - {"pipes"}
    )  # 3.13 has none
    hiding = [str(path.relative_to(ROOT)) for folder in folders for path in folder.iterdir() if path.stem in names]
    assert hiding == []
