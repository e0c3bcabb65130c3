"""diagnostics: everything that somebody who helps from outside needs to know, and nothing secret."""

from __future__ import annotations

import asyncio
import platform as machine
import secrets as chance
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import distributions
from typing import Any

from prefect import flow
from pydantic import Field

from blocks.errors import StoreError
from blocks.railway import RailwayEnvironment
from flows.health.published import Published, read_published
from flows.report import Summary, line
from flows.runbook import audit, evidence
from flows.runbook.bundle import Bundle, secrets_of, settings_shown
from flows.runbook.environment import environment_if_any
from flows.runbook.evidence import Evidence
from flows.runbook.frame import RunbookRequest
from flows.stack import Stack, project_version

__all__ = ["DiagnosticsRequest", "Facts", "collect", "diagnostics", "excerpts", "keep"]

KEPT = 10
"""Bundles in the store; older ones are deleted."""
_RUNS, _LOGS, _LINES = 200, 15, 200
"""Runs that are listed; failed ones among them whose logs are taken; lines of each log."""
_TRAIL = timedelta(days=7)
_EXCERPT = 20_000
"""Characters of a part that an artifact shows."""


class DiagnosticsRequest(RunbookRequest):
    """What to collect."""

    service_logs: bool = Field(default=True, description="Also the last lines of each service's log on Railway, scrubbed")


@flow(name="diagnostics", validate_parameters=True, timeout_seconds=1800)
def diagnostics(request: DiagnosticsRequest = DiagnosticsRequest()) -> str:
    """Collect logs, versions and settings into one file that can be attached to an issue.

    Symptom: something is wrong that no runbook answers, or that one could not heal; somebody who helps asks what runs there.

    Diagnosis: this is one. It looks at versions, settings, the sweeps' verdicts and incidents, the newest flow runs and the
    logs of those that failed, the services and their logs on Railway, the backups, and the audit trail of the last week.

    Remedy: none; nothing is changed but that a zip of at most a few MB is put into the store, below `diagnostics/`, where the
    newest ten are kept. What could not be had is named in it.

    When not to: read it before you publish it. Secrets are cut out - of settings it only says whether they are set - but the
    names of your services, hosts, models and databases are in it, and what they wrote into their logs.

    Args:
        request: what to collect.
    Returns: the key of the zip in the store; empty for a dry run.
    Raises:
        StoreError: the zip could not be kept; the beginning of what matters most is in the run's artifact all the same.
    """
    stack = Stack.load()
    now = datetime.now(UTC)
    facts = Facts(stack, environment_if_any(stack.settings), now, service_logs=request.service_logs)
    bundle, gaps = collect(facts)
    data = bundle.packed()
    shown = Summary(f"Diagnostics of {stack.name} at {now:%Y-%m-%d %H:%M} UTC", ("File", "Bytes"))
    for name, text in bundle.parts.items():
        shown.row(name, len(text.encode()))
    for gap in gaps:
        shown.note(f"Missing: {gap}")
    try:
        key = "" if request.dry_run else keep(stack, data, now)
        where = f"`s3://{stack.store.name}/{key}`, {len(data):,} bytes" if key else "nowhere: this was a dry run"
        shown.note(f"Kept in {where}. Read it before you give it to anybody.")
    except StoreError as error:
        shown.note(f"Not kept: {error}")
        shown.notes += excerpts(bundle)
        raise
    finally:
        shown.publish(f"diagnostics-{stack.name}")
    line(f"{len(bundle.parts)} files, {len(data):,} bytes, {len(gaps)} parts missing: {key or 'not kept: a dry run'}")
    return key


@dataclass(frozen=True)
class Facts:
    """Where it is collected.

    Attributes:
        environment: on Railway, None where there is none. now: when.
    """

    stack: Stack
    environment: RailwayEnvironment | None
    now: datetime
    service_logs: bool = True


