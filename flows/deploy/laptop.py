"""A deploy from a terminal: prints the plan, asks, does it, proves it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Protocol

from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from blocks.errors import ApprovalMissing, DeploymentFailed, GuardRefused, SettingsError, StackError
from blocks.railway import (
    PROTECTED,
    RailwayApi,
    RailwayEnvironment,
    certainly,
    create_project,
    find_project,
    from_settings,
)
from blocks.settings import Settings
from flows.deploy.asked import Asked, given_secrets, order_of, with_worker_image
from flows.deploy.converge import Done, Report, converge, preview
from flows.deploy.plan import Order, Plan, make_plan
from flows.deploy.present import Present
from flows.deploy.proof import addresses, targets
from flows.deploy.refuse import reasons
from flows.deploy.rollout import Pace
from flows.smoke import checks
from flows.smoke.results import SmokeResult, failures, verdict

__all__ = ["Laptop", "complain"]

_STYLES = {"+": "green", "~": "yellow", "-": "red", ">": "cyan", "!": "red"}
_WIDTH = 130


class Ask(Protocol):
    """Asks for an approval, or raises ApprovalMissing."""

    def __call__(self, plan: Plan, order: Order, options: argparse.Namespace) -> None: ...


class Laptop:
    """One run.

    Args:
        environment: variables of this program: the token, and what only a person has.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._out = Console(soft_wrap=True)
        self._settings = Settings.load()

    def deploy(self, asked: Asked, options: argparse.Namespace) -> int:
        """Do what the options say; returns the exit status.

        Raises:
            StackError: it was not done, or not to its end.
        """
        asked = with_worker_image(asked, self._settings.worker_image)
        place = self._project(options) if options.new else self._place(options)
        if place is None:
            return self._deploy_to_new(asked, options)
        return self._deploy_to(place, asked, options, self._ask)

    def _deploy_to_new(self, asked: Asked, options: argparse.Namespace) -> int:
        """Show the plan before there is a project; nothing is made without an approval."""
        order = self._order(asked, options.name or options.new)
        if why := reasons(order, Present()):
            raise GuardRefused("deploy: nothing was changed: " + "; ".join(why))
        plan = make_plan(order, Present())
        if options.dry_run:
            self._show(plan, order.stack.name)
            return 0
        self._ask(plan, order, options)
        place = certainly(lambda: self._create(options), lambda: self._project(options))
        self._out.print(
            f"Project {options.new} is made. To go on with it later: --project {place.project_id} "
            f"--environment {place.environment_id} --name {order.stack.name}",
            highlight=False,
        )
        return self._deploy_to(place, asked, options, lambda *_: None)

    def _deploy_to(self, place: RailwayEnvironment, asked: Asked, options: argparse.Namespace, ask: Ask) -> int:
        with place.open(allow=PROTECTED) as api:  # from here the operations layer is a service like any other
            order = self._order(asked, options.name or self._name_there(api, options.new))
            if options.dry_run:
                self._show(preview(api, order), order.stack.name)
                return 0
            pace = Pace(poll=options.poll)
            report = converge(api, order, approve=lambda plan: ask(plan, order, options), told=self._told, pace=pace)
            if not report.plan.actions:
                self._out.print("Nothing to do: everything is as it should be.")
            return self._prove(api, order, report, smoke=not options.no_smoke)

    def _order(self, asked: Asked, name: str) -> Order:
        order = order_of(asked, name)
        return order_of(asked, name, given=given_secrets(order.stack, self._environment))

    def _place(self, options: argparse.Namespace) -> RailwayEnvironment:
        ids = {"railway_project_id": options.project, "railway_environment_id": options.environment}
        place = from_settings(self._settings.model_copy(update={name: value for name, value in ids.items() if value}))
        if place is None:
            raise SettingsError("deploy: no token; set RAILWAY_API_TOKEN (of a workspace) or RAILWAY_TOKEN (of a project)")
        return place

    def _project(self, options: argparse.Namespace) -> RailwayEnvironment | None:
        token, workspace = self._workspace(options)
        return find_project(token, workspace, options.new, api_url=self._settings.railway_api_url)

    def _create(self, options: argparse.Namespace) -> RailwayEnvironment:
        token, workspace = self._workspace(options)
        return create_project(token, workspace, options.new, api_url=self._settings.railway_api_url)

    def _workspace(self, options: argparse.Namespace) -> tuple[SecretStr, str]:
        token = self._settings.railway_api_token
        if token is None or not options.workspace:
            raise SettingsError("deploy: a new project needs --workspace ID and a token of that workspace, RAILWAY_API_TOKEN")
        return token, str(options.workspace)

    def _name_there(self, api: RailwayApi, new: str | None) -> str:
        """The stack's name as its worker has it: another one would look for the backups elsewhere."""
        worker = api.inventory().services.get("prefect-worker")
        there = api.variables(worker.service_id).get("STACK_NAME", "") if worker else ""
        return there or new or self._settings.stack_name

    def _ask(self, plan: Plan, order: Order, options: argparse.Namespace) -> None:
        name = order.stack.name
        self._show(plan, name)
        if options.yes:
            return
        if not sys.stdin.isatty():
            raise ApprovalMissing("deploy: nobody to ask; read the plan with --dry-run, then give --yes; nothing was changed")
        if self._out.input(f"Type the stack's name, {name}, to do this: ").strip() != name:
            raise ApprovalMissing("deploy: not the stack's name; nothing was changed")

    def _show(self, plan: Plan, name: str) -> None:
        self._out.print(f"Plan for {name}: {len(plan.lines())} changes", style="bold", markup=False, highlight=False)
        for line in plan.lines():
            self._out.print(f"  {line}", style=_STYLES.get(line[:1], ""), markup=False, highlight=False)
        for note in plan.notes:
            self._out.print(f"  . {note}", style="dim", markup=False, highlight=False)

    def _told(self, done: Done) -> None:
        self._out.print(f"{done.line}: {done.outcome} ({done.seconds:.0f} s)", markup=False, highlight=False)

    def _prove(self, api: RailwayApi, order: Order, report: Report, *, smoke: bool) -> int:
        urls = addresses(api, order.stack)
        self._summarise(report, urls)
        target = targets(api, urls) if smoke else None
        if target is None:
            why = "LiteLLM has no public address" if smoke else "as asked"
            self._out.print(f"No smoke test: {why}.")
            return 0
        results = checks.run(target)
        self._table("Smoke test", [(one.name, one.word, f"{one.seconds:.1f} s", one.detail) for one in results])
        return self._end(results)

    def _end(self, results: list[SmokeResult]) -> int:
        bad = failures(results)
        style = "red" if bad else "green"
        self._out.print(f"Deployed; {verdict(results)}.", style=style, markup=False, highlight=False)
        return 1 if bad else 0

    def _summarise(self, report: Report, urls: Mapping[str, str]) -> None:
        if report.done:
            self._table("Done", [(one.line, one.outcome, f"{one.seconds:.0f} s") for one in report.done])
        for line in report.setup:
            self._out.print(f"  setup: {line}", markup=False, highlight=False)
        self._table("Addresses", list(urls.items()))
        self._out.print(
            "Passwords and keys are variables of the services, in Railway's dashboard: LITELLM_MASTER_KEY and UI_PASSWORD of "
            "litellm, LANGFUSE_INIT_USER_PASSWORD of langfuse-web, PREFECT_SERVER_API_AUTH_STRING of prefect-server.",
            markup=False,
            highlight=False,
        )

    def _table(self, title: str, rows: list[tuple[str, ...]]) -> None:
        table = Table(title=title, title_justify="left", show_header=False)
        for row in rows:
            table.add_row(*map(Text, row))
        console = self._out if self._out.is_terminal else Console(width=_WIDTH)
        console.print(table)


def complain(error: StackError) -> None:
    """Say what went wrong, with the end of the log where a service did not come up."""
    out = Console(stderr=True, soft_wrap=True, style="red")
    out.print(str(error), markup=False, highlight=False)
    for line in error.log[-20:] if isinstance(error, DeploymentFailed) else ():
        out.print(f"  | {line}", markup=False, highlight=False)