def collect(facts: Facts) -> tuple[Bundle, list[str]]:
    """Collect everything that can be had. Changes nothing.

    Returns: the bundle; a sentence for each part that is missing.
    """
    stack, had = facts.stack, Evidence()
    blocks = [
        *(stack.store, stack.keys, stack.postgres, stack.postgres_admin, stack.clickhouse, stack.redis, stack.copy),
        *stack.sources,
        facts.environment,
    ]
    bundle = Bundle(secrets_of([*blocks, stack.settings]))

    def part(name: str, what: str, work: Callable[[], Any]) -> Any:
        found = had.of(what, work, None)
        if found is not None:
            bundle.add(name, found)
        return found

    part("versions.json", "versions", lambda: _versions(had))
    part("settings.json", "settings", lambda: settings_shown(stack.settings))
    published: Published | None = had.of("the sweeps' state", lambda: asyncio.run(read_published(stack.name)), None)
    if published is None:
        had.gaps.append("the sweeps' state: no sweep has published any")
    else:
        known = published.model_dump(mode="json", exclude={"history"})
        bundle.add("health.json", known)
    runs = had.all_of("flow runs", lambda: evidence.newest_runs(_RUNS))
    bundle.add("runs.json", [vars(run) for run in runs])
    for run in [run for run in runs if not run.good][:_LOGS]:
        lines = had.all_of(f"log of the run {run.name}", lambda: evidence.logs(run.id, _LINES))  # noqa: B023 - called at once
        bundle.add_text(f"logs/{run.flow}-{run.name}.txt", "".join(f"{one}\n" for one in lines))
    if facts.environment is None:
        had.gaps.append("Railway: there is no token of its API, so nothing is known of deployments and the services' logs")
    else:
        had.of("Railway", lambda: _railway(facts, facts.environment, bundle, had), None)
    begin = facts.now - _TRAIL
    trail = had.all_of("the audit trail", lambda: audit.read(stack.store, begin, facts.now))
    bundle.add("audit.json", [entry.model_dump(mode="json", exclude_defaults=True) for entry in reversed(trail)])
    had.gaps += [f"{name}: there was no room for it" for name in bundle.dropped]
    bundle.parts["README.txt"] = bundle.secrets.scrub(_readme(stack.name, facts.now, had.gaps))  # there is always room for it
    return bundle, had.gaps


def excerpts(bundle: Bundle) -> list[str]:
    """The beginning of what matters most, as Markdown: for a run whose store is the patient."""
    wanted = ("README.txt", "health.json", "versions.json", "settings.json")
    return [f"**{name}**\n\n```\n{bundle.parts[name][:_EXCERPT]}\n```" for name in wanted if name in bundle.parts]


def keep(stack: Stack, data: bytes, now: datetime) -> str:
    """Put a bundle into the store, and delete all but the newest; returns its key.

    Raises:
        StoreError: the store does not take it.
    """
    folder = f"{stack.store.root}diagnostics/"
    key = f"{folder}{now:%Y%m%dT%H%M%SZ}-{chance.token_hex(3)}.zip"
    stack.store.put(key, data)
    old = sorted(item.key for item in stack.store.list(folder))[:-KEPT]
    if old:
        stack.store.remove(old)
    return key


def _versions(had: Evidence) -> dict[str, Any]:
    packages = {one.metadata["Name"]: one.version for one in distributions()}
    return {
        "project": project_version(),
        "python": machine.python_version(),
        "platform": machine.platform(),
        "prefect-server": had.of("version of Prefect's server", evidence.server_version, "unknown"),
        "packages": dict(sorted(packages.items())),
    }


def _railway(facts: Facts, environment: RailwayEnvironment | None, bundle: Bundle, had: Evidence) -> None:
    """The services as they are configured and run, and what they last wrote. Start commands may have passwords: left out."""
    if environment is None:
        return
    with environment.open() as api:
        inventory = api.inventory()
        hidden = {"start_command", "pre_deploy_command"}
        services = [one.model_dump(mode="json", exclude=hidden) for one in inventory.services.values()]
        bundle.add("railway.json", services)
        for name, one in inventory.services.items() if facts.service_logs else ():
            newest = one.latest
            if newest is None:
                continue
            lines = had.all_of(f"log of {name} on Railway", lambda: api.logs(newest.id, _LINES))  # noqa: B023 - called at once
            bundle.add_text(f"railway/{name}.txt", "".join(f"{each.timestamp} {each.message}\n" for each in lines))


def _readme(stack: str, now: datetime, gaps: list[str]) -> str:
    missing = "".join(f"- {gap}\n" for gap in gaps) or "- nothing\n"
    return (
        f"Diagnostics of the stack {stack} at {now:%Y-%m-%d %H:%M:%S} UTC, by stack-operations {project_version()}.\n"
        "Secrets are cut out (***); of secret settings settings.json only says whether they are set.\n"
        f"Read it before you publish it: it names services, hosts and databases.\n\nMissing:\n{missing}"
    )
